"""What runs ask of the network, and the call that answers several of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor

from darkroom.conditioning.conditioning import Conditioning
from darkroom.engine.controls import RunControl, given
from darkroom.engine.loras import PromptLoras, merged
from darkroom.models.control import controlled
from darkroom.nn.attention import Context
from darkroom.nn.lora import adapted
from darkroom.nn.perturbed_attention import without_self_attention
from darkroom.systems.build import Attach, LatentDiffusion, RunFeatures
from darkroom.tasks.guide import Guide

__all__ = ["Ask", "Told", "answer"]


@dataclass(frozen=True, eq=False)
class Ask:
    """The estimates of one run at one step: a row for each of its guide's.

    `features` belong to the run and to an unchanging set of rows: an ask that has some shares its call with no other.
    Neither does one that is `exact`: its rows get the same bits in any company.
    """

    model: LatentDiffusion
    x: Tensor  # (1, C, h, w)
    sigma: Tensor  # scalar
    guide: Guide
    loras: PromptLoras
    features: RunFeatures | None = None
    exact: bool = False
    controls: Sequence[RunControl] = ()  # those that act in this step

    @property
    def rows(self) -> int:
        return self.guide.rows

    @property
    def tokens(self) -> int:
        """The length of the rows' token sequences; 1 where there are none."""
        tokens = self.guide.cond.tokens
        return 1 if tokens is None else tokens.shape[1]

    @property
    def company(self) -> tuple[object, ...]:
        """Asks of equal company can share a call of the network: one model, one shape, the same slots filled.

        LoRAs may differ, row by row, but in compiled models, which take them merged into the weights.
        """
        cond = self.guide.cond
        filled = (cond.tokens is not None, cond.channels is not None, cond.vector is not None)
        weights = id(self.loras.unet) if self.model.compiled and self.loras.unet is not None else None
        with_whom = id(self) if self.exact else None if self.features is None else id(self.features)
        return (id(self.model), self.x.shape[1:], filled, weights, with_whom)

    @property
    def alone(self) -> bool:
        """Whether it shares its call with no other, whoever comes."""
        return self.exact or self.features is not None


def answer(asks: Sequence[Ask], told: Told) -> list[Tensor]:
    """The estimates of x0 (rows, C, h, w) for every ask, out of one call. All are of one company; `told` is theirs."""
    first = asks[0]
    model, features = first.model, first.features
    x = torch.cat([a.x.expand(a.rows, -1, -1, -1) for a in asks])
    sigma = torch.cat([a.sigma.reshape(1).expand(a.rows) for a in asks])
    perturbed, end = [], 0
    for a in asks:
        end += a.rows
        perturbed += range(end - a.guide.perturbed, end)
    with ExitStack() as attached:
        if model.compiled:
            attached.enter_context(merged(model, first.loras.unet))
        else:
            attached.enter_context(adapted(model, [(a.rows, a.loras.unet) for a in asks]))
        attached.enter_context(without_self_attention(model.unet.mid_attention, perturbed))
        attach = _attach(asks, told) if any(a.controls for a in asks) else None
        estimates = model.denoiser(told.cond, context=told.context, features=features, attach=attach)(x, sigma)
    return list(estimates.split([a.rows for a in asks]))


def _attach(asks: Sequence[Ask], told: Told) -> Attach:
    """What the asks' controls give to one call of the network."""

    def attach(x: Tensor, t: Tensor) -> AbstractContextManager[None]:
        runs = [(a.guide, a.controls) for a in asks]
        return controlled(asks[0].model.unet, given(runs, x, t, told.cond, told.context))

    return attach


@dataclass(frozen=True)
class Told:
    """What the network is told in a call: the conditioning of all its rows, and the tokens with what layers made of
    them. Sequences of unlike lengths are repeated to a common one, which attention does not notice.
    """

    cond: Conditioning
    context: Context | None

    @staticmethod
    def of(guides: Sequence[Guide]) -> Told:
        contexts = [g.context for g in guides if g.context is not None]
        return Told(Conditioning.cat([g.cond for g in guides]), Context.cat(contexts) if contexts else None)
