"""Guidance trades variety for fidelity (papers G.3, G.4); distances rank otherwise than prompts (G.17)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np

from darkroom.evaluation.drawn import draw_pixels, look_at
from darkroom.evaluation.metric import Measured, mean_of
from darkroom.evaluation.neighbors import neighbor_shares
from darkroom.evaluation.replications.claim import CLAIMS, Claim, Outcome, Verdict, above_zero, apart
from darkroom.evaluation.replications.laboratory import point
from darkroom.evaluation.replications.plot import Panel, curves
from darkroom.evaluation.replications.shipped import captioned, kernel_between, rows, shipped
from darkroom.evaluation.replications.trial import Trial
from darkroom.evaluation.verdict import Verdict as Kept
from darkroom.evaluation.verdict import judge_picture
from darkroom.pictures.labels import labeled_sheet
from darkroom.types import Request

__all__ = ["Point", "run", "verdicts_of"]


@dataclass(frozen=True)
class Size:
    scales: tuple[float, ...]
    prompts: int
    steps: int


SIZES = {
    "tiny": Size((1.0, 3.0, 8.0), 160, 6),
    "small": Size((1.0, 1.5, 3.0, 8.0), 500, 8),
    "full": Size((1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 8.0), 5000, 50),
}
SHOWN = 5


@dataclass(frozen=True, eq=False)
class Point:
    """What was measured at one guidance scale."""

    scale: float
    kept: np.ndarray  # (N,), whether each of the prompts was, the same prompts and seeds at every scale
    distance: Measured  # kernel distance to the true scenes of the same captions
    precision: Measured
    recall: Measured


def run(trial: Trial) -> Outcome:
    """One picture a caption at every guidance scale, the seeds the same."""
    size, seed, model = SIZES[trial.scale], trial.seed, shipped()
    side = model.pipeline.model.system.defaults.height
    scenes = captioned(seed, size.prompts, side)
    truth = rows(look_at(model.judge, np.stack([s.pixels for s in scenes])))
    points, shown = [], []
    for guidance in size.scales:
        requests = [
            Request(s.caption, seed=seed * 1_000_003 + i, steps=size.steps, guidance_scale=guidance)
            for i, s in enumerate(scenes)
        ]
        pixels = draw_pixels(model.pipeline, requests)
        findings = look_at(model.judge, pixels)
        kept = [_all_kept(judge_picture(s.facts, f.things, f.surroundings)) for s, f in zip(scenes, findings)]
        shares = neighbor_shares(rows(findings), truth)
        points.append(
            Point(
                guidance,
                np.array(kept),
                kernel_between(rows(findings), truth),
                mean_of(shares["precision"]),
                mean_of(shares["recall"]),
            )
        )
        shown += list(pixels[:SHOWN])
    picture = labeled_sheet(shown, [""] * SHOWN, [f"s = {p.scale:g}" for p in points], [""])
    return Outcome(
        _table(points),
        verdicts_of(points),
        _plot(points),
        picture,
        f"{size.prompts} pictures a row, {size.steps} steps. {model.notes}",
    )


def _all_kept(verdict: Kept) -> bool:
    return all(getattr(verdict, f.name) is not False for f in fields(verdict))


def _table(points: list[Point]) -> list[list[str]]:
    heading = ["guidance", "prompts kept", "kernel distance × 1000", "precision", "recall"]
    return [heading, *([f"{p.scale:g}", *_numbers(p)] for p in points)]


def _numbers(p: Point) -> list[str]:
    kept = mean_of(p.kept)
    assert kept.interval is not None, "of many"
    low, high = kept.interval
    reach = "" if p.distance.interval is None else f" ± {1000 * (p.distance.interval[1] - p.distance.value):.0f}"
    return [
        f"{kept.value:.0%} ({low:.0%} – {high:.0%})",
        f"{1000 * p.distance.value:.0f}{reach}",
        f"{p.precision.value:.2f}",
        f"{p.recall.value:.2f}",
    ]


def _plot(points: list[Point]) -> str:
    panels: dict[str, Panel] = {"prompts kept": [point(mean_of(p.kept)) for p in points]}
    for name in ("distance", "precision", "recall"):
        measured: list[Measured] = [getattr(p, name) for p in points]
        panels["kernel distance" if name == "distance" else name] = [point(m) for m in measured]
    return curves("guidance scale", [f"{p.scale:g}" for p in points], panels)


def verdicts_of(points: list[Point]) -> list[Verdict]:
    """What points of rising guidance say; an order counts where the interval of the difference tells it."""
    first, last = points[0], points[-1]
    faithful = max(points, key=lambda p: p.kept.mean())
    nearest = min(points, key=lambda p: p.distance.value)
    inside = all(nearest is not p for p in (first, last))
    worse = [apart(p.distance, nearest.distance) for p in (first, last)]
    falls = all(b.recall.value <= a.recall.value for a, b in pairwise(points))
    less_variety = apart(first.recall, last.recall)
    return [
        Verdict(
            "guidance raises the share of prompts that are kept",
            above_zero(faithful.kept.astype(float) - first.kept.astype(float)),
        ),
        Verdict(
            "the distance to true pictures is least at a modest scale, neither without guidance nor at the most",
            (True if all(worse) else None)
            if inside
            else False
            if apart(points[1].distance, nearest.distance)
            else None,
        ),
        Verdict(
            "recall falls from scale to scale: what is kept costs variety",
            less_variety if less_variety is None or falls else False,
        ),
        Verdict(
            "distances do not rank as prompts do (SDXL, appendix F): the scale that keeps most is not the nearest",
            None if faithful is nearest or not apart(faithful.distance, nearest.distance) else True,
        ),
    ]


CLAIMS.add(
    "guidance",
    Claim(
        title="Guidance trades variety for fidelity",
        source="Rombach et al. 2022, tables 2 and 3; Podell et al. 2023, appendix F",
        paper="Text to image, COCO: FID 23.31 without guidance, 12.63 at scale 1.5. ImageNet, LDM-4: at 1, 1.25, 1.5 "
        "FID 10.56, 3.95, 3.60; precision .71, .81, .87; recall .62, .55, .48.",
        protocol="The picture-book model that ships, one picture a caption of unseen scenes of one or two things, the "
        "same seeds at every scale. Prompts kept: the judge finds all that the caption says. Kernel distance (KID), "
        "precision and recall (3 nearest neighbors) in the judge's features, to the very scenes that were described. "
        "Prompts are compared one by one; distances by the interval of their difference.",
        run=run,
    ),
)
