"""What claims have in common that are tried on the model that ships: the model, the judge, true scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from darkroom.checkpoints.model import load_model
from darkroom.data.picturebook import Facts, Scene, render, sample_scene
from darkroom.data.picturebook.caption import describe
from darkroom.engine.pipeline import Pipeline
from darkroom.evaluation.judging import Findings, load_judge
from darkroom.evaluation.kernel import Kernel
from darkroom.evaluation.metric import Measured
from darkroom.models.judge import Judge

__all__ = ["Captioned", "Shipped", "captioned", "kernel_between", "rows", "shipped"]

STREAM = 8_000_009  # of scenes that nobody trained on


@dataclass(frozen=True)
class Captioned:
    """A true scene as pixels uint8 (H, W, 3), and what a caption says of it."""

    scene: Scene
    pixels: np.ndarray
    caption: str
    facts: Facts


@dataclass(frozen=True)
class Shipped:
    pipeline: Pipeline
    judge: Judge
    notes: str


@cache
def shipped() -> Shipped:
    """The model that ships, drawing on the processor, and the judge that looks at what it draws."""
    model = load_model("picturebook", "cpu")
    return Shipped(Pipeline(model.model), load_judge(), f"Model {model.name} {model.hash}, the judge that ships.")


def captioned(seed: int, count: int, side: int, most: int = 2) -> list[Captioned]:
    """`count` scenes of up to `most` things, `side` pixels square."""
    found = []
    for i in range(count):
        rng = np.random.default_rng((seed, STREAM, i))
        scene = sample_scene(rng, most=most, split="train")
        found.append(Captioned(scene, render(scene, side, side), *describe(scene, rng)))
    return found


def rows(findings: Sequence[Findings]) -> np.ndarray:
    """Their features (N, D)."""
    return np.stack([f.features for f in findings])


def kernel_between(ours: np.ndarray, theirs: np.ndarray) -> Measured:
    """The kernel distance (KID) of two sets of features, without bias however few they are."""
    a, b = Kernel(), Kernel()
    a.update(ours)
    b.update(theirs)
    return a.result(b)["kernel"]
