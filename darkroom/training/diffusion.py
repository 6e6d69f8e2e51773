"""Objective: latent diffusion. The denoiser and the embedders that learn, on latents of a frozen first stage."""

from __future__ import annotations

import functools
import hashlib
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from darkroom.conditioning.conditioner import Conditioner
from darkroom.data.source import COLOUR_NAMES, KIND_NAMES, PictureBook, PictureBookConfig, shuffled
from darkroom.diffusion.objective import DiffusionLossConfig, diffusion_loss
from darkroom.errors import InputError, insist
from darkroom.models.autoencoder import Autoencoder, AutoencoderConfig
from darkroom.models.unet import UNet
from darkroom.nn.blocks import group_norm
from darkroom.pictures.images import grid, to_bytes, to_tensor
from darkroom.requests.plan import side_step
from darkroom.systems.build import build
from darkroom.systems.native import load_system, save_system
from darkroom.systems.system import SYSTEMS, System
from darkroom.training.config import LoopConfig
from darkroom.training.export import fill, read_network
from darkroom.training.objective import Loss
from darkroom.training.run_folder import natural_precision

__all__ = ["DiffusionObjective", "DiffusionRecipe", "LatentCache", "ThingsHead"]

MAP_SIDE = 32  # of the maps that `ThingsHead` learns from: four places a side for each of the UNet's coarsest


@dataclass(frozen=True)
class DiffusionRecipe:
    loop: LoopConfig
    data: PictureBookConfig
    system: str  # a name of the catalogue
    autoencoder: Path  # as the autoencoder recipe exports it
    cache: Path  # where latents are kept, to be encoded once
    loss: DiffusionLossConfig
    prompts: tuple[str, ...]  # drawn during training, always with the same noise
    guidance: float
    initial: Path | None = None  # go on from this system's folder; None: fresh weights
    things_weight: float = 0.0  # of `ThingsHead`'s loss
    kind: Literal["diffusion"] = "diffusion"

    def __post_init__(self) -> None:
        insist(len(self.prompts) > 0, "prompts", "empty", "at least one sentence")
        insist(math.isfinite(self.guidance), "guidance", self.guidance, "a number")
        insist(0 <= self.things_weight < math.inf, "things_weight", self.things_weight, "a number from 0 up")
        step = side_step(SYSTEMS[self.system])
        insist(self.data.size % step == 0, "data.size", self.data.size, f"a multiple of {step} for {self.system}")


class LatentCache:
    """Latents of a source's pictures in a memory-mapped file, each encoded when it is first asked for.

    `half`: encode in bf16. Latents of the two precisions lie in two files, so that what a run reads does not depend on
    who encoded first.
    """

    def __init__(self, folder: Path, autoencoder: Autoencoder, data: PictureBook, *, half: bool) -> None:
        self.autoencoder, self.data, self.half = autoencoder, data, half
        above = next(p for p in (folder, *folder.absolute().parents) if p.exists())
        if not (above.is_dir() and os.access(above, os.W_OK)):
            raise InputError(f"latents cannot be kept in {folder}: {above} is no folder that can be written to")
        side = data.config.size // autoencoder.config.factor
        self.shape = (autoencoder.config.latent_channels, side, side)
        # The encoder alone: a decoder that was trained further leaves the latents as they are.
        halves = (autoencoder.encoder, autoencoder.quant_conv)
        weights = b"".join(p.detach().float().numpy().tobytes() for half in halves for p in half.parameters())
        name = hashlib.sha256(weights + repr(data.config).encode()).hexdigest()[:16]
        self.path = folder / f"latents-{name}{'' if half else '-fp32'}.f16"

    @functools.cached_property
    def rows(self) -> np.memmap:
        """(scenes, numbers of a latent + 1); the last number is 0, as in a fresh file, until the latent is there.

        Opened when first needed: a run that cannot begin leaves no file.
        """
        shape = (len(self.data), math.prod(self.shape) + 1)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return np.memmap(self.path, np.float16, "r+" if self.path.exists() else "w+", shape=shape)
        except (OSError, ValueError) as error:
            raise InputError(f"latents cannot be kept in {self.path}: {error}") from None

    def get(self, numbers: list[int]) -> Tensor:
        """Unscaled latents (B, C, h, w), float32: the posterior's mean."""
        missing = sorted({i for i in numbers if self.rows[i, -1] == 0})
        if missing:
            device = self.autoencoder.last_layer.device
            images = to_tensor(np.stack([self.data.image(i) for i in missing])).to(device)
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=self.half):
                fresh = self.autoencoder.encode(images.contiguous(memory_format=torch.channels_last))
            self.rows[missing, :-1] = fresh.float().flatten(1).cpu().numpy().astype(np.float16)
            self.rows[missing, -1] = 1
        return torch.from_numpy(self.rows[numbers, :-1].astype(np.float32)).view(len(numbers), *self.shape)


class ThingsHead(nn.Module):
    """Reads kinds and colours of things, place by place, off the UNet's features. Used in training only.

    What a denoiser's features know of a picture decides how well it draws (Yu et al. 2024, representation alignment).
    The picture-book world knows the truth about its pictures, so the features are held to that: even under full noise
    they must say what the caption promises.
    """

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        self.sizes = (1 + len(KIND_NAMES), 1 + len(COLOUR_NAMES))
        coarsest: Any = unet.up[0]
        width = unet.config.model_channels * unet.config.channel_mult[-1]
        self.norm = group_norm(width)
        self.out = nn.Conv2d(width, sum(self.sizes), 1)
        self.features: Tensor | None = None  # (B, width, h, w) of the UNet's last call
        coarsest.attentions[-1].register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        self.features = output

    def forward(self, maps: Tensor) -> Tensor:
        """Cross-entropies (2,) of kinds and colours, meaned over all places, for maps (B, 2, H, W)."""
        assert self.features is not None, "the UNet has not been called"
        logits = self.out(F.silu(self.norm(self.features))).float()
        kinds, colours = (x.log_softmax(dim=1) for x in logits.split(self.sizes, dim=1))
        losses = []
        for i, found in enumerate((kinds, colours)):
            shares = F.one_hot(maps[:, i].long(), self.sizes[i]).permute(0, 3, 1, 2).float()  # (B, names, H, W)
            shares = F.adaptive_avg_pool2d(shares, found.shape[-2:])
            losses.append(-(shares * found).sum(dim=1).mean())
        return torch.stack(losses)


class DiffusionObjective:
    ema = ("unet", "conditioner")

    def __init__(self, recipe: DiffusionRecipe) -> None:
        self.recipe = recipe
        self.data = PictureBook(recipe.data)
        system = SYSTEMS[recipe.system]
        first_stage = _first_stage(recipe.autoencoder, system)
        self.model = build(replace(system, autoencoder=first_stage.config))  # it may be of another width
        self.model.autoencoder = first_stage
        self.model.autoencoder.to(recipe.loop.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if recipe.initial is not None:
            learned = load_system(recipe.initial)
            fill(self.model.unet, learned.unet.state_dict(), recipe.initial)
            fill(self.model.conditioner, learned.conditioner.state_dict(), recipe.initial)
        self.networks = nn.ModuleDict({"unet": self.model.unet, "conditioner": self.model.conditioner})
        self.things_head = ThingsHead(self.model.unet) if recipe.things_weight else None
        if self.things_head is not None:
            self.networks["things_head"] = self.things_head
        precision = recipe.loop.precision
        if precision == "auto":
            precision = natural_precision(recipe.loop.device)
        self.cache = LatentCache(recipe.cache, self.model.autoencoder, self.data, half=precision == "bf16")
        self.scale = system.latent_scale

    @property
    def conditioner(self) -> Conditioner:
        return self.model.conditioner

    def optimisers(self) -> dict[str, list[nn.Parameter]]:
        return {"diffusion": [p for p in self.networks.parameters() if p.requires_grad]}

    def batch(self, index: int, size: int) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        places = shuffled(len(self.data), self.recipe.loop.seed, index, size)
        latents = self.cache.get([number for _, number in places])
        side = self.data.config.size
        inputs = [
            {
                "caption": self.data.caption(number, epoch)[0],
                "original_size": (side, side),
                "crop": (0, 0),
                "target_size": (side, side),
            }
            for epoch, number in places
        ]
        maps = None
        if self.things_head is not None:
            maps = torch.from_numpy(np.stack([self.data.things_map(n, MAP_SIDE) for _, n in places]))
        return latents * self.scale, self.conditioner.prepare(inputs), maps

    def losses(
        self, batch: tuple[Tensor, dict[str, Tensor], Tensor | None], step: int, generator: Generator
    ) -> Iterator[Loss]:
        latents, prepared, maps = batch
        device = self.model.device
        prepared = {k: t.to(device) for k, t in self.conditioner.drop(prepared, generator).items()}
        conditioning = self.conditioner(prepared)
        latents = latents.to(device).contiguous(memory_format=torch.channels_last)
        loss, t = diffusion_loss(
            self.model.process,
            lambda x, t: self.model.network(x, t, conditioning),
            latents,
            self.recipe.loss,
            generator,
        )
        early, late = loss[t < 500].detach(), loss[t >= 500].detach()
        log = {"loss at t<500": early.mean(), "loss at t>=500": late.mean()} if len(early) and len(late) else {}
        total = loss.mean()
        if self.things_head is not None and maps is not None:
            kinds, colours = self.things_head(maps.to(device))
            log |= {"kinds": kinds.detach(), "colours": colours.detach()}
            total = total + self.recipe.things_weight * (kinds + colours)
        yield Loss("diffusion", total, log)

    def pictures(self, generator: Generator) -> np.ndarray | None:
        """The recipe's prompts, 12 deterministic steps of Euler with guidance."""
        prompts = self.recipe.prompts
        inputs = [{"caption": p} for p in prompts]
        model, process = self.model, self.model.process
        told, untold = model.condition(inputs), model.condition([{} for _ in prompts])
        side = self.data.config.size // model.autoencoder.config.factor
        sigmas = process.t_to_sigma(torch.linspace(999, 0, 12)).float()
        noise = torch.randn((len(prompts), model.autoencoder.config.latent_channels, side, side), generator=generator)
        x = (noise * sigmas[0]).to(model.device)
        with_text, without = model.denoiser(told), model.denoiser(untold)
        for sigma, following in zip(sigmas, [*sigmas[1:], torch.tensor(0.0)]):
            x0 = without(x, sigma)
            x0 = x0 + self.recipe.guidance * (with_text(x, sigma) - x0)
            x = x0 + (x - x0) * (following / sigma)
        return grid(to_bytes(model.decode_latents(x)), 6)

    def export(self, folder: Path, facts: Mapping[str, Any]) -> None:
        save_system(self.model, folder, facts)


def _first_stage(path: Path, system: System) -> Autoencoder:
    """The first stage in the file at `path`, frozen; `InputError` if its latents are not what `system` denoises."""
    config, state = read_network(path, AutoencoderConfig)
    for name in ("factor", "latent_channels"):
        found, wanted = getattr(config, name), getattr(system.autoencoder, name)
        insist(found == wanted, f"the {name} of {path}", found, f"{wanted} for {system.name}")
    autoencoder = Autoencoder(config).eval().requires_grad_(False)
    fill(autoencoder, state, path)
    return autoencoder
