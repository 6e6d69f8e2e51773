"""The picture-book benchmark: how many pictures keep what their prompts promise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import BinaryIO

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from darkroom.data.picturebook import render, sample_scene
from darkroom.data.picturebook.prompts import Prompt
from darkroom.errors import InputError
from darkroom.evaluation.drawn import Draws, draw_pixels, look_at
from darkroom.evaluation.frechet import frechet_distance
from darkroom.evaluation.judging import Findings
from darkroom.evaluation.moments import Moments
from darkroom.evaluation.open_facts import Agreement, open_agreements
from darkroom.evaluation.share import Share
from darkroom.evaluation.verdict import Verdict, judge_picture
from darkroom.models.judge import Judge
from darkroom.pictures.images import grid
from darkroom.types import Request

__all__ = ["STREAM", "Report", "benchmark", "print_report", "write_report"]

STREAM = 3_000_003  # of the renders that the Fréchet distance compares with
QUESTIONS = ("present", "counts", "colours", "parts", "relations", "surroundings")


@dataclass(frozen=True)
class Report:
    """Shares over all prompts, and over those that name a (kind, colour) pair that training never showed."""

    all: dict[str, Share]
    unseen: dict[str, Share]
    frechet: float  # between the pictures and as many renders, in the judge's features
    pictures: int
    left_open: dict[str, Agreement] = field(default_factory=dict)  # of what captions do not say; empty: not measured


def benchmark(
    pipeline: Draws,
    prompts: Sequence[Prompt],
    judge: Judge,
    settings: Request,
    sheet: BinaryIO | None = None,
    *,
    varied: int = 0,
) -> Report:
    """Draw one picture per prompt (seed = its number in the list) with `settings` and judge it.

    The first 48 pictures are written as PNG to `sheet`. The first `varied` prompts of one thing are drawn six times
    more, to see in what pictures of one caption agree. Raises `InputError` for fewer than two prompts.
    """
    if len(prompts) < 2:
        raise InputError(f"the list holds {len(prompts)} prompt, expected are at least 2 to compare with renders")
    requests = [replace(settings, prompt=p.caption, seed=i) for i, p in enumerate(prompts)]
    pixels = draw_pixels(pipeline, requests)
    if sheet is not None:
        Image.fromarray(grid(pixels[:48], 8)).save(sheet, format="PNG")
    findings = look_at(judge, pixels)
    verdicts = [judge_picture(p.facts, f.things, f.surroundings) for p, f in zip(prompts, findings)]
    size = pixels.shape[1:3]
    scenes = [sample_scene(np.random.default_rng((0, STREAM, i)), split="any") for i in range(len(prompts))]
    renders = np.stack([render(s, size[1], size[0]) for s in scenes])
    return Report(
        all=_shares(verdicts),
        unseen=_shares([v for v, p in zip(verdicts, prompts) if p.held_out]),
        frechet=frechet_distance(_moments(findings), _moments(look_at(judge, renders))),
        pictures=len(prompts),
        left_open=open_agreements(pipeline, prompts, judge, settings, captions=varied) if varied else {},
    )


def _moments(findings: Sequence[Findings]) -> Moments:
    moments = Moments()
    moments.update(np.stack([f.features for f in findings]))
    return moments


def _shares(verdicts: Sequence[Verdict]) -> dict[str, Share]:
    answers = {q: [getattr(v, q) for v in verdicts if getattr(v, q) is not None] for q in QUESTIONS}
    return {q: Share(sum(a), len(a)) for q, a in answers.items()}


def print_report(report: Report) -> None:
    table = Table("kept", "all prompts", "95 %", "asked", "unseen pairs", "asked")
    for q in QUESTIONS:
        a, u = report.all[q], report.unseen[q]
        interval = " – ".join(f"{v:.1%}" for v in a.interval) if a.asked else "–"
        table.add_row(q, _percent(a), interval, str(a.asked), _percent(u), str(u.asked))
    console = Console()
    console.print(table)
    if report.left_open:
        table = Table("left open by the caption", "two pictures agree", "two scenes of the world", "captions")
        for name, a in report.left_open.items():
            table.add_row(name, f"{a.drawn:.0%}", f"{a.world:.0%}", str(a.captions))
        console.print(table)
    console.print(
        f"Fréchet distance to renders in the judge's features: {report.frechet:.2f} ({report.pictures} pictures)"
    )


def _percent(share: Share) -> str:
    return f"{share.value:.1%}" if share.asked else "–"


def write_report(file: BinaryIO, report: Report) -> None:
    """As JSON."""
    file.write((json.dumps(asdict(report), indent=1) + "\n").encode())
