"""Guidance: how the estimates of one step become one (tensors in, tensor out), and wrappers of a denoiser.

All estimates of x0 are (B, C, h, w), `x` is the latent that they were made from, `sigma` its level, a scalar or (B,).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from darkroom.errors import InputError
from darkroom.types import Denoise

__all__ = [
    "AdaptiveProjected",
    "WithUncond",
    "classifier",
    "classifier_free",
    "composed",
    "dynamic_threshold",
    "known_region",
    "regional",
    "rescaled",
    "target_image",
]

AXES = (1, 2, 3)  # all but the batch


def classifier_free(cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """D_u + scale · (D_c − D_u) (papers C.5)."""
    return torch.lerp(uncond, cond, scale)


def rescaled(guided: Tensor, cond: Tensor, x: Tensor, sigma: Tensor, phi: float) -> Tensor:
    """`guided` with the spread of the conditional velocity (Lin et al. 2023).

    The share `phi` of the guided velocity is brought to the conditional one's standard deviation per picture; about 0.7
    for models of zero terminal SNR.
    """
    # v = (x c_skip − D) / (s · rsqrt): its spread is compared where the network's own output lives.
    skip = x / (_column(sigma, x).square() + 1)
    v_cond, v = skip - cond, skip - guided
    ratio = v_cond.std(dim=AXES, keepdim=True) / v.std(dim=AXES, keepdim=True).clamp(min=1e-12)
    return skip - (phi * v * ratio + (1 - phi) * v)


def dynamic_threshold(x0: Tensor, percentile: float, *, limit: float = 1.0, like: Tensor | None = None) -> Tensor:
    """Values of x0 beyond the percentile s of each picture are clipped and the picture divided by s / limit.

    Imagen's rule (Saharia et al. 2022, section 2.3) for values meant to lie in ±limit. Latents have no such range, and
    their channels lie around means of their own: with `like`, mostly the conditional estimate, each channel is taken
    around its mean, and what `like` reaches there is its limit (mcmonkey4eva's dynamic thresholding for latents).
    """

    def reach(values: Tensor) -> Tensor:
        """(B, 1, 1, 1), with `like` (B, C, 1, 1)."""
        flat = values.abs().flatten(1 if like is None else 2)
        return torch.quantile(flat.float(), percentile, dim=-1).to(x0).view(len(x0), -1, 1, 1)

    if like is None:
        middle, most = torch.zeros_like(x0[:1, :1, :1, :1]), torch.full_like(reach(x0), limit)
    else:
        middle = x0.mean(dim=(2, 3), keepdim=True)
        most = reach(like - like.mean(dim=(2, 3), keepdim=True))
    around = x0 - middle
    s = torch.maximum(reach(around), most).clamp(min=1e-12)
    return middle + around.clamp(-s, s) / s * most


class AdaptiveProjected:
    """Adaptive projected guidance (Sadat et al. 2024): high scales without oversaturation. Has a state: one per run."""

    def __init__(
        self,
        *,
        parallel: float = 0.0,  # how much of the update along D_c is kept
        norm: float | None = 15.0,  # the update's norm per picture is limited to this
        momentum: float = -0.5,  # of the running mean of updates
    ) -> None:
        self.parallel, self.norm, self.momentum = parallel, norm, momentum
        self.mean: Tensor | None = None

    def __call__(self, cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
        update = cond - uncond
        self.mean = update if self.mean is None else update + self.momentum * self.mean
        d = self.mean
        if self.norm is not None:
            size = d.square().sum(dim=AXES, keepdim=True).sqrt()
            d = d * (self.norm / size.clamp(min=1e-12)).clamp(max=1.0)
        direction = cond / cond.square().sum(dim=AXES, keepdim=True).sqrt().clamp(min=1e-12)
        along = (d * direction).sum(dim=AXES, keepdim=True) * direction
        return cond + (scale - 1) * (d - along + self.parallel * along)


def composed(uncond: Tensor, parts: Sequence[tuple[Tensor, float]]) -> Tensor:
    """A1111's AND: D_u + Σ weight (D_i − D_u) (Liu et al. 2022, composable diffusion)."""
    return uncond + sum((weight * (part - uncond) for part, weight in parts), start=torch.zeros_like(uncond))


def regional(parts: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Each estimate rules where its mask (B or 1, 1, h, w) of weights is; weights are made to add up to one."""
    total = sum((mask for _, mask in parts[1:]), start=parts[0][1])
    if (total <= 0).any():
        raise InputError("the regions leave a part of the picture without a prompt")
    return sum((part * (mask / total) for part, mask in parts), start=torch.zeros_like(parts[0][0]))


def known_region(denoise: Denoise, known: Tensor, mask: Tensor, noise: Tensor | None = None) -> Denoise:
    """Inpainting with any model: outside the mask (1 = repaint) the estimate is the known latent (papers C.9).

    A deterministic step from it leaves there the known latent under what x holds of noise, scaled to the next level.
    With `noise` (like `known`) the network is shown known + sigma · noise there, whatever the sampler made of it.
    """

    def blended(x: Tensor, sigma: Tensor) -> Tensor:
        m, z = mask.to(x), known.to(x)
        shown = x if noise is None else torch.lerp(z + _column(sigma, x) * noise.to(x), x, m)
        return torch.lerp(z, denoise(shown, sigma), m)

    return blended


class WithUncond:
    """`denoise`, which may be wrapped many times, as samplers of CFG++ ask for it (`types.GuidedDenoise`).

    `uncond` tells the estimate without the prompt of the evaluation that `denoise` last made.
    """

    def __init__(self, denoise: Denoise, uncond: Callable[[], Tensor | None]) -> None:
        self.denoise, self.uncond = denoise, uncond

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.denoise(x, sigma)

    def both(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        x0 = self.denoise(x, sigma)
        uncond = self.uncond()
        assert uncond is not None, "the guide of such a sampler has a null row at every step"
        return x0, uncond


def target_image(denoise: Denoise, loss: Callable[[Tensor], Tensor], strength: float) -> Denoise:
    """Post-hoc guidance by any differentiable comparison (papers C.6): x0 ← x0 − strength · sigma² · ∇_x loss(x0(x)).

    `loss` maps x0 (B, C, h, w) to (B,): −log p(y | x0). The gradient goes through the denoiser.
    """

    def guided(x: Tensor, sigma: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            leaf, level = _fresh(x, sigma)
            x0 = denoise(leaf, level)
            (gradient,) = torch.autograd.grad(loss(x0).sum(), leaf)
        return x0.detach() - strength * _column(sigma, x).square() * gradient

    return guided


def classifier(denoise: Denoise, log_p: Callable[[Tensor, Tensor], Tensor], scale: float) -> Denoise:
    """Towards a class (Dhariwal & Nichol 2021): D + scale · sigma² · ∇_x log p(y | x, sigma), log_p giving (B,)."""

    def guided(x: Tensor, sigma: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            leaf, level = _fresh(x, sigma)
            (gradient,) = torch.autograd.grad(log_p(leaf, level).sum(), leaf)
        return denoise(x, sigma) + scale * _column(sigma, x).square() * gradient

    return guided


def _column(sigma: Tensor, like: Tensor) -> Tensor:
    """The level as (1 or B, 1, 1, 1) beside a latent."""
    return torch.as_tensor(sigma).to(like).view(-1, 1, 1, 1)


def _fresh(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Copies that a gradient can go through, which tensors made in inference mode do not allow."""
    return x.detach().clone().requires_grad_(), torch.as_tensor(sigma).clone()
