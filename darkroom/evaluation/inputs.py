"""How well a model follows what it reads beside captions: classes, boxes, maps, holes, small pictures.

Everything is known of unseen scenes of the picture-book world, so each input has a measure of its own, and something
that costs nothing to be better than.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from darkroom.conditioning.boxes import Box
from darkroom.data.degradation import DegradationConfig, degrade
from darkroom.data.masks import MaskConfig, draw_mask
from darkroom.data.picturebook import Scene, describe, render, sample_scene
from darkroom.data.picturebook.truth import ground_truth
from darkroom.data.source import KIND_NAMES, boxes_of
from darkroom.engine.pipeline import Pipeline
from darkroom.errors import InputError, require
from darkroom.evaluation.drawn import draw_pixels, look_at
from darkroom.evaluation.judging import overlap
from darkroom.evaluation.metric import Measured, mean_of
from darkroom.evaluation.pairs import psnr
from darkroom.models.judge import Judge
from darkroom.pictures.labels import labeled_sheet
from darkroom.pixels import to_tensor
from darkroom.types import Request, Size

__all__ = ["Followed", "Scenes", "border_filled", "followed", "unseen"]

STREAM = 5_000_011  # of scenes that no training draws
IN_PLACE = 0.5  # intersection over union, from which a thing stands where it was asked for
RING = 5  # pixels around a hole
SHOWN = 6


@dataclass(frozen=True)
class Followed:
    """What a model makes of one input, beside the baseline."""

    input: str
    measure: str
    ours: Measured
    baseline: str
    theirs: Measured
    better: bool | None  # None: not decided by so many pictures
    sheet: np.ndarray  # uint8 (H, W, 3): what was told, what was drawn, the truth


@dataclass(frozen=True)
class Scenes:
    """Unseen scenes, their captions and their pictures uint8 (N, H, W, 3)."""

    scenes: Sequence[Scene]
    captions: Sequence[str]
    pixels: np.ndarray

    def __len__(self) -> int:
        return len(self.scenes)

    @property
    def size(self) -> Size:
        return Size(*self.pixels.shape[1:3])

    @property
    def tensor(self) -> Tensor:
        """(N, 3, H, W) in [−1, 1]."""
        return to_tensor(self.pixels)


def unseen(count: int, size: Size, most: int) -> Scenes:
    """`count` scenes of at most `most` things."""
    scenes, captions = [], []
    for i in range(count):
        rng = np.random.default_rng((0, STREAM, i))
        scenes.append(sample_scene(rng, size.width / size.height, most=most, split="any"))
        captions.append(describe(scenes[-1], rng)[0])
    return Scenes(scenes, captions, np.stack([render(s, size.width, size.height) for s in scenes]))


@dataclass(frozen=True)
class Question:
    """What draws, how, and what judges."""

    pipeline: Pipeline
    base: Pipeline
    judge: Judge
    settings: Request

    def draw(self, requests: Sequence[Request], *, by: Pipeline | None = None) -> np.ndarray:
        return draw_pixels(by or self.pipeline, requests)

    def requests(self, prompts: Sequence[str]) -> list[Request]:
        return [replace(self.settings, prompt=prompt, seed=i) for i, prompt in enumerate(prompts)]


def followed(pipeline: Pipeline, base: Pipeline, judge: Judge, settings: Request, count: int) -> list[Followed]:
    """A row for each input beside the caption that can be measured, on `count` unseen scenes; the same scenes, captions
    and seeds for the model of `base`, which is told the caption alone. `InputError` where the model reads none."""
    require(count >= 2, "the number of scenes", count, "at least 2")
    system = pipeline.model.system
    asked = [e.key for e in system.embedders if e.key in MEASURES]
    if not asked:
        raise InputError(f"{system.name} reads none of the inputs that are measured: {', '.join(MEASURES)}")
    size = Size(system.defaults.height, system.defaults.width)
    question = Question(pipeline, base, judge, settings)
    return [MEASURES[key](question, unseen(count, size, 1 if key == "class" else 2)) for key in asked]


def _by_class(question: Question, world: Scenes) -> Followed:
    """The judge finds a thing of the kind. Nothing but the kind is told."""
    kinds = [s.things[-1].kind for s in world.scenes]
    requests = question.requests([""] * len(kinds))
    told = [replace(r, inputs={**r.inputs, "class": KIND_NAMES.index(k)}) for r, k in zip(requests, kinds)]
    ours, theirs = question.draw(told), question.draw(requests, by=question.base)

    def right(pixels: np.ndarray) -> np.ndarray:
        seen = look_at(question.judge, pixels)
        return np.array([any(d.kind == kind for d in f.things) for f, kind in zip(seen, kinds)])

    said = [_written(kind, world.size) for kind in kinds]
    chance = f"the base told nothing; by chance {1 / len(KIND_NAMES):.1%}"
    return _compared(
        ("class", "pictures that show the kind"), right(ours), (chance, right(theirs)), (said, ours, world.pixels)
    )


def _by_boxes(question: Question, world: Scenes) -> Followed:
    requests = question.requests(world.captions)
    told = [
        replace(r, inputs={**r.inputs, "boxes": [Box(*box) for box in boxes_of(s)]})
        for r, s in zip(requests, world.scenes)
    ]
    said = [_outlined(scene, world.size) for scene in world.scenes]
    return _placed("boxes", question, world, told, requests, said)


def _by_map(question: Question, world: Scenes) -> Followed:
    requests = question.requests(world.captions)
    maps = [ground_truth(s, world.size.width, world.size.height).semantic for s in world.scenes]
    told = [replace(r, inputs={**r.inputs, "segmentation": m}) for r, m in zip(requests, maps)]
    said = [np.repeat((m * 7919 % 256).astype(np.uint8)[..., None], 3, axis=2) for m in maps]
    return _placed("segmentation", question, world, told, requests, said)


def _placed(
    name: str,
    question: Question,
    world: Scenes,
    told: Sequence[Request],
    untold: Sequence[Request],
    said: Sequence[np.ndarray],
) -> Followed:
    """How many of all things stand where they should, beside the base with the caption alone."""
    ours, theirs = question.draw(told), question.draw(untold, by=question.base)

    def in_place(pixels: np.ndarray) -> np.ndarray:
        found = look_at(question.judge, pixels)
        side = world.size
        return np.array(
            [
                any(
                    d.kind == KIND_NAMES[label]
                    and overlap(d.box, (y0 * side.height, x0 * side.width, y1 * side.height, x1 * side.width))
                    >= IN_PLACE
                    for d in seen.things
                )
                for seen, scene in zip(found, world.scenes)
                for label, x0, y0, x1, y1, _ in boxes_of(scene)
            ]
        )

    measure = f"things of their kind at least {IN_PLACE:.0%} in their place"
    return _compared(
        (name, measure), in_place(ours), ("the base told the caption", in_place(theirs)), (said, ours, world.pixels)
    )


def _by_hole(question: Question, world: Scenes) -> Followed:
    """PSNR within the hole."""
    config = MaskConfig()
    masks = [draw_mask(world.size, config, np.random.default_rng((1, STREAM, i))) for i in range(len(world))]
    requests = [
        replace(r, image=pixels, mask=mask)
        for r, pixels, mask in zip(question.requests(world.captions), world.pixels, masks)
    ]
    ours, truth = question.draw(requests), world.tensor
    hole = torch.from_numpy(np.stack(masks)).float()[:, None]
    flat = border_filled(truth, hole)

    def within(pictures: Tensor) -> np.ndarray:
        error = ((pictures - truth).square() * hole).sum(dim=(1, 2, 3)) / (3 * hole.sum(dim=(1, 2, 3)))
        return (-10 * (error.double() / 4).clamp(min=1e-10).log10()).numpy()

    said = [np.where(m[..., None] > 0, 128, p).astype(np.uint8) for p, m in zip(world.pixels, masks)]
    return _compared(
        ("masked_image", "PSNR within the hole, dB"),
        within(to_tensor(ours)),
        ("the mean color of the hole's border", within(flat)),
        (said, ours, world.pixels),
    )


def border_filled(pictures: Tensor, hole: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) whose hole (B, 1, H, W) has the mean color of the pixels at most 5 away from it; of all
    known pixels where there are none so near, grey where nothing is known."""
    near = F.max_pool2d(hole, 2 * RING + 1, 1, RING) - hole
    known = torch.where(near.flatten(1).any(dim=1)[:, None, None, None], near, 1 - hole)
    color = (pictures * known).sum(dim=(2, 3), keepdim=True) / known.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    return torch.where(hole.bool(), color, pictures)


def _by_small_picture(question: Question, world: Scenes) -> Followed:
    factor = question.pipeline.model.system.autoencoder.factor
    config, rng = DegradationConfig(), np.random.default_rng((2, STREAM))
    small = [degrade(pixels, factor, config, rng) for pixels in world.pixels]
    ours = question.draw([replace(r, image=s) for r, s in zip(question.requests(world.captions), small)])
    large = (world.size.width, world.size.height)
    bicubic = np.stack([np.asarray(Image.fromarray(s).resize(large, Image.Resampling.BICUBIC)) for s in small])
    said = [np.asarray(Image.fromarray(s).resize(large, Image.Resampling.NEAREST)) for s in small]
    return _compared(
        ("low_resolution", "PSNR, dB"),
        psnr(to_tensor(ours), world.tensor).numpy(),
        (f"enlarged {factor} times, bicubic", psnr(to_tensor(bicubic), world.tensor).numpy()),
        (said, ours, world.pixels),
    )


MEASURES: dict[str, Callable[[Question, Scenes], Followed]] = {
    "class": _by_class,
    "boxes": _by_boxes,
    "segmentation": _by_map,
    "masked_image": _by_hole,
    "low_resolution": _by_small_picture,
}


def _compared(
    what: tuple[str, str],
    ours: np.ndarray,
    baseline: tuple[str, np.ndarray],
    shown: tuple[Sequence[np.ndarray], np.ndarray, np.ndarray],
) -> Followed:
    """Both measured on the same pictures (or things), so the difference is decided pair by pair."""
    named, theirs = baseline
    difference = mean_of(ours.astype(float) - theirs.astype(float)).interval
    decided = difference is not None and (difference[0] > 0 or difference[1] < 0)
    better = bool(ours.mean() > theirs.mean()) if decided else None
    pictures = [p for row in zip(*(s[:SHOWN] for s in shown)) for p in row]
    sheet = labeled_sheet(pictures, ["told", "drawn", "truth"], [""] * min(SHOWN, len(shown[1])), [""])
    return Followed(*what, mean_of(ours), named, mean_of(theirs), better, sheet)


def _written(text: str, size: Size) -> np.ndarray:
    """A picture of a word."""
    image = Image.new("RGB", (size.width, size.height), "white")
    ImageDraw.Draw(image).text((size.width / 2, size.height / 2), text, "black", anchor="mm")
    return np.asarray(image)


def _outlined(scene: Scene, size: Size) -> np.ndarray:
    """The boxes of `scene` with their kinds."""
    image = Image.new("RGB", (size.width, size.height), "white")
    draw = ImageDraw.Draw(image)
    for label, x0, y0, x1, y1, _ in boxes_of(scene):
        corners = (x0 * size.width, y0 * size.height, x1 * size.width - 1, y1 * size.height - 1)
        draw.rectangle(corners, outline="black")
        draw.text((corners[0] + 2, corners[1] + 1), KIND_NAMES[label], "black")
    return np.asarray(image)
