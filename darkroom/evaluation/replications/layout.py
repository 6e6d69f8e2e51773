"""Told where things stand, a model puts them there; told what they are alone, it cannot (papers G.9)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from darkroom.conditioning.conditioning import Conditioning
from darkroom.data.picturebook import COLOURS, KINDS, Scene
from darkroom.evaluation.drawn import look_at
from darkroom.evaluation.judging import Findings, load_judge, overlap
from darkroom.evaluation.metric import mean_of
from darkroom.evaluation.replications.claim import CLAIMS, Claim, Outcome, Verdict, above_zero, apart
from darkroom.evaluation.replications.laboratory import (
    Group,
    Narrow,
    decided,
    drawn,
    enlarged,
    learned_denoiser,
    loop,
    painted,
    point,
    scenes,
    shown,
    tiles,
)
from darkroom.evaluation.replications.plot import curves
from darkroom.evaluation.replications.trial import Trial
from darkroom.evaluation.share import Share
from darkroom.pictures.labels import labeled_sheet
from darkroom.pixels import to_bytes

__all__ = ["Arm", "box_colors", "run", "things_told", "verdicts_of"]


@dataclass(frozen=True)
class Size:
    side: int  # of pictures in pixels
    fold: int  # side of the squares that the denoiser works on
    pictures: int
    steps: int
    batch: int
    measured: int


SIZES = {
    "tiny": Size(8, 2, 2500, 300, 64, 300),
    "small": Size(16, 4, 6000, 900, 64, 1000),
    "full": Size(32, 4, 50_000, 40_000, 64, 2048),
}
MOST = 2  # things in a scene
GRID = 8  # cells a side, of which a thing takes some
SHOWN = 6


@dataclass(frozen=True)
class Arm:
    name: str
    away: np.ndarray  # (N,), of mean colors in the boxes from the true ones
    found: Share  # of things: of their kind, at least half in their boxes


def things_told(found: list[Scene], *, boxes: bool) -> Conditioning:
    """A token for each thing: its kind, its color and, with `boxes`, which cells of a grid it takes; and an empty one
    where there are fewer."""
    kinds, colors = list(KINDS), list(COLOURS)
    tokens = torch.zeros(len(found), MOST, len(kinds) + len(colors) + 2 * GRID)
    for i, scene in enumerate(found):
        for j, thing in enumerate(scene.things):
            tokens[i, j, kinds.index(thing.kind)] = 1
            tokens[i, j, len(kinds) + colors.index(thing.colour)] = 1
            if boxes:
                b = thing.box
                edges = torch.linspace(0, 1, GRID + 1)
                for k, (low, high) in enumerate(((b.top, b.bottom), (b.left, b.right))):
                    cells = (torch.minimum(edges[1:], torch.tensor(high)) - edges[:-1].clamp(min=low)).clamp(min=0)
                    start = len(kinds) + len(colors) + k * GRID
                    tokens[i, j, start : start + GRID] = cells * GRID
    return Conditioning(tokens=tokens)


def box_colors(pictures: Tensor, found: list[Scene]) -> np.ndarray:
    """Mean colors of (N, 3, s, s) within the box of the scene's first thing: (N, 3)."""
    side, rows = pictures.shape[2], []
    for x, scene in zip(pictures.clamp(-1, 1), found):
        b = scene.things[0].box
        top, left = (min(side - 1, max(0, int(v * side))) for v in (b.top, b.left))
        bottom, right = max(top + 1, round(b.bottom * side)), max(left + 1, round(b.right * side))
        rows.append(x[:, top:bottom, left:right].mean(dim=(1, 2)))
    return torch.stack(rows).numpy()


def _found(findings: list[Findings], found: list[Scene], side: int) -> Share:
    """How many of all things the judge sees in pictures of `side` pixels where they should be."""
    kept = asked = 0
    for seen, scene in zip(findings, found):
        for thing in scene.things:
            b = thing.box
            box = (b.top * side, b.left * side, b.bottom * side, b.right * side)
            asked += 1
            kept += any(d.kind == thing.kind and overlap(d.box, box) >= 0.5 for d in seen.things)
    return Share(kept, asked)


def run(trial: Trial) -> Outcome:
    """Two denoisers, one of which is told boxes as well."""
    size, seed = SIZES[trial.scale], trial.seed
    known, unseen = scenes(seed, size.pictures, most=MOST), scenes(seed, size.measured, first=size.pictures, most=MOST)
    latents, truth = (painted(s, size.side, size.side) for s in (known, unseen))
    how, shape = loop(size.steps, seed, batch=size.batch), tuple(truth.shape)
    judge, true = load_judge(), box_colors(truth, unseen)
    arms, pictures, made = [], [*tiles(truth[:SHOWN])], []
    for name, boxes in (("what is there", False), ("and where", True)):
        told, asked = (things_told(s, boxes=boxes) for s in (known, unseen))
        assert told.tokens is not None, "made above"
        unet = learned_denoiser(Narrow(tokens=told.tokens.shape[2], fold=size.fold), [Group(latents, told)], how)
        samples = drawn(unet, shape, asked, seed=seed)
        large = enlarged(samples)
        share = _found(look_at(judge, to_bytes(large)), unseen, large.shape[2])
        arms.append(Arm(name, np.abs(box_colors(samples, unseen) - true).mean(axis=1), share))
        pictures += tiles(samples[:SHOWN])
        made.append(samples)
    large = enlarged(truth)
    ceiling = _found(look_at(judge, to_bytes(large)), unseen, large.shape[2])
    table = [["told", "colors in boxes away from the true ones", "things found in their boxes"]]
    table += [[a.name, shown(a.away), f"{a.found.value:.1%}"] for a in arms]
    table.append(["true scenes", "0", f"{ceiling.value:.1%}"])
    panels = {
        "colors away": [point(mean_of(a.away)) for a in arms],
        "things found": [(a.found.value, a.found.interval) for a in arms],
    }
    picture = labeled_sheet(pictures, [""] * SHOWN, ["truth", *(a.name for a in arms)], [""])
    notes = f"{size.side} pixels, {size.steps} steps of {size.batch}; {size.measured} scenes of up to {MOST} things."
    verdicts = decided(verdicts_of(*arms), truth, *made)
    return Outcome(table, verdicts, curves("", [a.name for a in arms], panels), picture, notes)


def verdicts_of(what: Arm, where: Arm) -> list[Verdict]:
    """Colors scene by scene, shares by their intervals."""
    return [
        Verdict("told boxes, what is drawn in them has more of the true color", above_zero(what.away - where.away)),
        Verdict("told boxes, more things are found in them", apart(where.found.interval, what.found.interval)),
    ]


CLAIMS.add(
    "layout",
    Claim(
        title="Boxes put things where they are said to be",
        source="Rombach et al. 2022, table 9",
        paper="COCO, layout to image: LDM-4 FID 40.91, LDM-8 42.06; LostGAN-V2 42.55, SPADE 41.11. Where things are is "
        "not measured there.",
        protocol="Scenes of up to two things. Two small UNets in pixels with cross-attention, told the kind and the "
        "color of each thing, one of them its box as well. Compared are the colors inside the boxes with the true "
        "scene's, and the share of things that the judge finds in boxes that overlap theirs by half.",
        run=run,
    ),
)
