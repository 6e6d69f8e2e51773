"""Objective: the first stage. Reconstruction, perceptual, KL or VQ, and patch-adversarial losses (papers B.2)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.checkpoints.native import load_strict, require_same, write_network
from darkroom.data.buckets import BucketConfig
from darkroom.data.catalog import DatasetConfig
from darkroom.data.order import Place
from darkroom.data.reader import Reader
from darkroom.data.source import PictureBook, PictureBookConfig
from darkroom.diffusion.draws import RowDraws
from darkroom.errors import InputError, cause, require
from darkroom.models.autoencoder import Autoencoder, AutoencoderConfig
from darkroom.models.bottleneck import Posterior
from darkroom.models.discriminator import PatchDiscriminator
from darkroom.pictures.images import grid
from darkroom.pixels import to_bytes, to_tensor
from darkroom.systems.picturebook import PICTUREBOOK
from darkroom.systems.system import FIRST_STAGES
from darkroom.training.config import LoopConfig
from darkroom.training.first_codes import begin_codes, pictures_for_codes
from darkroom.training.model_ref import read_first_stage
from darkroom.training.objective import Loss, StepContext
from darkroom.training.perceptual import load_distance
from darkroom.training.recipe_data import check_sizes, first_pictures, open_readers
from darkroom.training.validation import Validation, ValidationConfig, fixed_batches

__all__ = [
    "AutoencoderObjective",
    "AutoencoderRecipe",
    "ErrorVariance",
    "adaptive_weight",
    "discriminator_loss",
    "gradient_loss",
]

STANDARD = 512  # pictures over which the exported latents have unit variance


@dataclass(frozen=True)
class AutoencoderRecipe:
    """Weights are relative to losses meaned over all numbers of a picture."""

    loop: LoopConfig
    data: DatasetConfig
    kl_weight: float  # per number of the picture; the papers' 1e-6 is relative to sums over picture and latent
    perceptual: Path | None = None  # LPIPS weights, or a classifier that the classifier recipe exported
    perceptual_weight: float = 0.0
    absolute_weight: float = 1.0  # of the L1 loss
    squared_weight: float = 0.0  # of the mean squared error, in which few pixels far off count for more
    gradient_weight: float = 0.0  # of the L1 loss of differences between neighbors, at full and half resolution
    learned_variance: bool = False  # the spread of the reconstruction's error is learned beside it (papers B.2)
    discriminator_start: int = 1_000_000_000  # step; the steps count of the loop or more: never
    discriminator_weight: float = 0.5
    discriminator_loss: Literal["hinge", "vanilla"] = "hinge"  # vanilla: binary cross-entropy on logits
    discriminator_layers: int = 3
    discriminator_channels: int = 64
    buckets: BucketConfig | None = None  # sizes for pictures of any size
    first_stage: str | None = None  # a published one by name, kl-f8 say, built anew
    model: AutoencoderConfig | None = None  # all of its numbers instead; neither: the picture-book system's first stage
    init_from: str | None = None  # go on from this exported first stage, or from that of a model, as `-m` takes it …
    decoder_only: bool = False  # … leaving its latents as they are (as SD's fine-tuned decoders do, papers B.5)
    latent_noise: float = 0.0  # spread of extra noise on the latents: a decoder that forgives a denoiser's errors
    validation: ValidationConfig | None = None  # on samples that are never trained on
    kind: Literal["autoencoder"] = "autoencoder"

    def __post_init__(self) -> None:
        for name in (
            "perceptual_weight",
            "absolute_weight",
            "squared_weight",
            "gradient_weight",
            "kl_weight",
            "discriminator_weight",
            "latent_noise",
        ):
            require(0 <= getattr(self, name) < math.inf, name, getattr(self, name), "a number from 0 up")
        require(self.discriminator_start >= 0, "discriminator_start", self.discriminator_start, "0 or more")
        for name in ("discriminator_layers", "discriminator_channels"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        # The discriminator's last two convolutions, the perceptual network's last pooling must have something left.
        factor, least = self.stage.factor, max(16, 3 * 2**self.discriminator_layers)
        check_sizes(self.data, self.buckets, factor, least)

    @property
    def stage(self) -> AutoencoderConfig:
        named = None if self.first_stage is None else FIRST_STAGES[self.first_stage].autoencoder
        return self.model or named or PICTUREBOOK.autoencoder


class AutoencoderObjective:
    """Two players: `autoencoder` and, from `discriminator_start` on, `discriminator`."""

    ema = ("autoencoder",)

    def __init__(self, recipe: AutoencoderRecipe) -> None:
        self.recipe = recipe
        self.reader, held = open_readers(recipe.data, recipe.buckets, recipe.loop, recipe.validation)
        self.autoencoder = _built(recipe.stage)
        if recipe.init_from is not None:
            _go_on_from(recipe.init_from, self.autoencoder)
        elif self.autoencoder.quantizer is not None:
            self._begin_codes()
        if recipe.decoder_only:
            self.autoencoder.encoder.requires_grad_(False)
            self.autoencoder.quant_conv.requires_grad_(False)
        self.discriminator = PatchDiscriminator(recipe.discriminator_layers, recipe.discriminator_channels)
        self.trained = nn.ModuleDict({"autoencoder": self.autoencoder, "discriminator": self.discriminator})
        self.variance: ErrorVariance | None = None
        if recipe.learned_variance:
            self.variance = self.trained["variance"] = ErrorVariance()
        self.frozen = nn.ModuleDict()
        self.distance = None if recipe.perceptual is None else load_distance(recipe.perceptual, recipe.loop.device)
        self.validation = self._validation(held)

    def _begin_codes(self) -> None:
        size = max(self.reader.buckets, key=lambda s: len(self.reader.buckets[s]))
        count = pictures_for_codes(self.autoencoder, size.height * size.width)
        begin_codes(self.autoencoder, to_tensor(np.stack(first_pictures(self.reader, count))))

    def _validation(self, reader: Reader | None) -> Validation | None:
        """What is lost of pictures, as the recipe weighs it without the discriminator, and their PSNR."""
        asked = self.recipe.validation
        if asked is None or reader is None:
            return None

        def measure(places: Sequence[Place]) -> Mapping[str, Tensor]:
            images = to_tensor(np.stack([reader.read(place).image for place in places]))
            reader.drain()
            images = images.to(self.autoencoder.last_layer.device)
            decoded = self.autoencoder(images).float()
            loss = torch.stack([self._lost(a[None], b[None], {}) for a, b in zip(images, decoded)])
            squared = (images - decoded.clamp(-1, 1)).square().flatten(1).mean(dim=1).clamp(min=1e-10)
            return {"loss": loss, "PSNR": 10 * torch.log10(4 / squared)}

        return Validation(asked.every, fixed_batches(reader, asked.count, self.recipe.loop.batch_size), measure)

    def optimizers(self) -> dict[str, list[nn.Parameter]]:
        return {
            "autoencoder": [
                *(p for p in self.autoencoder.parameters() if p.requires_grad),
                *(self.variance.parameters() if self.variance is not None else ()),
            ],
            "discriminator": list(self.discriminator.parameters()),
        }

    def batch(self, places: Sequence[Place]) -> Tensor:
        return to_tensor(np.stack([self.reader.read(place).image for place in places]))

    def losses(self, batch: Tensor, context: StepContext) -> Iterator[Loss]:
        images = batch.to(self.autoencoder.last_layer.device)
        decoded, regulariser, log = self._reconstruct(images, context.draws)
        decoded = decoded.float()
        reconstruction = self._lost(images, decoded, log)
        if self.variance is not None:
            log["log variance"] = self.variance.log.detach().clone()
            reconstruction = self.variance(reconstruction)
        loss = reconstruction + regulariser
        adversarial = context.step >= self.recipe.discriminator_start
        if adversarial:
            self.discriminator.requires_grad_(False)
            generated = -self.discriminator(decoded).float().mean()
            weight = adaptive_weight(reconstruction, generated, self.autoencoder.last_layer)
            log["adaptive weight"] = weight
            loss = loss + self.recipe.discriminator_weight * weight * generated
        yield Loss("autoencoder", loss, log)
        if adversarial:
            self.discriminator.requires_grad_(True)
            real, fake = self.discriminator(images).float(), self.discriminator(decoded.detach()).float()
            told = discriminator_loss(real, fake, self.recipe.discriminator_loss)
            yield Loss(
                "discriminator", told, {"logits/real": real.detach().mean(), "logits/fake": fake.detach().mean()}
            )

    def _lost(self, images: Tensor, decoded: Tensor, log: dict[str, float | Tensor]) -> Tensor:
        """The weighted distances of pictures, whose parts are put into `log`."""
        absolute = (images - decoded).abs().mean()
        log["l1"] = absolute.detach()
        reconstruction = self.recipe.absolute_weight * absolute
        if self.recipe.squared_weight:
            squared = (images - decoded).square().mean()
            log["squared"] = squared.detach()
            reconstruction = reconstruction + self.recipe.squared_weight * squared
        if self.recipe.gradient_weight:
            reconstruction = reconstruction + self.recipe.gradient_weight * gradient_loss(images, decoded)
        if self.distance is not None:
            perceptual = self.distance(images, decoded).mean()
            log["perceptual"] = perceptual.detach()
            reconstruction = reconstruction + self.recipe.perceptual_weight * perceptual
        return reconstruction

    def _reconstruct(self, images: Tensor, draws: RowDraws) -> tuple[Tensor, Tensor, dict[str, float | Tensor]]:
        """Decoded images, the weighted regulariser, and numbers for the log."""
        moments = self.autoencoder.moments(images)
        if self.autoencoder.quantizer is not None:
            quantized = self.autoencoder.quantizer(moments.float())
            decoded = self.autoencoder.decode_unquantized(quantized.z)
            return decoded, quantized.loss, {"codes in use": quantized.perplexity.detach()}
        posterior = Posterior.from_moments(moments.float())
        latents = posterior.sample(draws.normal(*posterior.mean.shape[1:]).to(posterior.mean))
        if self.recipe.latent_noise:
            noise = draws.normal(*latents.shape[1:]).to(latents)
            # Of a spread drawn for each picture, so that exact latents are still decoded exactly.
            spread = draws.uniform(1, 1, 1).to(latents)
            latents = latents + self.recipe.latent_noise * spread * noise
        decoded = self.autoencoder.decode_unquantized(latents)
        kl = posterior.kl().mean() / images[0].numel()
        return decoded, self.recipe.kl_weight * kl, {"kl": kl.detach(), "latent std": posterior.mean.detach().std()}

    def samples(self) -> np.ndarray | None:
        """Eight pictures above their reconstructions: scenes that training does not see, or the first of the data."""
        if isinstance(self.recipe.data, PictureBookConfig):
            unseen = PictureBook(PictureBookConfig(self.recipe.data.size, 8, seed=987_654_321))
            images = np.stack([unseen.image(i) for i in range(8)])
        else:
            images = np.stack(first_pictures(self.reader, 8))
        decoded = self.autoencoder(to_tensor(images).to(self.autoencoder.last_layer.device))
        return grid(np.concatenate([images, to_bytes(decoded)]), 8)

    def export(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        """Latents get mean 0 and variance 1, channel by channel, unless a denoiser knows them as they are."""
        if self.autoencoder.quantizer is None and not self.recipe.decoder_only:
            self.autoencoder.standardize_latents(*self._latent_statistics())
        write_network(folder / "autoencoder.safetensors", self.autoencoder, self.autoencoder.config, metadata)

    @torch.no_grad()
    def _latent_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each latent channel over the first STANDARD pictures of the run, or all there are."""
        order, size = self.reader.order, self.recipe.loop.batch_size
        steps = max(1, min(STANDARD, len(self.reader.dataset)) // order.batch_size)
        places = [place for step in range(steps) for place in order.batch(step)]
        count, total, squares = 0, torch.zeros(()), torch.zeros(())
        for start in range(0, len(places), size):
            # Of one size: a step holds whole batches.
            images = self.batch(places[start : start + size]).to(self.autoencoder.last_layer.device)
            latents = self.autoencoder.encode(images).double()
            count += latents[:, 0].numel()
            total = total.to(latents) + latents.sum(dim=(0, 2, 3))
            squares = squares.to(latents) + latents.square().sum(dim=(0, 2, 3))
        self.reader.drain()
        mean = total / count
        return mean.float(), (squares / count - mean.square()).sqrt().float()


def _go_on_from(name: str, autoencoder: Autoencoder) -> None:
    """Fill `autoencoder` from another one; features that correct pictures start fresh where it had none."""
    config, path = autoencoder.config, Path(name)
    found, state = read_first_stage(name)
    if found == replace(config, refine_channels=0) != config:
        fresh = autoencoder.state_dict()
        for name in ("decoder.conv_out.weight", "decoder.conv_out.bias"):  # the picture's rows come first
            state[name] = torch.cat([state[name], fresh[name][len(state[name]) :]])
        state = fresh | state
        found = config
    require_same(found, config, path)
    load_strict(autoencoder, state, path)


def _built(config: AutoencoderConfig) -> Autoencoder:
    try:
        return Autoencoder(config)
    except (ValueError, RuntimeError) as error:  # torch checks its layers itself
        raise InputError(f"the model of the recipe cannot be built: {cause(error)}") from None


class ErrorVariance(nn.Module):
    """exp(s), the spread of the reconstruction's error, one number for all pictures; s begins at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.zeros(()))

    def forward(self, reconstruction: Tensor) -> Tensor:
        """The negative log-likelihood: reconstruction / exp(s) + s, least where exp(s) is the error (papers B.2)."""
        return reconstruction / self.log.exp() + self.log


def discriminator_loss(real: Tensor, fake: Tensor, kind: Literal["hinge", "vanilla"]) -> Tensor:
    """What the discriminator loses by its logits of true and of decoded pictures, any shape (papers B.2)."""
    if kind == "hinge":
        return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())
    return 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())


def gradient_loss(images: Tensor, decoded: Tensor) -> Tensor:
    """Mean absolute error of differences between neighbors in both directions, at full and at half resolution."""
    error = decoded - images  # (B, 3, H, W)
    levels = [error, F.avg_pool2d(error, 2)]
    return torch.stack([e.diff(dim=d).abs().mean() for e in levels for d in (2, 3)]).mean()


def adaptive_weight(reconstruction: Tensor, generated: Tensor, last_layer: nn.Parameter) -> Tensor:
    """‖∂ reconstruction / ∂W‖ / (‖∂ generated / ∂W‖ + 1e-4), clamped to 0 … 1e4, a constant (papers B.2)."""
    (ours,) = torch.autograd.grad(reconstruction, last_layer, retain_graph=True)
    (theirs,) = torch.autograd.grad(generated, last_layer, retain_graph=True)
    return (ours.norm() / (theirs.norm() + 1e-4)).clamp(0, 1e4).detach()
