"""Pictures drawn to be measured, and what the judge finds in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.progress import track

from darkroom.engine.pipeline import Pipeline, Progress
from darkroom.evaluation.judging import Findings, look
from darkroom.models.judge import Judge
from darkroom.pixels import to_tensor
from darkroom.types import Request

__all__ = ["draw_pixels", "look_at"]


def draw_pixels(pipeline: Pipeline, requests: Sequence[Request]) -> np.ndarray:
    """Pictures uint8 (N, H, W, 3), in order."""
    pictures: dict[int, np.ndarray] = {}
    events = (e for e in pipeline.run(requests, batch_size=16) if not isinstance(e, Progress))
    for index, picture in track(events, "drawing", total=len(requests)):
        pictures[index] = picture.pixels
    return np.stack([pictures[i] for i in range(len(requests))])


def look_at(judge: Judge, pixels: np.ndarray) -> list[Findings]:
    """What the judge finds in pictures uint8 (N, H, W, 3)."""
    return list(track(look(judge, to_tensor(pixels)), "judging", total=len(pixels), transient=True))
