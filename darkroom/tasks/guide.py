"""What one picture asks of the network at a step, and how the estimates that come back become one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from darkroom.conditioning.conditioning import Conditioning
from darkroom.conditioning.weighted_text import WeightedText
from darkroom.diffusion import guidance as g
from darkroom.diffusion.samplers import SAMPLERS
from darkroom.nn.attention import Context
from darkroom.prompts.schedule import Wording
from darkroom.prompts.tree import Sentence
from darkroom.requests.plan import Plan
from darkroom.types import Region

__all__ = ["Guide", "Guides"]

Combine = Callable[[Tensor, Tensor, Sequence[Tensor]], Tensor]
Encode = Callable[[Sequence[Mapping[str, Any]]], Conditioning]


@dataclass(frozen=True, eq=False)
class Guide:
    """The estimates that one picture needs at a step, all asked for in one call, and how they become one.

    `cond`: a row for every estimate; the last `perturbed` of them go through a network without self-attention in its
    middle. `combine`: (x, sigma, estimates) to x0, each (1, C, h, w). `null`: which estimate is without the prompt.
    """

    cond: Conditioning
    combine: Combine
    context: Context | None  # the tokens of `cond`, with what layers have made of them
    rows: int
    perturbed: int = 0
    null: int | None = None


class Guides:
    """The guides of one run: prompts change over the steps, and guidance may hold for some noise levels only.

    `inputs` are those of the embedders besides the caption, by key. `unconditional` gives those of the null branch.
    `encode` makes conditioning of rows of inputs. Each guide is made when it is first asked for.
    """

    def __init__(
        self,
        plan: Plan,
        inputs: Mapping[str, Any],
        unconditional: Callable[[Mapping[str, Any]], dict[str, Any]],
        encode: Encode,
        sides: tuple[int, int],
    ) -> None:
        self.plan, self.inputs, self.unconditional, self.encode, self.sides = plan, inputs, unconditional, encode, sides
        self.total = len(plan.whole) - 1
        self.wordings = [Wording(s, self.total, plan.former_steps) for s in self._sentences()]
        self.starts = sorted({0}.union(*(wording.changes() for wording in self.wordings)))
        self.projected = g.AdaptiveProjected() if plan.request.guidance.apg else None  # its state is the whole run's
        self._made: dict[tuple[tuple[WeightedText, ...], bool], Guide] = {}

    def at(self, step: int, sigma: float) -> Guide:
        """The guide of `step` of the whole schedule at level `sigma`."""
        begun = max(start for start in self.starts if start <= step)
        shares = self.plan.guidance_interval
        guided = shares is None or self._within(shares, sigma)
        said = tuple(wording.at(begun) for wording in self.wordings)
        if (said, guided) not in self._made:
            self._made[said, guided] = self._make(said, guided=guided)
        return self._made[said, guided]

    def _within(self, shares: tuple[float, float], sigma: float) -> bool:
        """Whether `sigma` lies in the interval of guidance (Kynkäänniemi et al. 2024): open below, closed above."""
        n, levels = self.total, self.plan.whole
        high, low = levels[min(n - 1, round(shares[0] * n))], levels[round(shares[1] * n)]
        return float(low) < sigma <= float(high)

    def _sentences(self) -> list[Sentence]:
        """The parts of the prompt, the prompts of the regions, the negative prompt."""
        plan = self.plan
        own = [p.prompt for p in plan.prompt.parts]
        return [*own, *(p.parts[0].prompt for p in plan.region_prompts), plan.negative.parts[0].prompt]

    def _make(self, said: tuple[WeightedText, ...], *, guided: bool) -> Guide:
        plan, guidance = self.plan, self.plan.request.guidance
        weights = [p.weight for p in plan.prompt.parts]
        scale = plan.guidance_scale if guided else 1.0
        pag = guidance.pag_scale if guided else 0.0
        threshold = guidance.dynamic_threshold if guided else None
        composes = weights != [1.0]
        rows = [{**self.inputs, "caption": caption} for caption in said[:-1]]
        null = None
        if scale != 1 or composes or SAMPLERS[plan.sampler].needs_uncond:
            null = len(rows)
            rows.append(self._null(said))
        perturbed = None
        if pag:
            perturbed = len(rows)
            rows.append({**self.inputs, "caption": said[0]})
        masks = [_box_mask(r, *self.sides) * r.weight for r in plan.request.regions]

        def combine(x: Tensor, sigma: Tensor, estimates: Sequence[Tensor]) -> Tensor:
            parts = list(zip(estimates, weights))
            uncond = None if null is None else estimates[null]
            cond = parts[0][0]
            if composes and uncond is not None:
                cond = g.composed(uncond, parts)
            if masks:
                rest = (1 - torch.stack(masks).sum(dim=0)).clamp(min=0)
                there = [(cond, rest), *zip(estimates[len(parts) :], masks)]
                cond = g.regional([(estimate, mask.to(x)) for estimate, mask in there])
            x0 = cond
            if scale != 1 and uncond is not None:
                x0 = (self.projected or g.classifier_free)(cond, uncond, scale)
                if guidance.rescale:
                    x0 = g.rescaled(x0, cond, x, sigma, guidance.rescale)
            if perturbed is not None:
                x0 = x0 + pag * (cond - estimates[perturbed])  # Ahn et al. 2024
            if threshold is not None:
                x0 = g.dynamic_threshold(x0, threshold, like=cond)
            return x0

        cond = self.encode(rows)
        context = None if cond.tokens is None else Context(cond.tokens)
        return Guide(cond, combine, context, len(rows), int(perturbed is not None), null)

    def _null(self, said: tuple[WeightedText, ...]) -> dict[str, Any]:
        bare = self.unconditional({**self.inputs, "caption": said[0]})
        if self.plan.request.negative_prompt and "caption" in bare:
            bare["caption"] = said[-1]
        return bare


def _box_mask(region: Region, height: int, width: int) -> Tensor:
    """(1, 1, height, width): one inside the box."""
    left, top, right, bottom = region.box
    mask = torch.zeros(1, 1, height, width)
    rows = slice(int(top * height), max(int(top * height) + 1, round(bottom * height)))
    columns = slice(int(left * width), max(int(left * width) + 1, round(right * width)))
    mask[..., rows, columns] = 1
    return mask
