"""`darkroom train RECIPE --smoke`: the recipe at a narrow width on a tiny data set, to see within seconds that it runs.

Two steps, the export read back, one picture drawn. Weights that the recipe begins with are random ones of the same
kind; perceptual weights are left out.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from darkroom.checkpoints.load import load_checkpoint
from darkroom.checkpoints.lora import apply_loras, read_lora
from darkroom.checkpoints.native import load_strict, read_network, save_system
from darkroom.checkpoints.taesd import load_tiny_decoder
from darkroom.config import to_dict
from darkroom.data.buckets import BucketConfig
from darkroom.engine.pipeline import Pipeline
from darkroom.errors import InputError
from darkroom.input_file import entries
from darkroom.models.autoencoder import Autoencoder, AutoencoderConfig
from darkroom.pictures.picture_file import check_writable, write_picture
from darkroom.pixels import to_bytes
from darkroom.requests.plan import side_step
from darkroom.systems.build import LatentDiffusion, build
from darkroom.systems.narrow import narrow_stage, narrowed, write_narrow_vocabulary
from darkroom.systems.system import SYSTEMS, System
from darkroom.systems.system_file import find_system
from darkroom.training.autoencoder import AutoencoderRecipe
from darkroom.training.config import LoopConfig
from darkroom.training.diffusion import DiffusionRecipe
from darkroom.training.distillation.add import AddRecipe
from darkroom.training.distillation.apt import AptRecipe
from darkroom.training.distillation.consistency import ConsistencyRecipe
from darkroom.training.distillation.dmd import DmdRecipe
from darkroom.training.distillation.ladd import LaddRecipe
from darkroom.training.distillation.progressive import ProgressiveRecipe
from darkroom.training.distillation.student import DistillationRecipe
from darkroom.training.loop import train
from darkroom.training.model_ref import FRESH, system_of
from darkroom.training.preview import PreviewRecipe
from darkroom.training.recipe import LoadedRecipe
from darkroom.training.smoke_data import request_for, write_smoke_data
from darkroom.training.validation import ValidationConfig
from darkroom.whole_file import made_folder

__all__ = ["smoke"]

LEAST_SIDE = 64


def smoke(loaded: LoadedRecipe, folder: Path) -> Path:
    """Run the recipe so in `folder`, which must be empty. Returns the path of the picture."""
    check_writable(folder)
    if os.path.isdir(folder) and entries(folder):
        raise InputError(f"{folder} is not empty: --smoke makes a run of its own")
    made_folder(folder)
    recipe = loaded.recipe
    if type(recipe) not in KINDS:
        raise InputError(f"a recipe of the kind {recipe.kind!r} has no narrow copy: give it less data and fewer steps")
    narrow, draw = KINDS[type(recipe)]
    recipe = narrow(replace(recipe, loop=_short(recipe.loop)), folder)
    train(loaded.objective(recipe), recipe.loop, folder / "run", recipe=recipe)
    path = folder / "picture.png"
    write_picture(path, draw(recipe, folder), "")
    return path


def _short(loop: LoopConfig) -> LoopConfig:
    return replace(
        loop, steps=2, batch_size=2, grad_accumulation=1, warmup_steps=0, precision="fp32", device="cpu", workers=0,
        log_every=1, sample_every=2, save_every=2,
    )  # fmt: skip


def _narrow_autoencoder(recipe: AutoencoderRecipe, folder: Path) -> AutoencoderRecipe:
    stage = _flat_stage(narrow_stage(recipe.stage))
    side = math.lcm(LEAST_SIDE, stage.factor)
    return replace(
        recipe,
        model=stage,
        first_stage=None,
        init_from=None,
        perceptual=None,
        discriminator_start=min(recipe.discriminator_start, 1),
        discriminator_channels=8,
        data=write_smoke_data(folder / "data", side, None),
        buckets=_small_buckets(recipe.buckets, side, stage.factor),
        validation=_small_validation(recipe.validation),
    )


def _narrow_preview(recipe: PreviewRecipe, folder: Path) -> PreviewRecipe:
    """The recipe on a narrow copy of its model's system."""
    if recipe.model not in SYSTEMS:
        raise InputError(f"--smoke does not read {recipe.model}: name a system of the catalog, model=NAME")
    system = _narrow(SYSTEMS[recipe.model])
    write_narrow_vocabulary(folder)
    side, factor = _side(system), system.autoencoder.factor
    return replace(
        recipe,
        model=str(_write_model(system, folder / "base", folder)),
        vae=None,
        width=8,
        data=write_smoke_data(folder / "data", side, None),
        buckets=_small_buckets(recipe.buckets, side, factor),
    )


def _narrow_diffusion(recipe: DiffusionRecipe, folder: Path) -> DiffusionRecipe:
    """The recipe on narrow systems: that of the model to begin with, and that to be trained."""
    begun, trained = _systems(recipe)
    step, side = side_step(trained), _side(trained)
    write_narrow_vocabulary(folder)
    (folder / "system.json").write_text(json.dumps(to_dict(trained)), encoding="utf-8")
    fresh = recipe.model.endswith(FRESH)
    model = f"{folder / 'system.json'}{FRESH}" if fresh else str(_write_model(begun, folder / "base", folder))
    donor = None  # where its networks are taken, that is
    if recipe.embedders_from is not None and (fresh or begun.embedders != trained.embedders):
        donor = str(_write_model(trained, folder / "donor", folder))
    adapter = recipe.adapter and replace(recipe.adapter, rank=min(recipe.adapter.rank, 4))
    return replace(
        recipe,
        model=model,
        system=None if recipe.system is None else str(folder / "system.json"),
        embedders_from=donor,
        data=write_smoke_data(folder / "data", side, trained),
        buckets=_small_buckets(recipe.buckets, side, step),
        vae=None,
        text=None,
        latent_cache=recipe.latent_cache and folder / "cache",
        text_cache=recipe.text_cache and folder / "cache",
        adapter=adapter,
        prior=recipe.prior and replace(recipe.prior, count=2, folder=folder / "class_pictures"),
        validation=_small_validation(recipe.validation),
        prompts=(),
        metrics=None,
        things_weight=0.0,
    )


def _narrow_distillation(recipe: DistillationRecipe, folder: Path) -> DistillationRecipe:
    """The recipe on a narrow copy of its student's system, which is its own teacher."""
    if recipe.model not in SYSTEMS:
        raise InputError(f"--smoke does not read {recipe.model}: name a system of the catalog, model=NAME")
    system = _narrow(SYSTEMS[recipe.model])
    write_narrow_vocabulary(folder)
    side = _side(system)
    narrow = replace(
        recipe,
        model=str(_write_model(system, folder / "base", folder)),
        teacher=None,
        teacher_lora=None,
        data=write_smoke_data(folder / "data", side, system),
        buckets=_small_buckets(recipe.buckets, side, side_step(system)),
        vae=None,
        latent_cache=recipe.latent_cache and folder / "cache",
        adapter=recipe.adapter and replace(recipe.adapter, rank=min(recipe.adapter.rank, 4)),
        validation=_small_validation(recipe.validation),
        metrics=None,
        prompts=(),
    )
    if isinstance(narrow, AddRecipe):
        return replace(narrow, discriminator=replace(narrow.discriminator, features=None))
    return narrow


def _systems(recipe: DiffusionRecipe) -> tuple[System, System]:
    """Narrow copies of the system of the recipe's model and of the one that is trained."""
    begun = system_of(recipe.model)
    if begun is None and recipe.model in SYSTEMS:
        begun = SYSTEMS[recipe.model]
    trained = begun if recipe.system is None else find_system(recipe.system)
    if trained is None:
        raise InputError(f"--smoke does not read {recipe.model}: name its system, system=NAME")
    return _narrow(begun or trained), _narrow(trained)


def _narrow(system: System) -> System:
    narrow = narrowed(system)
    unet = replace(narrow.unet, channel_mult=_flat(narrow.unet.channel_mult))
    return replace(narrow, unet=unet, autoencoder=_flat_stage(narrow.autoencoder))


def _flat_stage(stage: AutoencoderConfig) -> AutoencoderConfig:
    return replace(stage, channel_mult=_flat(stage.channel_mult))


def _flat(channel_mult: Sequence[int]) -> tuple[int, ...]:
    """No level is more than twice as wide as the first."""
    return tuple(min(m, 2) for m in channel_mult)


def _side(system: System) -> int:
    return math.lcm(LEAST_SIDE, side_step(system))


def _small_buckets(buckets: BucketConfig | None, side: int, step: int) -> BucketConfig:
    """Squares, or pictures of several shapes where the recipe has them."""
    if buckets is None or buckets.shapes == "square":
        return replace(buckets or BucketConfig(side), resolution=side, step=step, shapes="square")
    return replace(buckets, resolution=side, step=step, shapes="aspect", shortest=None, longest=None)


def _small_validation(validation: ValidationConfig | None) -> ValidationConfig | None:
    return validation and ValidationConfig(share=0.5, every=2, count=2)


def _write_model(system: System, folder: Path, vocabulary: Path) -> Path:
    """A model of `system` with random weights, as a recipe exports it."""
    torch.manual_seed(0)
    model = build(system)
    model.conditioner.look_in(vocabulary)
    save_system(model, folder, {}, torch.float32)
    return folder


def _draw(recipe: DiffusionRecipe | DistillationRecipe, folder: Path) -> np.ndarray:
    """A picture of what was exported, read back."""
    export = folder / "run" / "export"
    word = recipe.embedding if isinstance(recipe, DiffusionRecipe) else None
    if recipe.adapter is not None:
        model = _with_adapter(recipe, export)
    else:
        model = load_checkpoint(export if word is None else recipe.model, torch.float32).model
    request = request_for(model.system, _side(model.system))
    if word is not None:
        request = replace(request, prompt=f"{word.word}, {request.prompt}")
    (picture,) = Pipeline(model, embedding_folders=[export]).generate([request])
    return picture.pixels


def _with_adapter(recipe: DiffusionRecipe | DistillationRecipe, export: Path) -> LatentDiffusion:
    model = load_checkpoint(recipe.model, torch.float32).model
    apply_loras(model, [(read_lora(export / "lora.safetensors", model.system), 1.0, 1.0)])
    return model


@torch.no_grad()
def _decode(recipe: AutoencoderRecipe, folder: Path) -> np.ndarray:
    path = folder / "run" / "export" / "autoencoder.safetensors"
    config, state = read_network(path, AutoencoderConfig)
    stage: Any = Autoencoder(config)
    load_strict(stage, state, path)
    side = LEAST_SIDE // config.factor
    latents = torch.randn(1, config.latent_channels, side, side, generator=torch.Generator().manual_seed(0))
    return to_bytes(stage.eval().decode(latents))[0]


@torch.no_grad()
def _previewed(recipe: PreviewRecipe, folder: Path) -> np.ndarray:
    decoder = load_tiny_decoder(folder / "run" / "export" / "taesd_decoder.safetensors")
    side = LEAST_SIDE // decoder.factor
    latents = torch.randn(1, decoder.latent_channels, side, side, generator=torch.Generator().manual_seed(0))
    return to_bytes(decoder(latents))[0]


# Recipe class → what makes a narrow recipe in a folder, and what draws from the export of its run there.
KINDS: dict[type, tuple[Callable[[Any, Path], Any], Callable[[Any, Path], np.ndarray]]] = {
    AutoencoderRecipe: (_narrow_autoencoder, _decode),
    DiffusionRecipe: (_narrow_diffusion, _draw),
    PreviewRecipe: (_narrow_preview, _previewed),
    **dict.fromkeys(
        (AddRecipe, AptRecipe, ConsistencyRecipe, DmdRecipe, LaddRecipe, ProgressiveRecipe),
        (_narrow_distillation, _draw),
    ),
}
