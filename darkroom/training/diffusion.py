"""Objective: latent diffusion. The denoiser and the embedders that learn, on latents of a frozen first stage."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from darkroom.checkpoints.native import load_network, save_system
from darkroom.data.buckets import BucketConfig
from darkroom.data.catalog import DatasetConfig, open_dataset
from darkroom.data.dataset import Dataset, captions_of
from darkroom.data.degradation import DegradationConfig
from darkroom.data.masks import MaskConfig
from darkroom.data.order import Place
from darkroom.data.reader import Reader
from darkroom.data.source import PictureBook, PictureBookConfig
from darkroom.diffusion.draws import RowDraws, sample_seed
from darkroom.diffusion.objective import DiffusionLossConfig, diffusion_loss
from darkroom.diffusion.prediction import Prediction
from darkroom.errors import require
from darkroom.requests.change import changed
from darkroom.requests.plan import side_step
from darkroom.systems.build import LatentDiffusion
from darkroom.systems.system_file import find_system
from darkroom.training.adapters import AdapterConfig, as_module, attach_trained, write_adapters
from darkroom.training.config import LoopConfig
from darkroom.training.drawn_prompts import draw_prompts, prompt_requests
from darkroom.training.embedder_inputs import InputMaker
from darkroom.training.kohya_metadata import data_metadata
from darkroom.training.latent_rows import LatentBatch, LatentRows
from darkroom.training.learned_word import EmbeddingConfig, LearnedWord, write_embedding
from darkroom.training.log_variance import LogVariance
from darkroom.training.model_ref import FRESH, let_learn, load_model_ref, require_known, system_of
from darkroom.training.objective import Loss, StepContext
from darkroom.training.prior import PriorConfig, with_prior
from darkroom.training.recipe_data import buckets_of, check_cached_crops, check_sizes, open_readers
from darkroom.training.retarget import changed_system, frozen_keys, trained_as, with_frozen_networks
from darkroom.training.run_folder import natural_precision
from darkroom.training.sample_metrics import MetricsConfig, SampleSet
from darkroom.training.text import text_config
from darkroom.training.text_cache import give_back_text, keep_text
from darkroom.training.things_head import ThingsHead, ThingsMaps
from darkroom.training.validation import Validation, ValidationConfig, even_shares, fixed_batches
from darkroom.types import Request, Size

__all__ = ["DiffusionObjective", "DiffusionRecipe"]

NOISE_BANDS = ((0, 249), (250, 499), (500, 699), (700, 849), (850, 998), (999, 999))  # of timesteps, for the log
SAMPLE_STEPS = 12
FEW_STEPS = 4  # of models that were distilled


@dataclass(frozen=True)
class DiffusionRecipe:
    loop: LoopConfig
    data: DatasetConfig
    model: str  # to begin with: a file, folder, hub id or name, as `-m` takes it, or NAME:fresh for new weights
    system: str | None = None  # to train the model as: a name or a file; what it reads more begins at zero
    embedders_from: str | None = None  # a model whose frozen networks read what is new: depth estimator, vision tower
    prediction: Prediction | None = None  # of the network, where it is to learn another than the system's
    zero_terminal_snr: bool | None = None  # the last timestep is pure noise (arXiv:2305.08891); None: as the system's
    drop_rates: Mapping[str, float] = field(default_factory=dict)  # by input, in place of the system's
    masks: MaskConfig | None = None  # drawn on the fly for inpainting
    degradation: DegradationConfig | None = None  # of the small pictures that super-resolution reads; None: bicubic
    buckets: BucketConfig | None = None  # sizes for pictures of any size
    vae: str | None = None  # another first stage: a recipe's export, a file or folder of any layout
    ema: Literal["auto", "yes", "no"] = "auto"  # whether to begin with the averaged weights that a checkpoint holds
    text: Path | None = None  # read captions by this text transformer, as the text recipe exports it; it learns no more
    adapter: AdapterConfig | None = None  # train a LoRA in place of the weights
    embedding: EmbeddingConfig | None = None  # or the vectors of a word alone (textual inversion)
    prior: PriorConfig | None = None  # pictures of the class, drawn by the model, beside one's own (DreamBooth)
    latent_cache: Path | None = None  # where latents are kept, to be encoded once; None: encoded each time
    text_cache: Path | None = None  # where features of captions are kept, so that no text encoder stays in memory
    loss: DiffusionLossConfig = field(default_factory=DiffusionLossConfig)
    prompts: tuple[str, ...] = ()  # drawn during training, always with the same noise
    samples: dict[str, Any] = field(default_factory=dict)  # how they are drawn: settings by name; the seed is the run's
    validation: ValidationConfig | None = None  # on samples that are never trained on
    metrics: MetricsConfig | None = None  # of pictures drawn at intervals
    things_weight: float = 0.0  # of `ThingsHead`'s loss; on scenes of the picture-book world only
    kind: Literal["diffusion"] = "diffusion"

    def __post_init__(self) -> None:
        require_known(self.model)
        if self.system is not None:
            find_system(self.system)
        both = self.adapter is not None and self.embedding is not None
        require(not both, "embedding", "given", "nothing beside adapter")
        unnamed = self.metrics is None or self.embedding is None
        require(unnamed, "metrics", "given", "nothing beside embedding, whose word no caption says")
        changed(Request(), self.samples)  # refuses unknown names and wrong values before anything is read
        require(0 <= self.things_weight < math.inf, "things_weight", self.things_weight, "a number from 0 up")
        scenes = isinstance(self.data, PictureBookConfig)
        require(scenes or not self.things_weight, "things_weight", self.things_weight, "0 for data other than scenes")
        check_cached_crops(self.latent_cache, self.data, self.buckets)
        if self.text_cache is not None:
            learns = self.embedding is not None or (self.adapter is not None and self.adapter.text)
            require(not learns, "text_cache", "given", "nothing where the text encoder learns")
        buckets_of(self.data, self.buckets)
        if (system := system_of(self.model)) is not None:
            check_sizes(self.data, self.buckets, side_step(system), side_step(system))


@dataclass(frozen=True)
class DiffusionBatch:
    rows: LatentBatch
    things: Tensor | None  # of `ThingsMaps`


class DiffusionObjective:
    def __init__(self, recipe: DiffusionRecipe) -> None:
        self.recipe = recipe
        self.model = _begun(recipe)
        step = side_step(self.model.system)
        check_sizes(recipe.data, buckets_of(recipe.data, recipe.buckets), step, step)
        dataset = self._data() or open_dataset(recipe.data)
        self.reader, held = open_readers(recipe.data, recipe.buckets, recipe.loop, recipe.validation, dataset)
        self.embedders = self.model.conditioner.embedders
        if recipe.text is not None:
            load_network(self.embedders["caption"], text_config(self.model.system), recipe.text)
            # Beside a denoiser it soon forgets what that does not use yet, such as sides, which are then never learned.
            self.embedders["caption"].requires_grad_(False)
        precision = recipe.loop.precision
        half = (natural_precision(recipe.loop.device) if precision == "auto" else precision) == "bf16"
        self.metrics = recipe.metrics and SampleSet(self.model, held or self.reader, recipe.metrics, self._asked())
        if recipe.text_cache is not None:
            self._keep_text(recipe.text_cache, dataset, half=half)
        self._share_out()
        self.model.autoencoder.to(recipe.loop.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        inputs = InputMaker(
            self.model.system, recipe.masks, recipe.degradation or DegradationConfig(), self.word and self.word.tokens
        )
        self.rows = LatentRows(self.model, self.reader, recipe.latent_cache, inputs, half=half)
        self.validation = self._validation(held, inputs)

    def _data(self) -> Dataset | None:
        """One's own pictures beside those of the class; None where the recipe's data are all."""
        recipe = self.recipe
        if recipe.prior is None:
            return None
        side = self.model.system.defaults
        size = Size(side.height, side.width)
        if recipe.buckets is not None:
            size = Size(recipe.buckets.resolution, recipe.buckets.resolution)
        self.model.to(recipe.loop.device)
        return with_prior(open_dataset(recipe.data), recipe.prior, self.model, size)

    def _keep_text(self, folder: Path, dataset: Dataset, *, half: bool) -> None:
        """Encode all captions that may come, those of validation and of samples too, and let the text encoder go."""
        recipe, model = self.recipe, self.model
        fits = "caption" in self.embedders and not any(p.requires_grad for p in self.embedders["caption"].parameters())
        require(fits, "text_cache", "given", f"nothing for {model.system.name}, which has no frozen text encoder")
        apart = recipe.validation and recipe.validation.data
        sets = [dataset, *([] if apart is None else [open_dataset(apart)])]
        captions = [caption for s in sets for i in range(len(s)) for caption in captions_of(s, i)]
        drawn = prompt_requests(self.reader, recipe.prompts, self._asked())
        drawn += [] if self.metrics is None else self.metrics.requests
        kept = keep_text(model, captions, drawn, folder, recipe.loop.device, half=half)
        if recipe.adapter is not None:
            kept.whole.to("meta")  # a LoRA is exported without it

    def _validation(self, reader: Reader | None, inputs: InputMaker) -> Validation | None:
        """On what the reader `reader` reads; data of their own have latents of their own."""
        recipe, asked = self.recipe, self.recipe.validation
        if asked is None or reader is None:
            return None
        cache = recipe.latent_cache
        if asked.data is not None:
            cache = cache and cache / "validation"
        rows = LatentRows(self.model, reader, cache, inputs, half=self.rows.half)
        seed = recipe.loop.seed

        def measure(places: Sequence[Place]) -> Mapping[str, Tensor]:
            batch = rows.batch(places)
            reader.drain()
            draws = RowDraws([sample_seed(seed, p.number) for p in places])
            loss, t = self._losses(rows, batch, StepContext(0, places, draws), even_shares(places))
            return {"loss": loss, **_by_level(loss, t)}

        return Validation(asked.every, fixed_batches(reader, asked.count, recipe.loop.batch_size), measure)

    def _share_out(self) -> None:
        """What learns and what does not: the first stage never does, nor do text encoders that are frozen."""
        recipe, model = self.recipe, self.model
        self.adapters = self.word = self.log_variance = None
        self.things_head, self.things = None, None
        model.autoencoder.requires_grad_(False)
        if recipe.adapter is not None:
            model.requires_grad_(False)
            self.adapters = attach_trained(model, recipe.adapter)
            self.trained = nn.ModuleDict({"adapters": as_module(self.adapters)})
            self.frozen = nn.ModuleDict({"model": model})
        elif recipe.embedding is not None:
            model.requires_grad_(False)
            self.word = LearnedWord(model, recipe.embedding)
            self.trained = nn.ModuleDict({"embedding": self.word})
            self.frozen = nn.ModuleDict({"model": model})
        else:
            learns = {k: e for k, e in self.embedders.items() if any(p.requires_grad for p in e.parameters())}
            rest = {k: e for k, e in self.embedders.items() if k not in learns}
            self.trained = nn.ModuleDict({"unet": model.unet, "embedders": nn.ModuleDict(learns)})
            self.frozen = nn.ModuleDict({"autoencoder": model.autoencoder, "embedders": nn.ModuleDict(rest)})
        if recipe.loss.learned_variance:
            self.log_variance = self.trained["log_variance"] = LogVariance()
        self.ema = tuple(self.trained)
        if recipe.things_weight:
            assert isinstance(self.reader.dataset, PictureBook), "checked by the recipe"
            self.things_head = self.trained["things_head"] = ThingsHead(model.unet)
            self.things = ThingsMaps(self.reader.dataset, recipe.latent_cache)

    def optimizers(self) -> dict[str, list[nn.Parameter]]:
        """One for all that learns, but the parts that the recipe names have their own: an embedder, by its key, all
        others (`embedders`), and the first convolution, whose new channels begin at zero (`input`)."""
        parts: dict[str, nn.Module] = {}
        if "embedders" in self.trained:
            parts = {**dict(self.trained["embedders"].named_children()), "embedders": self.trained["embedders"]}
        if "unet" in self.trained:
            parts["input"] = self.model.unet.conv_in
        rest = [p for p in self.trained.parameters() if p.requires_grad]
        named: dict[str, list[nn.Parameter]] = {}
        for name, module in parts.items():
            if name in self.recipe.loop.optimizers:
                own = set(module.parameters())
                named[name] = [p for p in rest if p in own]
                rest = [p for p in rest if p not in own]
        return {"diffusion": rest, **named}

    def batch(self, places: Sequence[Place]) -> DiffusionBatch:
        rows = self.rows.batch(places)
        return DiffusionBatch(rows, None if self.things is None else self.things.get([i for i, _ in rows.pictures]))

    def losses(self, batch: DiffusionBatch, context: StepContext) -> Iterator[Loss]:
        loss, t = self._losses(self.rows, batch.rows, context)
        log = {name: values.mean() for name, values in _by_level(loss.detach(), t).items()}
        total = loss.mean() if self.log_variance is None else self.log_variance(loss, t).mean()
        if self.things_head is not None and batch.things is not None:
            kinds, colours = self.things_head(batch.things.to(self.model.device))
            log |= {"kinds": kinds.detach(), "colours": colours.detach()}
            total = total + self.recipe.things_weight * (kinds + colours)
        yield Loss("diffusion", total, log)

    def _losses(
        self, rows: LatentRows, batch: LatentBatch, context: StepContext, shares: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Losses (B,) and timesteps (B,); with `shares` (B,) of the range of timesteps nothing is dropped or drawn at
        random but the noise of each sample."""
        model, config = self.model, self.recipe.loss
        latents = rows.latents(batch, context.places[0].size)
        conditioning = rows.conditioning(batch, context, drop=shares is None)
        return diffusion_loss(
            model.process,
            lambda x, t: model.network(x, t, conditioning),
            latents.contiguous(memory_format=torch.channels_last),
            config if shares is None else replace(config, input_perturbation=0.0),
            context.draws,
            weights=batch.weights,
            mask=rows.mask(batch, latents),
            timesteps=None if shares is None else config.between(shares),
        )

    def samples(self) -> np.ndarray | None:
        """The recipe's prompts, always with the same noise."""
        recipe, asked = self.recipe, self._asked()
        if self.word is None:
            return draw_prompts(self.model, self.reader, recipe.prompts, asked)
        with TemporaryDirectory() as folder:
            write_embedding(Path(folder), self.word.embedding, self.model.system, {})
            return draw_prompts(self.model, self.reader, recipe.prompts, asked, embeddings=Path(folder))

    def _asked(self) -> Request:
        """How samples are drawn."""
        return changed(Request(seed=self.recipe.loop.seed, steps=SAMPLE_STEPS), self.recipe.samples)

    def export(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        if self.word is not None:
            told = {f"ss_{key}": str(value) for key, value in metadata.items()}
            write_embedding(folder, self.word.embedding, self.model.system, told)
            return
        if self.adapters is None:
            give_back_text(self.model)
            save_system(self.model, folder, metadata)
            return
        told = {f"ss_{key}": str(value) for key, value in metadata.items()}
        path = folder / "lora.safetensors"
        write_adapters(path, self.adapters, self.model, {**told, **self._kohya_metadata()})

    def _kohya_metadata(self) -> dict[str, str]:
        """What kohya's trainers write about a run, as far as it is known here."""
        recipe = self.recipe
        adapter, loop = recipe.adapter, recipe.loop
        assert adapter is not None, "only of adapters"
        size = max(self.reader.buckets, key=lambda s: len(self.reader.buckets[s]))
        return {
            "ss_network_alpha": str(adapter.rank if adapter.alpha is None else adapter.alpha),
            "ss_learning_rate": str(loop.lr),
            "ss_lr_scheduler": loop.lr_schedule,
            "ss_lr_warmup_steps": str(loop.warmup_steps),
            "ss_max_train_steps": str(loop.steps),
            "ss_total_batch_size": str(loop.step_size),
            "ss_gradient_accumulation_steps": str(loop.grad_accumulation),
            "ss_optimizer": loop.optimizer,
            "ss_max_grad_norm": str(loop.max_grad_norm),
            "ss_seed": str(loop.seed),
            "ss_num_train_images": str(len(self.reader.dataset)),
            "ss_resolution": f"({size.width}, {size.height})",
            "ss_noise_offset": str(recipe.loss.offset_noise),
            "ss_min_snr_gamma": str(recipe.loss.min_snr_gamma),
            "ss_loss_type": recipe.loss.loss_type,
            "ss_sd_model_name": recipe.model,
            **data_metadata(self.reader.dataset, self.reader.buckets),
        }


def _by_level(loss: Tensor, t: Tensor) -> dict[str, Tensor]:
    """Of losses (B,) at timesteps (B,) those in each band of noise, where there are any."""
    bands = {f"loss at t {low}-{high}": (low <= t) & (t <= high) for low, high in NOISE_BANDS}
    return {name: loss[among] for name, among in bands.items() if among.any()}


def _begun(recipe: DiffusionRecipe) -> LatentDiffusion:
    """The model to begin with, as the system that the recipe trains."""
    model = load_model_ref(recipe.model, recipe.vae, recipe.ema, recipe.loop.device)
    name, device = recipe.embedders_from, recipe.loop.device
    donor = None if name is None else lambda: load_model_ref(name, None, "auto", device)
    if recipe.model.endswith(FRESH) and (frozen := frozen_keys(model)):
        if donor is not None:
            model = with_frozen_networks(model, donor)
        else:
            print(
                f"what reads {', '.join(frozen)} is random and never learns: embedders_from names a model that has it",
                file=sys.stderr,
            )
    system = model.system if recipe.system is None else find_system(recipe.system)
    system = changed_system(system, recipe.prediction, recipe.zero_terminal_snr, recipe.drop_rates)
    if system.defaults.steps <= FEW_STEPS:
        print(
            f"{model.system.name} draws in {system.defaults.steps} steps, which plain training undoes: distil what you "
            "trained on its teacher, or train with few steps of rate 1e-6 and look at the pictures (docs/training.md)",
            file=sys.stderr,
        )
    target = trained_as(model, system, donor)
    return model if target is model else let_learn(target)
