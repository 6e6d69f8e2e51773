"""From a description to a working system, and to files and back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from darkroom.conditioning.conditioner import Conditioner
from darkroom.conditioning.conditioning import Conditioning
from darkroom.diffusion.process import DiffusionProcess
from darkroom.errors import InputError
from darkroom.models.autoencoder import Autoencoder
from darkroom.models.deepcache import DeepFeatures, deepcache
from darkroom.models.unet import UNet
from darkroom.nn.attention import Context
from darkroom.nn.lean import make_lean
from darkroom.nn.token_merging import TokenMerging, token_merging
from darkroom.systems.empty import empty_modules
from darkroom.systems.system import EMBEDDERS, System
from darkroom.systems.tiling import tiled
from darkroom.types import Denoise

__all__ = ["Attach", "LatentDiffusion", "RunFeatures", "build"]

_LOG = logging.getLogger(__name__)

# What is attached to the UNet for one call, made of its scaled latents (B, C, h, w) and timesteps (B,).
Attach = Callable[[Tensor, Tensor], AbstractContextManager[None]]


@dataclass(frozen=True, eq=False)
class RunFeatures:
    """What one run keeps of the network's features, faster and inexact: a state, which belongs to its rows alone."""

    reuse: DeepFeatures | None
    merging: TokenMerging | None

    @staticmethod
    def of(deepcache_interval: int, tome_ratio: float) -> RunFeatures | None:
        """`deepcache_interval`: deep levels are computed at every so-many-th evaluation. `tome_ratio`: the share of
        tokens merged into others before self-attention at the finest level. None where both are off.
        """
        if deepcache_interval == 1 and tome_ratio == 0:
            return None
        return RunFeatures(
            DeepFeatures(deepcache_interval) if deepcache_interval > 1 else None,
            TokenMerging(tome_ratio) if tome_ratio > 0 else None,
        )


class LatentDiffusion(nn.Module):
    """The four parts of a system, fitted together. Latents are scaled here and nowhere else."""

    def __init__(self, system: System) -> None:
        super().__init__()
        self.spares_memory = False  # parts may leave memory while others work
        self.compiled = False  # the UNet's blocks are compiled and take no live adapters
        self.unet = UNet(system.unet)
        self.autoencoder = Autoencoder(system.autoencoder)
        self.conditioner = Conditioner([EMBEDDERS[type(config)](config) for config in system.embedders])
        make_lean(self)
        self.become(system)
        self.conditioner.use_first_stage(self.encode_images)

    def become(self, system: System) -> None:
        """Be `system`, which describes the same networks, perhaps with another schedule, prediction or defaults."""
        self.system = system
        with torch.device("cpu"):  # tables stay real when the networks are built without storage
            self.process = DiffusionProcess(system.schedule, system.prediction)

    @property
    def device(self) -> torch.device:
        return self.unet.conv_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.conv_in.weight.dtype

    def condition(
        self, inputs: Sequence[Mapping[str, Any]], *, emphasis: str = "a1111", clip_skip: int | None = None
    ) -> Conditioning:
        """The conditioning of B rows, each a mapping of inputs by embedder key; no row depends on the others.

        `emphasis`: how weighted words act; `clip_skip`: the last layer of CLIP's text encoder, counted from its end.
        """
        return self.conditioner.condition(inputs, emphasis=emphasis, clip_skip=clip_skip, device=self.device)

    def network(self, x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """The raw prediction for scaled input x (B, C, h, w) at timesteps t (B,)."""
        return self.unet(_beside(x, conditioning.channels), t, conditioning.tokens, conditioning.vector)

    def denoiser(
        self,
        conditioning: Conditioning,
        *,
        context: Context | None = None,
        features: RunFeatures | None = None,
        attach: Attach | None = None,
    ) -> Denoise:
        """The estimate of clean latents under `conditioning`, as samplers expect it.

        `context`: its tokens with what layers have made of them, for who calls often. `features`: what the run keeps
        between its steps. `attach`: what control networks give to each call.
        """
        if context is None and conditioning.tokens is not None:
            context = Context(conditioning.tokens)
        reuse, merging = (None, None) if features is None else (features.reuse, features.merging)

        def network(x: Tensor, t: Tensor) -> Tensor:
            given = nullcontext() if attach is None else attach(x, t)
            with deepcache(self.unet, reuse), token_merging(self.unet.merging_transformers, merging), given:
                return self.unet(_beside(x, conditioning.channels), t, context, conditioning.vector)

        return self.process.denoiser(network)

    def encode_images(self, images: Tensor, noise: Tensor | None = None, *, tile: int | None = None) -> Tensor:
        """Images (B, 3, H, W) in [−1, 1] to scaled latents (B, C, H/f, W/f).

        `tile`: side in latent positions of tiles that share a quarter, for pictures that memory does not hold at once;
        only without `noise`.
        """
        if tile is not None and noise is None:
            f = self.autoencoder.config.factor
            return tiled(self.encode_images, images, tile * f, tile // 4 * f, Fraction(1, f))
        self.widen_overflowing_stage()
        return self._finite(
            lambda: self.autoencoder.encode(images, noise) * self.system.latent_scale, "encoder", "this picture"
        )

    def decode_latents(self, latents: Tensor, *, tile: int | None = None) -> Tensor:
        """Scaled latents to images in [−1, 1] (not clamped); `tile` as in `encode_images`."""
        if tile is not None:
            return tiled(self.decode_latents, latents, tile, tile // 4, self.autoencoder.config.factor)
        self.widen_overflowing_stage()
        return self._finite(
            lambda: self.autoencoder.decode(latents / self.system.latent_scale), "decoder", "these latents"
        )

    def _finite(self, run: Callable[[], Tensor], half: str, given: str) -> Tensor:
        """What `run`, one half of the first stage, gives. Where it overflows it runs again in float32, now and from
        here on; `InputError` if that does not help."""
        result = run()
        if result.is_meta or result.isfinite().all():
            return result
        kind = self.autoencoder.quant_conv.weight.dtype
        if kind != torch.float32:
            _LOG.warning("the first stage's %s overflows in %s and runs in float32 from here on", half, kind)
            self.autoencoder.float()
            result = run()
            if result.isfinite().all():
                return result
        raise InputError(f"the first stage's {half} gives NaN or infinite values for {given}: is its file damaged?")

    def widen_overflowing_stage(self) -> None:
        """Make the autoencoder float32 where float16 would give black pictures; done by its first use, too."""
        if self.system.force_upcast and self.autoencoder.quant_conv.weight.dtype == torch.float16:
            self.autoencoder.float()


def _beside(x: Tensor, channels: Tensor | None) -> Tensor:
    return x if channels is None else torch.cat([x, channels.to(x.dtype)], dim=1)


def build(system: System, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> LatentDiffusion:
    """The modules of `system` with fresh weights; on device "meta" without storage, for weights to be assigned."""
    with empty_modules() if torch.device(device).type == "meta" else torch.device(device):
        model = LatentDiffusion(system)
    return model.to(dtype) if dtype is not None else model
