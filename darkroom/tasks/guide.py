"""The guided denoiser of a batch: prompts and their parts, regions, negative prompts, and what is stacked on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.conditioning.conditioning import Conditioning
from darkroom.diffusion import guidance as g
from darkroom.models.unet import UNet
from darkroom.nn.attention import Attention
from darkroom.nn.blocks import AttentionBlock
from darkroom.prompts.grammar import Sentence
from darkroom.prompts.schedule import changes, flat
from darkroom.requests.plan import Plan
from darkroom.systems.build import LatentDiffusion
from darkroom.tasks.inputs import picture_tensor
from darkroom.types import Denoise, Region

__all__ = ["Clock", "guided", "towards_target"]


@dataclass
class Clock:
    """Which step a run is at: prompts that change over the steps look here."""

    step: int = 0


def guided(
    model: LatentDiffusion, plans: Sequence[Plan], inputs: Sequence[Mapping[str, Any]], sigmas: Tensor, clock: Clock
) -> Denoise:
    """The denoiser that `plans`, which share a batch key, ask for; `inputs` are those of the embedders, row by row.

    `sigmas` (n + 1,): the levels of the whole schedule, by which shares of steps are counted.
    """
    total = len(sigmas) - 1
    starts = sorted({0}.union(*(changes(p, total, plan.former_steps) for plan in plans for p in _sentences(plan))))
    stretches = [_stretch(model, plans, inputs, sigmas, step) for step in starts]

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        which = max(i for i, start in enumerate(starts) if start <= clock.step)
        return stretches[which](x, sigma)

    return denoise if len(stretches) > 1 else stretches[0]


def _sentences(plan: Plan) -> list[Sentence]:
    return [part.prompt for p in (plan.prompt, plan.negative, *plan.region_prompts) for part in p.parts]


def _stretch(
    model: LatentDiffusion, plans: Sequence[Plan], inputs: Sequence[Mapping[str, Any]], sigmas: Tensor, step: int
) -> Denoise:
    """The denoiser for the prompts as they read at `step`."""
    shared, total = plans[0], len(sigmas) - 1
    request, guidance = shared.request, shared.request.guidance

    def encode(rows: Sequence[Mapping[str, Any]]) -> Conditioning:
        return model.condition(rows, emphasis=request.emphasis, clip_skip=request.clip_skip)

    def estimate(conditioning: Conditioning) -> Denoise:
        return model.denoiser(
            conditioning, deepcache_interval=request.deepcache_interval, tome_ratio=request.tome_ratio
        )

    def told(part: int) -> list[dict[str, Any]]:
        said = [flat(p.prompt.parts[part].prompt, step, total, p.former_steps) for p in plans]
        return [{**i, "caption": caption} for i, caption in zip(inputs, said)]

    def untold() -> list[dict[str, Any]]:
        rows = []
        for plan, row in zip(plans, inputs):
            given = {**row, "caption": flat(plan.prompt.parts[0].prompt, step, total, plan.former_steps)}
            bare = model.conditioner.unconditional(given)
            if plan.request.negative_prompt and "caption" in bare:
                bare["caption"] = flat(plan.negative.parts[0].prompt, step, total, plan.former_steps)
            rows.append(bare)
        return rows

    parts, regions = shared.prompt.parts, request.regions
    composes = [p.weight for p in parts] != [1.0]
    need_null = shared.guidance_scale != 1 or composes
    plain = not composes and not regions
    if plain and need_null:
        both = encode([*told(0), *untold()])
        conditional, unconditional = g.paired(estimate(both))
    else:
        unconditional = g.once(estimate(encode(untold()))) if need_null else None
        estimates = [g.once(estimate(encode(told(i)))) for i in range(len(parts))]
        conditional = estimates[0]
        if composes and unconditional is not None:
            conditional = g.composed(unconditional, list(zip(estimates, (p.weight for p in parts))), 1.0)
        if regions:
            conditional = _regional(model, plans, inputs, conditional, lambda rows: estimate(encode(rows)), step, total)
        conditional = g.once(conditional)

    result = conditional
    if shared.guidance_scale != 1 and unconditional is not None:
        if guidance.apg:
            result = g.adaptive_projected(conditional, unconditional, shared.guidance_scale)
        else:
            result = g.classifier_free(conditional, unconditional, shared.guidance_scale)
        if guidance.rescale:
            result = g.rescaled(g.once(result), conditional, guidance.rescale)
    if guidance.pag_scale:
        perturbed = _without_self_attention(model, estimate(encode(told(0))))
        result = g.perturbed_attention(result, conditional, perturbed, guidance.pag_scale)
    if guidance.dynamic_threshold is not None:
        result = g.dynamic_threshold(result, guidance.dynamic_threshold, like=conditional)
    if guidance.interval is not None:
        result = _within(result, conditional, guidance.interval, sigmas)
    return result


def _within(inside: Denoise, outside: Denoise, shares: tuple[float, float], sigmas: Tensor) -> Denoise:
    first, last = shares
    n = len(sigmas) - 1
    high, low = sigmas[min(n - 1, round(first * n))], sigmas[round(last * n)]
    return g.interval(inside, outside, float(low), float(high))


def _regional(
    model: LatentDiffusion,
    plans: Sequence[Plan],
    inputs: Sequence[Mapping[str, Any]],
    base: Denoise,
    estimate: Callable[[Sequence[Mapping[str, Any]]], Denoise],
    step: int,
    total: int,
) -> Denoise:
    """The prompts of regions inside their boxes, `base` with the weight that they leave."""
    shared, factor = plans[0], model.autoencoder.config.factor
    height, width = shared.height // factor, shared.width // factor
    masks = [_box_mask(r, height, width) * r.weight for r in shared.request.regions]
    rest = (1 - torch.stack(masks).sum(dim=0)).clamp(min=0)
    parts = [(base, rest)]
    for i, mask in enumerate(masks):
        said = [flat(p.region_prompts[i].parts[0].prompt, step, total, p.former_steps) for p in plans]
        rows = [{**row, "caption": caption} for row, caption in zip(inputs, said)]
        parts.append((estimate(rows), mask))
    return g.regional([(denoise, mask.to(model.device)) for denoise, mask in parts])


def _box_mask(region: Region, height: int, width: int) -> Tensor:
    """(1, 1, height, width): one inside the box."""
    left, top, right, bottom = region.box
    mask = torch.zeros(1, 1, height, width)
    rows = slice(int(top * height), max(int(top * height) + 1, round(bottom * height)))
    columns = slice(int(left * width), max(int(left * width) + 1, round(right * width)))
    mask[..., rows, columns] = 1
    return mask


def _without_self_attention(model: LatentDiffusion, denoise: Denoise) -> Denoise:
    """`denoise` while the self-attention in the middle of the UNet is the identity (Ahn et al. 2024, section 4.1)."""

    def perturbed(x: Tensor, sigma: Tensor) -> Tensor:
        with ExitStack() as hooks:
            for module in _middle_self_attentions(model.unet):
                hooks.enter_context(module.register_forward_hook(_identity))
            return denoise(x, sigma)

    return perturbed


def _middle_self_attentions(unet: UNet) -> list[nn.Module]:
    found = []
    for name, module in unet.mid_attention.named_modules():
        if isinstance(module, AttentionBlock) or (isinstance(module, Attention) and name.endswith("attn1")):
            found.append(module)
    return found


def _identity(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    """Every position attends to itself alone."""
    x = args[0]
    if isinstance(module, AttentionBlock):
        y = module.norm(x).permute(0, 2, 3, 1)
        return x + module.to_out(module.to_v(y)).permute(0, 3, 1, 2)
    return module.to_out(module.to_v(x))  # type: ignore[operator]


def towards_target(model: LatentDiffusion, plans: Sequence[Plan], denoise: Denoise) -> Denoise:
    """`denoise` led by target pictures (papers C.6): the decoded estimate, shrunk to a target's size, shall equal it.

    Targets larger than an eighth of the picture are shrunk to that first: what leads is the coarse look.
    """
    shared = plans[0]
    coarse = (max(1, shared.height // 8), max(1, shared.width // 8))
    wanted = torch.stack([F.adaptive_avg_pool2d(picture_tensor(p.request.target), coarse) for p in plans]).to(
        model.device
    )

    def loss(x0: Tensor) -> Tensor:
        shown = F.adaptive_avg_pool2d(model.decode_latents(x0.to(model.dtype)).float(), coarse)
        return 0.5 * (shown - wanted).square().flatten(1).sum(dim=1)

    return g.target_image(denoise, loss, shared.request.target_strength)
