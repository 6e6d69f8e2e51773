"""Objective: latent diffusion. The denoiser and the embedders that learn, on latents of a frozen first stage."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from darkroom.checkpoints.native import load_network, load_strict, load_system, read_network, save_system
from darkroom.conditioning.conditioner import Conditioner
from darkroom.data.source import COLOUR_NAMES, KIND_NAMES, PictureBook, PictureBookConfig, shuffled
from darkroom.diffusion.objective import DiffusionLossConfig, diffusion_loss
from darkroom.errors import insist
from darkroom.models.autoencoder import Autoencoder, AutoencoderConfig
from darkroom.models.unet import UNet
from darkroom.nn.blocks import group_norm
from darkroom.nn.lean import make_lean
from darkroom.pictures.images import grid
from darkroom.pixels import to_bytes, to_tensor
from darkroom.requests.plan import side_step
from darkroom.systems.build import build
from darkroom.systems.system import SYSTEMS, System
from darkroom.training.config import LoopConfig
from darkroom.training.objective import Loss
from darkroom.training.row_cache import RowCache
from darkroom.training.run_folder import natural_precision
from darkroom.training.text import text_config

__all__ = ["DiffusionObjective", "DiffusionRecipe", "ThingsHead", "latent_cache", "maps_cache"]

NOISE_BANDS = ((0, 249), (250, 499), (500, 699), (700, 849), (850, 998), (999, 999))  # of timesteps, for the log
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
    text: Path | None = None  # go on from this text transformer, as the text recipe exports it
    things_weight: float = 0.0  # of `ThingsHead`'s loss
    kind: Literal["diffusion"] = "diffusion"

    def __post_init__(self) -> None:
        insist(len(self.prompts) > 0, "prompts", "empty", "at least one sentence")
        insist(math.isfinite(self.guidance), "guidance", self.guidance, "a number")
        insist(0 <= self.things_weight < math.inf, "things_weight", self.things_weight, "a number from 0 up")
        step = side_step(SYSTEMS[self.system])
        insist(self.data.size % step == 0, "data.size", self.data.size, f"a multiple of {step} for {self.system}")


def latent_cache(folder: Path, autoencoder: Autoencoder, data: PictureBook, *, half: bool) -> RowCache:
    """Unscaled latents of a source's pictures, the posterior's mean, as float16.

    `half`: encode in bf16. Latents of the two precisions lie in two files, so that what a run reads does not depend on
    who encoded first.
    """
    side = data.config.size // autoencoder.config.factor
    # The encoder alone: a decoder that was trained further leaves the latents as they are.
    parts = (autoencoder.encoder, autoencoder.quant_conv)
    weights = b"".join(p.detach().float().numpy().tobytes() for part in parts for p in part.parameters())
    name = hashlib.sha256(weights + data.scenes.encode()).hexdigest()[:16]

    def encode(numbers: list[int]) -> np.ndarray:
        device = autoencoder.last_layer.device
        images = to_tensor(np.stack([data.image(i) for i in numbers])).to(device)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=half):
            return autoencoder.encode(images.contiguous(memory_format=torch.channels_last)).float().cpu().numpy()

    path = folder / f"latents-{name}{'' if half else '-fp32'}.f16"
    return RowCache(path, len(data), (autoencoder.config.latent_channels, side, side), np.float16, encode)


def maps_cache(folder: Path, data: PictureBook) -> RowCache:
    """What lies where in a source's pictures, uint8 (2, MAP_SIDE, MAP_SIDE): see `PictureBook.things_map`."""
    name = hashlib.sha256(data.scenes.encode()).hexdigest()[:16]

    def draw(numbers: list[int]) -> np.ndarray:
        return np.stack([data.things_map(i, MAP_SIDE) for i in numbers])

    return RowCache(folder / f"things-{name}.u8", len(data), (2, MAP_SIDE, MAP_SIDE), np.uint8, draw)


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
            load_strict(self.model.unet, learned.unet.state_dict(), recipe.initial)
            load_strict(self.model.conditioner, learned.conditioner.state_dict(), recipe.initial)
        if recipe.text is not None:
            embedder: Any = self.model.conditioner.embedders["caption"]
            load_network(embedder, text_config(system), recipe.text)
        self.networks = nn.ModuleDict({"unet": self.model.unet, "conditioner": self.model.conditioner})
        self.things_head = ThingsHead(self.model.unet) if recipe.things_weight else None
        if self.things_head is not None:
            self.networks["things_head"] = self.things_head
        precision = recipe.loop.precision
        if precision == "auto":
            precision = natural_precision(recipe.loop.device)
        self.latents = latent_cache(recipe.cache, self.model.autoencoder, self.data, half=precision == "bf16")
        self.maps = maps_cache(recipe.cache, self.data) if self.things_head is not None else None
        self.scale = system.latent_scale

    @property
    def conditioner(self) -> Conditioner:
        return self.model.conditioner

    def optimisers(self) -> dict[str, list[nn.Parameter]]:
        return {"diffusion": [p for p in self.networks.parameters() if p.requires_grad]}

    def batch(self, index: int, size: int) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        places = shuffled(len(self.data), self.recipe.loop.seed, index, size)
        numbers = [number for _, number in places]
        latents = torch.from_numpy(self.latents.get(numbers).astype(np.float32))
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
        maps = None if self.maps is None else torch.from_numpy(self.maps.get(numbers))
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
        log = {
            f"loss at t {low}-{high}": loss.detach()[among].mean()
            for low, high in NOISE_BANDS
            if (among := (low <= t) & (t <= high)).any()
        }
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
    load_strict(autoencoder, state, path)
    make_lean(autoencoder)
    return autoencoder
