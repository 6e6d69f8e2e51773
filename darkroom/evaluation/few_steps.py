"""What few steps cost: a teacher at many numbers of steps beside its students at few, on one list of prompts."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import BinaryIO

import numpy as np
from rich.console import Console
from rich.table import Table

from darkroom.data.picturebook import render, sample_scene
from darkroom.data.picturebook.prompts import Prompt
from darkroom.engine.pipeline import Pipeline
from darkroom.errors import InputError
from darkroom.evaluation.drawn import draw_pixels, look_at
from darkroom.evaluation.frechet import Frechet
from darkroom.evaluation.metric import Measured
from darkroom.evaluation.picturebook import STREAM
from darkroom.evaluation.share import Share
from darkroom.evaluation.verdict import Verdict, judge_picture
from darkroom.models.judge import Judge
from darkroom.types import Request

__all__ = ["FewStepsRow", "few_steps_row", "print_rows", "write_rows"]


@dataclass(frozen=True)
class FewStepsRow:
    """A model at a number of steps. Intervals are of 95 %."""

    model: str
    steps: int
    right: Share  # pictures that keep all that their prompts say
    frechet: Measured  # to as many renders, in the judge's features
    variety: Measured  # mean distance of pictures of one prompt, over that of pictures of different prompts
    seconds: float  # a picture


def few_steps_row(
    pipeline: Pipeline,
    name: str,
    prompts: Sequence[Prompt],
    judge: Judge,
    settings: Request,
    *,
    varied: int = 32,
    seeds: int = 4,
) -> FewStepsRow:
    """Draw every prompt once (seed = its number) and the first `varied` ones with `seeds` seeds, as `settings` say.

    `InputError` for fewer than two prompts or seeds.
    """
    if len(prompts) < 2 or seeds < 2:
        raise InputError(f"there are {len(prompts)} prompts and {seeds} seeds, expected are at least 2 of each")
    began = time.monotonic()
    pixels = draw_pixels(pipeline, [replace(settings, prompt=p.caption, seed=i) for i, p in enumerate(prompts)])
    seconds = (time.monotonic() - began) / len(prompts)
    findings = look_at(judge, pixels)
    verdicts = [judge_picture(p.facts, f.things, f.surroundings) for p, f in zip(prompts, findings)]
    right = [_all_right(v) for v in verdicts]
    features = np.stack([f.features for f in findings])
    ours, renders = Frechet(), Frechet()
    ours.update(features)
    renders.update(_render_features(judge, len(prompts), pixels.shape[1:3]))
    many = prompts[:varied]
    again = [
        replace(settings, prompt=p.caption, seed=1000 * (k + 1) + i) for i, p in enumerate(many) for k in range(seeds)
    ]
    of_prompts = np.stack([f.features for f in look_at(judge, draw_pixels(pipeline, again))])
    return FewStepsRow(
        name,
        pipeline.model.system.defaults.steps if settings.steps is None else settings.steps,
        Share(sum(right), len(right)),
        ours.result(renders)["frechet"],
        variety(of_prompts.reshape(len(many), seeds, -1), features),
        seconds,
    )


def _all_right(verdict: Verdict) -> bool:
    return all(getattr(verdict, f.name) is not False for f in fields(verdict))


def _render_features(judge: Judge, count: int, size: tuple[int, int]) -> np.ndarray:
    scenes = [sample_scene(np.random.default_rng((0, STREAM, i)), split="any") for i in range(count)]
    pixels = np.stack([render(s, size[1], size[0]) for s in scenes])
    return np.stack([f.features for f in look_at(judge, pixels)])


def variety(of_prompts: np.ndarray, of_all: np.ndarray) -> Measured:
    """`of_prompts` (prompts, seeds, D), `of_all` (pictures, D): mean distance within prompts over that between any.

    The interval is the normal one of the mean over prompts.
    """
    within = np.array([_mean_distance(rows) for rows in of_prompts]) / max(_mean_distance(of_all), 1e-12)
    reach = 1.96 * within.std(ddof=1) / len(within) ** 0.5 if len(within) > 1 else 0.0
    value = float(within.mean())
    return Measured(value, (value - reach, value + reach) if len(within) > 1 else None)


def _mean_distance(rows: np.ndarray) -> float:
    """Of all pairs of rows (n, D)."""
    squares = np.square(rows).sum(axis=1)
    distances = np.sqrt((squares[:, None] + squares - 2 * rows @ rows.T).clip(min=0))
    return float(distances[np.triu_indices(len(rows), 1)].mean())


def print_rows(rows: Sequence[FewStepsRow]) -> None:
    table = Table("model", "steps", "prompts right", "95 %", "Fréchet", "95 %", "variety", "95 %", "s a picture")
    for r in rows:
        table.add_row(
            r.model,
            str(r.steps),
            f"{r.right.value:.1%}",
            " – ".join(f"{v:.1%}" for v in r.right.interval),
            f"{r.frechet.value:.2f}",
            _interval(r.frechet),
            f"{r.variety.value:.2f}",
            _interval(r.variety),
            f"{r.seconds:.2f}",
        )
    Console(width=130).print(table)


def _interval(number: Measured) -> str:
    return "–" if number.interval is None else " – ".join(f"{v:.2f}" for v in number.interval)


def write_rows(file: BinaryIO, rows: Sequence[FewStepsRow]) -> None:
    """As JSON."""
    file.write((json.dumps([asdict(r) for r in rows], indent=1) + "\n").encode())
