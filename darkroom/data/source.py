"""Sources of training pictures: so many samples, each found by its number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from darkroom.data.picturebook.caption import USUAL, Chances, Facts, describe
from darkroom.data.picturebook.colours import COLOURS
from darkroom.data.picturebook.render import render
from darkroom.data.picturebook.scene import Scene, Split, sample_scene
from darkroom.data.picturebook.things import KINDS
from darkroom.data.picturebook.truth import ground_truth
from darkroom.errors import require
from darkroom.types import Sample, Size

KIND_NAMES, COLOUR_NAMES = tuple(KINDS), tuple(COLOURS)

__all__ = ["COLOUR_NAMES", "KIND_NAMES", "PictureBook", "PictureBookConfig"]


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
        """uint8 (2, side, side): 1 + the kind and 1 + the colour of the thing at each place, 0 where none is."""
        scene = self.scene(index)
        instances = ground_truth(scene, side, side).instances
        names = [(0, 0), *((1 + KIND_NAMES.index(t.kind), 1 + COLOUR_NAMES.index(t.colour)) for t in scene.things)]
        return np.array(names, np.uint8)[instances.clip(min=0)].transpose(2, 0, 1)  # a sign, −1, is no thing

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
