"""How far a model's pictures follow the words of the prompt and how far the seed, word by word and level by level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from darkroom.data.picturebook import COLOURS, KINDS, Facts, Group, Relation
from darkroom.data.picturebook.caption import BACKGROUND, GROUND, NUMBERS, PHRASES, SKY
from darkroom.diffusion.sigma_schedules import spaced
from darkroom.errors import require
from darkroom.evaluation.judging import Findings, look
from darkroom.evaluation.verdict import Verdict, judge_picture
from darkroom.models.judge import Judge
from darkroom.systems.build import LatentDiffusion
from darkroom.types import Request

__all__ = ["WORDS", "Alternative", "ConditioningReport", "Effect", "alternatives", "measure", "variance_shares"]

# Sorts of words, with the question of a verdict that tells whether the picture keeps them.
WORDS = {
    "sky": "surroundings",
    "ground": "surroundings",
    "background": "surroundings",
    "kind": "present",
    "color": "colours",
    "part": "parts",
    "count": "counts",
    "side": "relations",
}
MOST_ALTERNATIVES = 4  # of one word in a prompt


@dataclass(frozen=True)
class Alternative:
    """A prompt and what it promises; the alternatives of one prompt differ in a single word or phrase."""

    caption: str
    facts: Facts


@dataclass(frozen=True)
class Effect:
    """What one sort of word does, over all its prompts.

    At each level, the noisiest first: which share of the variance of the model's estimate is due to the word, which to
    the seed; the rest is due to both together. Of the finished pictures: how many show the word that was said, how many
    an even guess among the alternatives would show, and how many pairs, drawn from one seed with two words, show the
    same alternative whatever was said.
    """

    words: tuple[float, ...]
    seeds: tuple[float, ...]
    followed: float
    chance: float
    unmoved: float


@dataclass(frozen=True)
class ConditioningReport:
    signal: tuple[float, ...]  # sqrt(alpha-bar) of each level: the share of the picture left in what the model reads
    effects: dict[str, Effect]
    pictures: int


def alternatives(sort: str, rng: np.random.Generator) -> list[Alternative]:
    """One prompt in up to four alternatives of the word of a sort, the rest of it drawn from `rng`."""
    kinds, colors = list(KINDS), list(COLOURS)
    a, b = (str(k) for k in rng.choice(kinds, 2, replace=False))
    color, other = (str(c) for c in rng.choice(colors, 2, replace=False))

    def one(kind: str, color: str, count: int = 1) -> str:
        return f"{NUMBERS[count]} {color} {KINDS[kind].name if count == 1 else KINDS[kind].plural}"

    def chosen(names: Sequence[str]) -> list[str]:
        return [str(n) for n in rng.choice(list(names), min(MOST_ALTERNATIVES, len(names)), replace=False)]

    thing = Group(a, color)
    if sort == "sky":
        return [Alternative(f"{one(a, color)} {SKY[s][0]}", Facts((thing,), sky=s)) for s in SKY]
    if sort == "ground":
        return [Alternative(f"{one(a, color)} {GROUND[g][0]}", Facts((thing,), ground=g)) for g in GROUND]
    if sort == "background":
        return [Alternative(f"{one(a, color)} {BACKGROUND[g][0]}", Facts((thing,), background=g)) for g in BACKGROUND]
    if sort == "kind":
        return [Alternative(one(k, color), Facts((Group(k, color),))) for k in chosen(kinds)]
    if sort == "color":
        return [Alternative(one(a, c), Facts((Group(a, c),))) for c in chosen(colors)]
    if sort == "count":
        return [Alternative(one(a, color, n), Facts((Group(a, color, n),))) for n in NUMBERS]
    if sort == "part":
        owner = str(rng.choice([k for k in kinds if KINDS[k].parts]))
        part, owners = KINDS[owner].parts[0], one(owner, color)
        return [
            Alternative(f"{owners} with a {c} {part}", Facts((Group(owner, color, 1, {part: c}),)))
            for c in chosen([c for c in colors if c != color])
        ]
    require(sort == "side", "the sort of word", sort, "one of " + ", ".join(WORDS))
    groups = (thing, Group(b, other))
    return [
        Alternative(f"{one(a, color)} {PHRASES[side][0]} {one(b, other)}", Facts(groups, (Relation(0, side, 1),)))
        for side in ("left of", "right of")
    ]


def variance_shares(estimates: Tensor) -> tuple[float, float]:
    """Shares of the variance of `estimates` (words, seeds, numbers) that words and seeds make up, 0 … 1 each.

    Components of variance of a two-way layout with one observation in each place (Searle et al. 1992), estimated
    without bias from mean squares and cut off at 0; the rest is interaction.
    """
    w, s = estimates.shape[:2]
    x = estimates.double()
    mean = x.mean(dim=(0, 1), keepdim=True)
    by_word, by_seed = x.mean(dim=1, keepdim=True) - mean, x.mean(dim=0, keepdim=True) - mean
    rest = float((x - mean - by_word - by_seed).square().sum()) / ((w - 1) * (s - 1))
    words = max(0.0, float(by_word.square().sum()) / (w - 1) - rest / s)
    seeds = max(0.0, float(by_seed.square().sum()) / (s - 1) - rest / w)
    total = max(words + seeds + rest, 1e-12)
    return words / total, seeds / total


@torch.no_grad()
def measure(
    model: LatentDiffusion,
    judge: Judge,
    request: Request,
    *,
    prompts: int = 6,
    seeds: int = 6,
    sorts: Sequence[str] = tuple(WORDS),
) -> ConditioningReport:
    """Draw `prompts` prompts of every sort in all alternatives from `seeds` seeds each, and take them apart.

    Sampling is Euler's method on the system's own schedule, in the request's steps and with its guidance scale at every
    level, so that nothing but the start differs between seeds. Raises `InputError` for fewer than two seeds, where
    words and seeds cannot be told apart.
    """
    require(prompts >= 1, "the number of prompts", prompts, "at least 1")
    require(seeds >= 2, "the number of seeds", seeds, "at least 2")
    defaults = model.system.defaults
    steps = defaults.steps if request.steps is None else request.steps
    require(steps >= 1, "the number of steps", steps, "at least 1")
    scale = defaults.guidance_scale if request.guidance_scale is None else request.guidance_scale
    sigmas = spaced(defaults.schedule, model.process, steps)
    jobs = [(sort, n) for sort in sorts for n in range(prompts)]
    found: dict[str, list[Effect]] = {sort: [] for sort in sorts}
    pictures = 0
    for sort, n in track(jobs, "drawing", transient=True):
        said = alternatives(sort, np.random.default_rng((list(WORDS).index(sort), n)))
        estimates = _estimates(model, said, seeds, sigmas, scale)
        shares = [variance_shares(e) for e in estimates]
        images = model.decode_latents(estimates[-1].flatten(0, 1)).float().cpu()
        pictures += len(images)
        followed, unmoved = _kept(said, list(look(judge, images)), sort, seeds)
        words, around = tuple(w for w, _ in shares), tuple(s for _, s in shares)
        found[sort].append(Effect(words, around, followed, 1 / len(said), unmoved))
    signal = tuple(float(1 / (1 + s * s) ** 0.5) for s in sigmas.tolist() if s > 0)
    return ConditioningReport(signal, {sort: _mean(effects) for sort, effects in found.items()}, pictures)


def _estimates(
    model: LatentDiffusion, said: Sequence[Alternative], seeds: int, sigmas: Tensor, scale: float
) -> list[Tensor]:
    """The guided estimate of clean latents at every level, (words, seeds, C, h, w) each."""
    config, defaults = model.autoencoder.config, model.system.defaults
    shape = (config.latent_channels, defaults.height // config.factor, defaults.width // config.factor)
    start = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(i)) for i in range(seeds)])
    levels = [s for s in sigmas.float().tolist() if s > 0]
    x = (start * (levels[0] ** 2 + 1) ** 0.5).repeat(len(said), 1, 1, 1).to(model.device)
    told = model.denoiser(model.condition([{"caption": a.caption} for a in said for _ in range(seeds)]))
    untold = model.denoiser(model.condition([{} for _ in range(len(x))]))
    found = []
    for sigma, following in zip(levels, [*levels[1:], 0.0]):
        level = torch.tensor(sigma)
        without = untold(x, level)
        clean = without + scale * (told(x, level) - without)
        found.append(clean.float().unflatten(0, (len(said), seeds)))
        x = clean + (x - clean) * (following / sigma)
    return found


def _kept(said: Sequence[Alternative], found: Sequence[Findings], sort: str, seeds: int) -> tuple[float, float]:
    """Share of pictures that show the alternative said; share of pairs of one seed that show the same one."""
    question = WORDS[sort]

    def answer(findings: Findings) -> int | None:
        for i, alternative in enumerate(said):
            verdict: Verdict = judge_picture(alternative.facts, findings.things, findings.surroundings)
            if getattr(verdict, question):
                return i
        return None

    answers = [[answer(found[w * seeds + s]) for s in range(seeds)] for w in range(len(said))]
    right = [a == w for w, row in enumerate(answers) for a in row]
    pairs = [
        answers[v][s] is not None and answers[v][s] == answers[w][s]
        for s in range(seeds)
        for w in range(len(said))
        for v in range(w)
    ]
    return sum(right) / len(right), sum(pairs) / len(pairs)


def _mean(effects: Sequence[Effect]) -> Effect:
    def mean(name: str) -> float:
        return float(np.mean([getattr(e, name) for e in effects]))

    words, seeds = (tuple(np.mean([getattr(e, n) for e in effects], axis=0).tolist()) for n in ("words", "seeds"))
    return Effect(words, seeds, mean("followed"), mean("chance"), mean("unmoved"))
