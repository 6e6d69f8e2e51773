"""Guidance: wrappers of a denoiser that are denoisers themselves, so that any of them can be stacked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from darkroom.errors import InputError
from darkroom.types import Denoise

__all__ = [
    "adaptive_projected",
    "classifier",
    "classifier_free",
    "composed",
    "dynamic_threshold",
    "interval",
    "known_region",
    "once",
    "paired",
    "perturbed_attention",
    "regional",
    "rescaled",
    "target_image",
]

AXES = (1, 2, 3)  # all but the batch


def classifier_free(conditional: Denoise, unconditional: Denoise, scale: float) -> Denoise:
    """D_u + scale · (D_c − D_u) (papers C.5). At scale 1 the unconditional half is not computed."""
    if scale == 1:
        return conditional

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        base = unconditional(x, sigma)
        return torch.lerp(base, conditional(x, sigma), scale)

    return denoise


def paired(both: Denoise) -> tuple[Denoise, Denoise]:
    """(conditional, unconditional) out of one denoiser for twice the batch: rows of the first half, then the second.

    The first of the two that is asked computes both in one call and the other takes its half; both keep their latest
    answer, so a stack of wrappers runs the network once for each level.
    """
    kept: list[tuple[Tensor, Tensor, int, Tensor]] = []  # the latent and level asked for, whose half, its estimate

    def half(which: int) -> Denoise:
        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            level = torch.as_tensor(sigma)
            if kept:
                asked, at, whose, estimate = kept.pop()
                if asked is x and whose == which and torch.equal(at, level):
                    return estimate
            twice = level if level.dim() == 0 or len(level) == 1 else torch.cat([level, level])
            halves = both(torch.cat([x, x]), twice).chunk(2)
            kept.append((x, level, 1 - which, halves[1 - which]))
            return halves[which]

        return denoise

    return once(half(0)), once(half(1))


def once(denoise: Denoise) -> Denoise:
    """`denoise`, whose latest answer is kept: wrappers that ask for the same estimate share one call."""
    kept: list[tuple[Tensor, Tensor, Tensor]] = []  # the latent and level last asked for, the estimate

    def remembered(x: Tensor, sigma: Tensor) -> Tensor:
        level = torch.as_tensor(sigma)
        if kept and kept[0][0] is x and torch.equal(kept[0][1], level):
            return kept[0][2]
        kept.clear()
        estimate = denoise(x, sigma)
        kept.append((x, level, estimate))
        return estimate

    return remembered


def rescaled(guided: Denoise, conditional: Denoise, phi: float) -> Denoise:
    """Guidance whose result keeps the spread of the conditional velocity (Lin et al. 2023).

    The share `phi` of the guided velocity is brought to the conditional one's standard deviation per picture; about 0.7
    for models of zero terminal SNR.
    """
    if not 0 <= phi <= 1:
        raise InputError(f"the share of guidance to rescale is {phi}, wanted is 0 to 1")

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        # v = (x c_skip − D) / (s · rsqrt): its spread is compared where the network's own output lives.
        s = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).view(-1, 1, 1, 1)
        skip = x / (s.square() + 1)
        v_told, v = skip - conditional(x, sigma), skip - guided(x, sigma)
        ratio = v_told.std(dim=AXES, keepdim=True) / v.std(dim=AXES, keepdim=True).clamp(min=1e-12)
        return skip - (phi * v * ratio + (1 - phi) * v)

    return denoise


def interval(inside: Denoise, outside: Denoise, low: float, high: float) -> Denoise:
    """`inside` for low < sigma ≤ high, else `outside` (Kynkäänniemi et al. 2024), mostly guided and conditional."""
    if not 0 <= low < high:
        raise InputError(f"the guidance interval is {low} to {high}, wanted are rising levels from 0 on")

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        level = float(torch.as_tensor(sigma).max())
        return (inside if low < level <= high else outside)(x, sigma)

    return denoise


def dynamic_threshold(
    denoise: Denoise, percentile: float = 0.995, limit: float = 1.0, like: Denoise | None = None
) -> Denoise:
    """Values of x0 beyond the percentile s of each picture are clipped and the picture divided by s / limit.

    Imagen's rule (Saharia et al. 2022, section 2.3) for values meant to lie in ±limit. Latents have no such range, and
    their channels lie around means of their own: with `like`, mostly the conditional estimate, each channel is taken
    around its mean, and what `like` reaches there is its limit (mcmonkey4eva's dynamic thresholding for latents).
    """
    if not 0 < percentile <= 1:
        raise InputError(f"the percentile is {percentile}, wanted is a share above 0, at most 1")

    def reach(x0: Tensor) -> Tensor:
        """(B, 1, 1, 1), with `like` (B, C, 1, 1)."""
        values = x0.abs().flatten(1 if like is None else 2)
        return torch.quantile(values.float(), percentile, dim=-1).to(x0).view(len(x0), -1, 1, 1)

    def thresholded(x: Tensor, sigma: Tensor) -> Tensor:
        x0 = denoise(x, sigma)
        if like is None:
            middle, most = torch.zeros_like(x0[:1, :1, :1, :1]), torch.full_like(reach(x0), limit)
        else:
            middle, shown = x0.mean(dim=(2, 3), keepdim=True), like(x, sigma)
            most = reach(shown - shown.mean(dim=(2, 3), keepdim=True))
        around = x0 - middle
        s = torch.maximum(reach(around), most).clamp(min=1e-12)
        return middle + around.clamp(-s, s) / s * most

    return thresholded


def perturbed_attention(guided: Denoise, conditional: Denoise, perturbed: Denoise, scale: float) -> Denoise:
    """Away from the estimate of a network whose self-attention is the identity (Ahn et al. 2024): D + s (D_c − D_p)."""
    if scale == 0:
        return guided

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return guided(x, sigma) + scale * (conditional(x, sigma) - perturbed(x, sigma))

    return denoise


def adaptive_projected(
    conditional: Denoise,
    unconditional: Denoise,
    scale: float,
    *,
    parallel: float = 0.0,  # how much of the update along D_c is kept
    norm: float | None = 15.0,  # the update's norm per picture is limited to this
    momentum: float = -0.5,  # of the running mean of updates
) -> Denoise:
    """Adaptive projected guidance (Sadat et al. 2024): high scales without oversaturation. Has a state: one per run."""
    mean: Tensor | None = None

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        nonlocal mean
        told = conditional(x, sigma)
        update = told - unconditional(x, sigma)
        mean = update if mean is None else update + momentum * mean
        d = mean
        if norm is not None:
            size = d.square().sum(dim=AXES, keepdim=True).sqrt()
            d = d * (norm / size.clamp(min=1e-12)).clamp(max=1.0)
        direction = told / told.square().sum(dim=AXES, keepdim=True).sqrt().clamp(min=1e-12)
        along = (d * direction).sum(dim=AXES, keepdim=True) * direction
        return told + (scale - 1) * (d - along + parallel * along)

    return denoise


def composed(unconditional: Denoise, parts: Sequence[tuple[Denoise, float]], scale: float) -> Denoise:
    """A1111's AND: D_u + scale · Σ weight (D_i − D_u) (Liu et al. 2022, composable diffusion)."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        base = unconditional(x, sigma)
        return base + scale * sum((w * (part(x, sigma) - base) for part, w in parts), start=torch.zeros_like(base))

    return denoise


def regional(parts: Sequence[tuple[Denoise, Tensor]]) -> Denoise:
    """Each denoiser rules where its mask (B or 1, 1, h, w) of weights is; weights are made to add up to one."""
    total = sum((mask for _, mask in parts[1:]), start=parts[0][1])
    if (total <= 0).any():
        raise InputError("the regions leave a part of the picture without a prompt")

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return sum((part(x, sigma) * (mask / total).to(x) for part, mask in parts), start=torch.zeros_like(x))

    return denoise


def known_region(denoise: Denoise, known: Tensor, mask: Tensor, noise: Tensor | None = None) -> Denoise:
    """Inpainting with any model: outside the mask (1 = repaint) the estimate is the known latent (papers C.9).

    A deterministic step from it leaves there the known latent under what x holds of noise, scaled to the next level.
    With `noise` (like `known`) the network is shown known + sigma · noise there, whatever the sampler made of it.
    """

    def blended(x: Tensor, sigma: Tensor) -> Tensor:
        m, z = mask.to(x), known.to(x)
        shown = x
        if noise is not None:
            shown = torch.lerp(z + torch.as_tensor(sigma).to(x).view(-1, 1, 1, 1) * noise.to(x), x, m)
        return torch.lerp(z, denoise(shown, sigma), m)

    return blended


def target_image(denoise: Denoise, loss: Callable[[Tensor], Tensor], strength: float) -> Denoise:
    """Post-hoc guidance by any differentiable comparison (papers C.6): x0 ← x0 − strength · sigma² · ∇_x loss(x0(x)).

    `loss` maps x0 (B, C, h, w) to (B,): −log p(y | x0). The gradient goes through the denoiser.
    """

    def guided(x: Tensor, sigma: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            leaf, level = _fresh(x, sigma)
            x0 = denoise(leaf, level)
            (gradient,) = torch.autograd.grad(loss(x0).sum(), leaf)
        s = torch.as_tensor(sigma).to(x).view(-1, 1, 1, 1)
        return x0.detach() - strength * s.square() * gradient

    return guided


def classifier(denoise: Denoise, log_p: Callable[[Tensor, Tensor], Tensor], scale: float) -> Denoise:
    """Towards a class (Dhariwal & Nichol 2021): D + scale · sigma² · ∇_x log p(y | x, sigma), log_p giving (B,)."""

    def guided(x: Tensor, sigma: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            leaf, level = _fresh(x, sigma)
            (gradient,) = torch.autograd.grad(log_p(leaf, level).sum(), leaf)
        s = torch.as_tensor(sigma).to(x).view(-1, 1, 1, 1)
        return denoise(x, sigma) + scale * s.square() * gradient

    return guided


def _fresh(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Copies that a gradient can go through, which tensors made in inference mode do not allow."""
    return x.detach().clone().requires_grad_(), torch.as_tensor(sigma).clone()
