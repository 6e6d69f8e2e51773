"""Pictures of the picture-book world in which everything is known: right ones, and the same scenes with faults.

What was drawn and looked at is kept on disk, 256 pictures a file, found by the pixels and the networks that saw them: a
command that was interrupted goes on, and a world that is drawn otherwise is looked at anew.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from rich.progress import track

from darkroom.data.picturebook import Facts, Scene, describe, render, sample_scene
from darkroom.evaluation.features import FeatureNetwork, open_features
from darkroom.evaluation.judging import look
from darkroom.evaluation.picture_set import PIECE, keep_rows, kept_rows
from darkroom.evaluation.verdict import judge_picture
from darkroom.models.judge import Judge
from darkroom.pixels import to_tensor

__all__ = ["Eyes", "Pool", "World", "draw_world", "exchanged_colors"]

STREAM = 5_000_003  # of the scenes, apart from those of training, prompts and the judge's test


@dataclass(frozen=True)
class Pool:
    """Pictures to draw sets from: features (P, D), whether the judge finds all that the caption promises, scenes."""

    rows: np.ndarray
    kept: np.ndarray
    scenes: Sequence[Scene]

    def __getitem__(self, places: np.ndarray) -> Pool:
        return Pool(self.rows[places], self.kept[places], [self.scenes[i] for i in places])

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class World:
    """What faults are made of. Faulty pools hold the same scenes as `clean`, place by place."""

    training: Pool
    clean: Pool
    blurred: Mapping[float, Pool]
    exchanged: Pool


@dataclass(frozen=True)
class Eyes:
    """Who looks at pictures, and where what was seen is kept (None: nowhere)."""

    judge: Judge  # says whether the prompt was kept
    network: FeatureNetwork  # gives the features
    cache: Path | None = None
    half: bool = False  # in bfloat16


@dataclass(frozen=True)
class _Captioned:
    scene: Scene
    facts: Facts


def draw_world(eyes: Eyes, count: int, size: int, seed: int, blurs: Sequence[float]) -> World:
    """Pools of `count` scenes, `size` pixels square: a reference, others, and the others with faults."""
    clean = _scenes(seed, 1, count)
    exchanged = [replace(c, scene=exchanged_colors(c.scene)) for c in clean]
    seen = _pools(eyes, clean, size, "right scenes", {blur: _blurred(blur) for blur in (0.0, *blurs)})
    as_it_is = {0.0: _blurred(0.0)}
    return World(
        _pools(eyes, _scenes(seed, 0, count), size, "reference", as_it_is)[0.0],
        seen[0.0],
        {blur: seen[blur] for blur in blurs},
        _pools(eyes, exchanged, size, "exchanged colors", as_it_is)[0.0],
    )


def exchanged_colors(scene: Scene) -> Scene:
    """The first two things of different kinds exchange their colors; scenes without such stay as they are."""
    things = list(scene.things)
    for i, a in enumerate(things):
        for j in range(i + 1, len(things)):
            b = things[j]
            if a.kind != b.kind and a.colour != b.colour:
                things[i], things[j] = replace(a, colour=b.colour), replace(b, colour=a.colour)
                return replace(scene, things=tuple(things))
    return scene


def _scenes(seed: int, stream: int, count: int) -> list[_Captioned]:
    drawn = []
    for i in range(count):
        rng = np.random.default_rng((seed, STREAM, stream, i))
        scene = sample_scene(rng, split="any")
        drawn.append(_Captioned(scene, describe(scene, rng)[1]))
    return drawn


def _pools(
    eyes: Eyes,
    drawn: Sequence[_Captioned],
    size: int,
    what: str,
    changes: Mapping[float, Callable[[np.ndarray], np.ndarray]],
) -> dict[float, Pool]:
    """The pictures under each of `changes`, which are functions of the pixels (H, W, 3)."""
    found: dict[float, list[np.ndarray]] = {key: [] for key in changes}
    for start in track(range(0, len(drawn), PIECE), what, transient=True):
        part = drawn[start : start + PIECE]
        pixels = np.stack([render(c.scene, size, size) for c in part])
        for key, change in changes.items():
            found[key].append(_seen(eyes, part, np.stack([change(p) for p in pixels])))
    scenes = [c.scene for c in drawn]
    return {key: Pool(*_apart(np.concatenate(pieces)), scenes) for key, pieces in found.items()}


def _apart(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features, and whether prompts were kept, from rows as they lie on disk."""
    return np.ascontiguousarray(rows[:, :-1]), rows[:, -1] > 0


def _seen(eyes: Eyes, part: Sequence[_Captioned], pixels: np.ndarray) -> np.ndarray:
    """(N, D + 1): features, and 1 where the judge finds all that the caption promises; looked up, or found and kept."""
    judge = _judge_identity()
    key = hashlib.sha256(repr((eyes.network.identity, judge, eyes.half, [c.facts for c in part])).encode())
    key.update(pixels.tobytes())
    place = None if eyes.cache is None else eyes.cache / f"{key.hexdigest()[:40]}.npy"
    rows = None if place is None else kept_rows(place, len(part))
    if rows is None:
        images, reads_itself = to_tensor(pixels), eyes.network.identity == judge  # then one look gives both
        with torch.autocast(torch.device(eyes.network.device).type, torch.bfloat16, enabled=eyes.half):
            found = list(look(eyes.judge, images))
            features = np.stack([f.features for f in found]) if reads_itself else eyes.network(images)
        verdicts = [judge_picture(c.facts, f.things, f.surroundings) for c, f in zip(part, found)]
        kept = np.array([v.present and v.colours is not False for v in verdicts], np.float32)
        rows = np.column_stack([features, kept]).astype(np.float32)
        if place is not None:
            keep_rows(place, rows)
    return rows


@functools.cache
def _judge_identity() -> str:
    return open_features("judge").identity


def _blurred(radius: float) -> Callable[[np.ndarray], np.ndarray]:
    """Pixels (H, W, 3) under a Gaussian filter of this radius; as they are for 0."""
    if not radius:
        return lambda pixels: pixels
    return lambda pixels: np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))
