"""Prior preservation (DreamBooth, arXiv:2208.12242): pictures of the class that the model itself draws, beside one's
own, so that the class does not become the subject."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from darkroom.data.dataset import Dataset, Joined
from darkroom.data.folder import Folder, FolderConfig
from darkroom.engine.pipeline import Pipeline
from darkroom.errors import InputError, require
from darkroom.pictures.picture_file import write_picture
from darkroom.systems.build import LatentDiffusion
from darkroom.types import Request, Size
from darkroom.whole_file import made_folder

__all__ = ["PriorConfig", "kept_in", "with_prior"]

TOGETHER = 8  # pictures drawn at a time


@dataclass(frozen=True)
class PriorConfig:
    prompt: str  # the class: "a dog" where one's own captions say "a sks dog"
    count: int = 100  # pictures
    weight: float = 1.0  # of their loss
    folder: Path | None = None  # where they are kept; class_pictures in the run's folder when not given

    def __post_init__(self) -> None:
        require(bool(self.prompt.strip()), "prior.prompt", self.prompt, "what all pictures of the class are")
        require(1 <= self.count <= 100_000, "prior.count", self.count, "1 to 100000")
        require(0 <= self.weight < math.inf, "prior.weight", self.weight, "a number from 0 up")


def kept_in(recipe: Any, folder: Path) -> Any:
    """`recipe` with the pictures of the class in the run's `folder` where it names no other."""
    prior = getattr(recipe, "prior", None)
    if prior is None or prior.folder is not None:
        return recipe
    return replace(recipe, prior=replace(prior, folder=folder / "class_pictures"))


def with_prior(own: Dataset, config: PriorConfig, model: LatentDiffusion, size: Size) -> Joined:
    """`own` and as many pictures of the class, which are drawn first where they are not there. Picture i is of seed i,
    so a run that was stopped goes on drawing where it was."""
    folder = config.folder
    if folder is None:
        raise InputError("prior.folder is missing: where the pictures of the class are kept")
    paths = [folder / f"{i:05d}.png" for i in range(config.count)]
    absent = [(i, path) for i, path in enumerate(paths) if not os.path.isfile(path)]
    if absent:
        made_folder(folder)
        pipeline = Pipeline(model)
        for start in range(0, len(absent), TOGETHER):
            part = absent[start : start + TOGETHER]
            requests = [Request(config.prompt, width=size.width, height=size.height, seed=i) for i, _ in part]
            for (_, path), picture in zip(part, pipeline.generate(requests)):
                write_picture(path, picture.pixels, "")
        model.train()
    drawn = Folder(FolderConfig(folder, caption=config.prompt))
    repeats = max(1, round(len(drawn) / len(own))), max(1, round(len(own) / len(drawn)))
    return Joined([own, drawn], repeats, [1.0, config.weight], ["", "class_pictures/"])
