"""Sources of training pictures: so many samples, each found by its number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from darkroom.data.picturebook.caption import USUAL, Chances, Facts, describe
from darkroom.data.picturebook.colours import COLOURS
from darkroom.data.picturebook.relations import part_silhouette
from darkroom.data.picturebook.render import render
from darkroom.data.picturebook.scene import Scene, Split, sample_scene
from darkroom.data.picturebook.things import KINDS
from darkroom.data.picturebook.truth import ground_truth
from darkroom.errors import require
from darkroom.types import Sample, Size

COLOUR_NAMES = tuple(COLOURS)
# What a place may hold: kinds, and parts with a colour of their own. A snowman's hat is a hat.
MAP_NAMES = tuple(dict.fromkeys([*KINDS, *(part for kind in KINDS.values() for part in kind.parts)]))

__all__ = ["COLOUR_NAMES", "MAP_NAMES", "PictureBook", "PictureBookConfig"]


@dataclass(frozen=True)
class PictureBookConfig:
    """Scenes of the picture-book world; scene number i is drawn from (seed, i)."""

    size: int
    count: int  # scenes in an epoch
    seed: int = 0
    split: Split = "train"
    most_things: int = 4  # in a scene
    chances: Chances = USUAL  # of the captions
    kind: Literal["picturebook"] = "picturebook"

    def __post_init__(self) -> None:
        require(8 <= self.size <= 8192, "size", self.size, "8 to 8192")
        # Numbers beyond belong to prompts and to the judge's test.
        require(1 <= self.count <= 1_000_000, "count", self.count, "1 to 1000000")
        require(self.seed >= 0, "seed", self.seed, "0 or more")
        require(1 <= self.most_things <= 4, "most_things", self.most_things, "1 to 4")


class PictureBook:
    def __init__(self, config: PictureBookConfig) -> None:
        self.config = config
        self._size = Size(config.size, config.size)

    def __len__(self) -> int:
        return self.config.count

    @property
    def scenes(self) -> str:
        """What the scenes depend on; sources that agree in it differ in captions alone."""
        c = self.config
        return f"{c.kind} {c.size} {c.count} {c.seed} {c.split} {c.most_things}"

    def scene(self, index: int) -> Scene:
        rng = np.random.default_rng((self.config.seed, index))
        return sample_scene(rng, most=self.config.most_things, split=self.config.split)

    def image(self, index: int) -> np.ndarray:
        """uint8 (size, size, 3)."""
        return render(self.scene(index), self.config.size, self.config.size)

    def caption(self, index: int, epoch: int = 0) -> tuple[str, Facts]:
        """Another wording each epoch."""
        rng = np.random.default_rng((self.config.seed, index, 1 + epoch))
        return describe(self.scene(index), rng, self.config.chances)

    def things_map(self, index: int, side: int) -> np.ndarray:
        """uint8 (2, side, side): what is at each place, 1 + its number in `MAP_NAMES`, and 1 + its colour; 0: none."""
        scene = self.scene(index)
        found = np.zeros((2, side, side), np.uint8)
        instances = ground_truth(scene, side, side).instances
        for i, thing in enumerate(scene.things):
            own = instances == i + 1
            found[:, own] = np.array([_name(thing.kind), _colour(thing.colour)])[:, None]
            for part, colour in thing.parts.items():
                there = own & part_silhouette(thing, part, side, side)
                found[:, there] = np.array([_name(part), _colour(colour)])[:, None]
        return found

    def name(self, index: int) -> str:
        return f"scene {index}"

    def size(self, index: int) -> Size:
        return self._size

    def key(self, index: int) -> str:
        return f"{self.scenes} {index}"

    def sample(self, index: int, rng: np.random.Generator, *, pixels: bool = True) -> Sample:
        caption, _ = describe(self.scene(index), rng, self.config.chances)
        size = self.size(index)
        image = self.image(index) if pixels else None
        return Sample(image, {"caption": caption}, original_size=size, target_size=size)


def _name(name: str) -> int:
    return 1 + MAP_NAMES.index(name)


def _colour(colour: str) -> int:
    return 1 + COLOUR_NAMES.index(colour)
