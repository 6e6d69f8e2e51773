"""Loading the judge, running it over pictures, and its own accuracy on held-out renders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from darkroom.checkpoints.native import load_strict, read_network
from darkroom.data.picturebook import KINDS, Scene, Thing, render, sample_scene
from darkroom.data.picturebook.relations import relations
from darkroom.evaluation.verdict import holds
from darkroom.models.judge import Detection, Judge, JudgeConfig
from darkroom.pixels import to_tensor

__all__ = ["Accuracy", "Findings", "judge_accuracy", "load_judge", "look", "overlap"]

# Scenes that grade the judge, from a stream that neither training nor prompts draw from.
STREAM = 2_000_003
BATCH = 64  # pictures that the judge reads at once


@dataclass(frozen=True)
class Findings:
    """What the judge sees in one picture."""

    things: list[Detection]
    surroundings: dict[str, str]
    features: np.ndarray  # (D,)


@dataclass(frozen=True)
class Accuracy:
    """Shares over held-out renders. Kinds: things found with their kind; colours and parts: of the things found."""

    kinds: float
    colours: float
    parts: float
    counts: float  # pictures with exactly the right number of each kind
    relations: float  # of the true relations between things found
    surroundings: float
    things: int  # how many were looked for


def load_judge(path: Path | None = None) -> Judge:
    """The judge that ships, or the one in the file at `path`."""
    shipped = Path(str(files("darkroom"))) / "weights" / "judge" / "judge.safetensors"
    config, state = read_network(path or shipped, JudgeConfig)
    judge = Judge(config)
    load_strict(judge, state, path or shipped)
    return judge.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@torch.no_grad()
def look(judge: Judge, images: Tensor) -> Iterator[Findings]:
    """The findings for each of `images` (N, 3, H, W) in [−1, 1]."""
    for part in images.split(BATCH):
        part = part.contiguous(memory_format=torch.channels_last)
        output = judge(part)
        for things, surroundings, row in zip(judge.detect(output), judge.describe(output), output.features.numpy()):
            yield Findings(things, surroundings, row)


def overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Intersection over union of two boxes (top, left, bottom, right)."""
    height, width = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, height) * max(0.0, width)
    union = sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)) - shared
    return shared / union if union > 0 else 0.0


def judge_accuracy(
    judge: Judge, count: int, size: int = 128, seed: int = 0, *, through: Callable[[Tensor], Tensor] | None = None
) -> Accuracy:
    """How well `judge` reads `count` renders that it was not trained on, or what `through` makes of them."""
    total = found = colours = parts = all_parts = counts = related = all_related = around = 0
    for scene, findings in track(_readings(judge, count, size, seed, through), "reading", total=count, transient=True):
        pairs = _match(scene, findings.things, size)
        total += len(scene.things)
        found += len(pairs)
        counts += len(pairs) == len(scene.things) == len(findings.things)
        for thing, detection in pairs:
            colours += thing.colour == detection.colour
            for slot, part in enumerate(KINDS[thing.kind].parts):
                all_parts += 1
                parts += thing.parts[part] == detection.parts[slot]
        for i, (a, x) in enumerate(pairs):
            for b, y in pairs[i + 1 :]:
                for relation in relations(a, b):
                    all_related += 1
                    related += holds(relation, x, y)
        around += all(getattr(scene, k) == v for k, v in findings.surroundings.items())
    return Accuracy(
        kinds=found / total,
        colours=colours / max(1, found),
        parts=parts / max(1, all_parts),
        counts=counts / count,
        relations=related / max(1, all_related),
        surroundings=around / count,
        things=total,
    )


def _readings(
    judge: Judge, count: int, size: int, seed: int, through: Callable[[Tensor], Tensor] | None
) -> Iterator[tuple[Scene, Findings]]:
    """Scenes with what the judge sees in them, few pictures at a time."""
    for start in range(0, count, BATCH):
        numbers = range(start, min(start + BATCH, count))
        scenes = [sample_scene(np.random.default_rng((seed, STREAM, i)), split="any") for i in numbers]
        images = to_tensor(np.stack([render(s, size, size) for s in scenes]))
        yield from zip(scenes, look(judge, images if through is None else through(images)))


def _match(scene: Scene, detections: list[Detection], size: int) -> list[tuple[Thing, Detection]]:
    """Things with the detection of their kind whose centre lies nearest, within a quarter of the thing's size."""
    left = list(detections)
    pairs = []
    for thing in scene.things:
        y, x = (v * size for v in thing.box.centre)
        reach = 0.25 * size * max(thing.box.bottom - thing.box.top, thing.box.right - thing.box.left) + 4
        near = [d for d in left if d.kind == thing.kind and abs(d.centre[0] - y) + abs(d.centre[1] - x) < 2 * reach]
        if near:
            best = min(near, key=lambda d: abs(d.centre[0] - y) + abs(d.centre[1] - x))
            left.remove(best)
            pairs.append((thing, best))
    return pairs
