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
KIND_NAMES = tuple(KINDS)  # classes of pictures and of boxes
# What a place may hold: kinds, and parts with a colour of their own. A snowman's hat is a hat.
MAP_NAMES = tuple(dict.fromkeys([*KINDS, *(part for kind in KINDS.values() for part in kind.parts)]))

__all__ = ["COLOUR_NAMES", "KIND_NAMES", "MAP_NAMES", "MapName", "PictureBook", "PictureBookConfig", "boxes_of"]

MapName = Literal["segmentation", "depth", "mask"]


@dataclass(frozen=True)
class PictureBookConfig:
    """Scenes of the picture-book world; scene number i is drawn from (seed, i)."""

    size: int
    count: int  # scenes in an epoch
    seed: int = 0
    split: Split = "train"
    most_things: int = 4  # in a scene
    chances: Chances = USUAL  # of the captions
    maps: tuple[MapName, ...] = ()  # given with each scene, at 3 ms of one core; "mask": of one thing, drawn by lot
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
        """With a caption, the class (the kind of the nearest thing), the boxes of all things and the maps that the
        configuration names."""
        scene, size = self.scene(index), self.size(index)
        caption, _ = describe(scene, rng, self.config.chances)
        conditions = {"caption": caption, "class": KIND_NAMES.index(scene.things[-1].kind), "boxes": boxes_of(scene)}
        if self.config.maps:
            conditions |= self._maps(scene, rng)
        image = render(scene, size.width, size.height) if pixels else None
        return Sample(image, conditions, original_size=size, target_size=size)

    def _maps(self, scene: Scene, rng: np.random.Generator) -> dict[str, np.ndarray]:
        truth = ground_truth(scene, self.config.size, self.config.size)
        given: dict[str, np.ndarray] = {}
        if "segmentation" in self.config.maps:
            given["segmentation"] = truth.semantic
        if "depth" in self.config.maps:
            given["depth"] = truth.depth
        if "mask" in self.config.maps:
            given["mask"] = truth.object_mask(int(rng.integers(len(scene.things)))).astype(np.uint8)
        return given


def boxes_of(scene: Scene) -> tuple[tuple[int, float, float, float, float, bool], ...]:
    """The things of `scene`, the farthest first: number of the kind in `KIND_NAMES`, x0, y0, x1, y1, and no group."""
    found = []
    for thing in scene.things:
        box = thing.box
        x0, y0, x1, y1 = (min(max(v, 0.0), 1.0) for v in (box.left, box.top, box.right, box.bottom))
        found.append((KIND_NAMES.index(thing.kind), x0, y0, x1, y1, False))
    return tuple(found)


def _name(name: str) -> int:
    return 1 + MAP_NAMES.index(name)


def _colour(colour: str) -> int:
    return 1 + COLOUR_NAMES.index(colour)
