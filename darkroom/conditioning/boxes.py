"""Layouts: labelled boxes as tokens, read by a transformer that is trained with the denoiser (papers D.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Generator, Tensor

from darkroom.conditioning.embedder import Embedder, EmbedderConfig
from darkroom.errors import InputError
from darkroom.models.text_transformer import TextTransformer, TextTransformerConfig
from darkroom.types import Request, Size

__all__ = ["Box", "Boxes", "BoxesConfig", "Layout"]

WAVES = 6  # half waves over a side that fresh corners are made of


@dataclass(frozen=True)
class Box:
    """One object. Coordinates are shares of the picture, 0 … 1, from the top left corner."""

    label: int
    x0: float
    y0: float
    x1: float
    y1: float
    group: bool = False
    occluded: bool = False
    depiction: bool = False
    inside: bool = False

    def __post_init__(self) -> None:
        _require_corners("box", self.x0, self.y0, self.x1, self.y1)


def _require_corners(what: str, x0: float, y0: float, x1: float, y1: float) -> None:
    if not (0 <= x0 <= x1 <= 1 and 0 <= y0 <= y1 <= 1):
        raise InputError(f"{what} {(x0, y0, x1, y1)} is wrong: expected are x0 <= x1 and y0 <= y1 between 0 and 1")


@dataclass(frozen=True)
class Layout:
    """The objects of one picture, and the part (x0, y0, x1, y1) of the original that the picture shows."""

    boxes: tuple[Box, ...]
    crop: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        _require_corners("crop", *self.crop)


@dataclass(frozen=True)
class BoxesConfig(EmbedderConfig):
    classes: int
    width: int
    layers: int
    objects: int = 30
    vocabulary: int = 8192
    heads: int = 8
    head_dim: int = 64
    logits: bool = True  # released files carry an output layer that conditioning never uses
    drop_rate: float = 0.0
    names: tuple[str, ...] = ()
    kind: Literal["boxes"] = "boxes"
    key = "boxes"
    reads = ("boxes",)

    @property
    def length(self) -> int:
        """Three tokens for each object, two for the crop."""
        return 3 * self.objects + 2


class Boxes(Embedder):
    """Class, top-left and bottom-right token of each object, then the two corners of the crop.

    Corners are numbered row by row on a square grid of as many points as the vocabulary holds. Absent: no objects.
    """

    slot = "tokens"
    guided = True
    config: BoxesConfig

    def __init__(self, config: BoxesConfig) -> None:
        super().__init__(config)
        c = config
        self.transformer = TextTransformer(
            TextTransformerConfig(c.vocabulary, c.length, c.width, c.layers, c.heads, c.head_dim, c.logits)
        )
        corners = _fresh_corners(math.isqrt(c.vocabulary), c.width)
        with torch.no_grad():  # the first corners are classes, too, which must differ
            self.transformer.token_embedding.weight[c.classes : len(corners)] = corners[c.classes :]

    def tokens(self, layout: Layout) -> list[int]:
        """The `length` tokens of one picture; objects beyond the limit are an error."""
        c = self.config
        if len(layout.boxes) > c.objects:
            raise InputError(f"boxes holds {len(layout.boxes)} objects, accepted are at most {c.objects}")
        tokens: list[int] = []
        for box in layout.boxes:
            if not 0 <= box.label < c.classes:
                raise InputError(f"a box has class {box.label}, expected is 0 to {c.classes - 1}")
            modifier = box.group + 2 * box.occluded + 4 * box.depiction + 8 * box.inside
            tokens += [box.label + c.classes * modifier, self._corner(box.x0, box.y0), self._corner(box.x1, box.y1)]
        tokens += [c.vocabulary - 1] * (3 * c.objects - len(tokens))  # no object
        x0, y0, x1, y1 = layout.crop
        return [*tokens, self._corner(x0, y0), self._corner(x1, y1)]

    def _corner(self, x: float, y: float) -> int:
        side = math.isqrt(self.config.vocabulary)
        return round(y * (side - 1)) * side + round(x * (side - 1))

    def read(self, request: Request, size: Size, generator: Generator) -> Layout | None:
        """Boxes as `Box`es, or as mappings with their fields (as JSON files hold them)."""
        value = request.inputs.get(self.key)
        if value is None or isinstance(value, Layout):
            return value
        if not isinstance(value, (list, tuple)):
            raise InputError(f"boxes is {value!r}, expected is a list of boxes")
        return Layout(tuple(_box(entry) for entry in value))

    def prepare(self, values: Sequence[Layout | Sequence[Box] | None]) -> Tensor:
        layouts = [v if isinstance(v, Layout) else Layout(tuple(v or ())) for v in values]
        return torch.tensor([self.tokens(layout) for layout in layouts])  # (B, length)

    def forward(self, prepared: Tensor) -> Tensor:
        return self.transformer(prepared)  # (B, length, width)


def _fresh_corners(side: int, width: int) -> Tensor:
    """Random vectors (side · side, width) of unit deviation, alike where corners lie near each other, so that each
    learns with its neighbors: there are too many to be seen often."""
    half_waves = math.pi * torch.linspace(0, 1, side)[:, None] * torch.arange(1, WAVES + 1)  # (side, WAVES)
    along = torch.cat([half_waves.sin(), half_waves.cos()], dim=1)
    rows, columns = along[:, None].expand(side, side, -1), along[None].expand(side, side, -1)
    places = torch.cat([rows, columns], dim=2).flatten(0, 1)  # row by row
    found = places @ torch.randn(places.shape[1], width)
    return (found - found.mean()) / found.std()


def _box(entry: Any) -> Box:
    if isinstance(entry, Box):
        return entry
    try:
        if isinstance(entry, Mapping):
            return Box(**entry)
    except TypeError:  # a field too many or too few, or a text for a number
        pass
    raise InputError(f"box {entry!r} is wrong, expected are label, x0, y0, x1, y1")
