"""Pictures drawn to be measured, and what the judge finds in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from rich.progress import track

from darkroom.engine.run import Progress
from darkroom.evaluation.judging import Findings, look
from darkroom.models.judge import Judge
from darkroom.pixels import to_tensor
from darkroom.types import Request

__all__ = ["Draws", "Pixels", "draw_pixels", "look_at"]


class Pixels(Protocol):
    """A picture as far as it is measured."""

    @property
    def pixels(self) -> np.ndarray:
        """uint8 (H, W, 3)."""
        ...


class Draws(Protocol):
    """What draws requests: a pipeline, or a server in its place."""

    def run(self, requests: Sequence[Request], *, batch_size: int = 8) -> Iterator[Progress | tuple[int, Pixels]]:
        """Steps, and pictures with the numbers of their requests, as they come."""
        ...


def draw_pixels(pipeline: Draws, requests: Sequence[Request]) -> np.ndarray:
    """Pictures uint8 (N, H, W, 3), in order."""
    pictures: dict[int, np.ndarray] = {}
    events = (e for e in pipeline.run(requests, batch_size=16) if not isinstance(e, Progress))
    for index, picture in track(events, "drawing", total=len(requests)):
        pictures[index] = picture.pixels
    return np.stack([pictures[i] for i in range(len(requests))])


def look_at(judge: Judge, pixels: np.ndarray) -> list[Findings]:
    """What the judge finds in pictures uint8 (N, H, W, 3)."""
    return list(track(look(judge, to_tensor(pixels)), "judging", total=len(pixels), transient=True))
