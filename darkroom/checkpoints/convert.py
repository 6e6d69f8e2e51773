"""From one layout to the other, tensor by tensor, so that the way back gives the same bits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from darkroom.checkpoints import diffusers, original, original_names
from darkroom.checkpoints.diffusers_config import (
    component_configs,
    image_processor_config,
    model_index,
    scheduler_configs,
)
from darkroom.checkpoints.diffusers_tokenizer import find_tokenizers, write_json, write_tokenizer
from darkroom.checkpoints.identify import Identity, empty_state, written_by_generative_models
from darkroom.checkpoints.modelspec import modelspec
from darkroom.checkpoints.open_file import open_weights
from darkroom.checkpoints.part import complete
from darkroom.checkpoints.safetensors_file import Planned, plan, write_safetensors
from darkroom.checkpoints.source import Source
from darkroom.checkpoints.statistics import embedding_statistic
from darkroom.checkpoints.stored import Stored
from darkroom.checkpoints.transfer import planned_ours, planned_theirs
from darkroom.systems.build import LatentDiffusion
from darkroom.systems.system import System
from darkroom.whole_file import whole_folder

__all__ = ["Content", "write_diffusers", "write_original"]

# In a converted folder: what the single file held beside the weights, so that the way back is complete.
UNUSED = "original_unused.safetensors"


@dataclass(frozen=True)
class Content:
    """A whole model on its way to a file: our tensors by name, and what else its single file carried."""

    system: System
    tensors: Mapping[str, Planned]
    unused: Mapping[str, Stored]
    notes: Mapping[str, str]  # metadata
    beside: Path | None = None  # where a vocabulary may lie

    @classmethod
    def of_model(cls, model: LatentDiffusion) -> Content:
        """What is in memory."""
        return cls(model.system, plan(model.state_dict()), {}, {})

    @classmethod
    def of_source(cls, source: Source, identity: Identity, dtype: torch.dtype | None = None) -> Content:
        """What is in a checkpoint, read tensor by tensor; `dtype` None keeps what is stored."""
        identity.require_stage(source.path)
        folder = source.path if source.layout == "diffusers" else source.path.parent
        ours = _ours(source, identity, dtype, folder)
        return cls(identity.system, ours, _unused(source, identity), _notes(source), folder)


def write_original(content: Content, path: Path) -> None:
    """Write one safetensors file in the layout of the published single file."""
    system = content.system
    parts = original.parts(system, generative_models=written_by_generative_models(system))
    tensors = planned_theirs(complete(parts, empty_state(system)), content.tensors)
    for name in original_names.OPTIONAL:
        if name in tensors and _is_trivial(tensors[name]):
            del tensors[name]
    for name, stored in content.unused.items():
        tensors.setdefault(name, Planned(stored.dtype, stored.shape, stored.load))
    write_safetensors(path, tensors, modelspec(system, content.notes))


def write_diffusers(content: Content, folder: Path) -> list[str]:
    """Write a folder that Diffusers loads; returns what the user should know about it."""
    system = content.system
    tokenizers, index = find_tokenizers(system, content.beside), model_index(system)
    with whole_folder(folder) as fresh:
        _write_components(content, fresh)
        for component, config in scheduler_configs(system).items():
            write_json(fresh / component / "scheduler_config.json", config)
        for component, tokenizer in tokenizers.items():
            write_tokenizer(fresh / component, tokenizer)
        if "feature_extractor" in index and index["feature_extractor"][0]:
            kind = index["feature_extractor"][1]
            write_json(fresh / "feature_extractor" / "preprocessor_config.json", image_processor_config(kind))
        write_json(fresh / "model_index.json", index)
        if content.unused or content.notes:
            unused = {n: Planned(s.dtype, s.shape, s.load) for n, s in content.unused.items()}
            write_safetensors(fresh / UNUSED, unused, {"format": "pt", **content.notes})
    lacking = [name for name in index if name.startswith("tokenizer") and index[name][0] and name not in tokenizers]
    return [f"no vocabulary was found on this machine: put one into {folder / name}" for name in lacking]


def _write_components(content: Content, folder: Path) -> None:
    rules = complete(diffusers.parts(content.system), empty_state(content.system))
    tensors = planned_theirs(rules, content.tensors)
    for component, config in component_configs(content.system).items():
        inside = {n.partition("/")[2]: t for n, t in tensors.items() if n.startswith(f"{component}/")}
        stem = "model" if "architectures" in config else "diffusion_pytorch_model"
        write_safetensors(folder / component / f"{stem}.safetensors", inside, {"format": "pt"})
        write_json(folder / component / "config.json", config)


def _ours(source: Source, identity: Identity, dtype: torch.dtype | None, folder: Path) -> dict[str, Planned]:
    """All of our tensors, the statistics that single files lack included."""
    state = empty_state(identity.system)
    plans = planned_ours(identity.rules, state, source.tensors, dtype)
    for name, tensor in state.items():
        if name not in plans:
            value = embedding_statistic(name, len(tensor), folder).to(dtype)
            plans[name] = Planned(value.dtype, tuple(value.shape), lambda value=value: value)
    return {name: plans[name] for name in state}


def _is_trivial(plan: Planned) -> bool:
    value = plan.make()
    return bool((value == 0).all() or (value == 1).all())


def _unused(source: Source, identity: Identity) -> dict[str, Stored]:
    """What the single file carried beside the weights, without second copies of the UNet and training losses."""
    if source.layout == "original":
        small = ("model_ema.decay", "model_ema.num_updates")
        copies = ("model_ema.", original_names.UNET, "loss.")
        return {n: source.tensors[n] for n in identity.fit.unused if n in small or not n.startswith(copies)}
    path = source.path / UNUSED
    return dict(open_weights(path)) if os.path.isfile(path) else {}


def _notes(source: Source) -> dict[str, str]:
    """The metadata of the single file, also after a stay in a folder."""
    if source.layout == "original":
        return dict(source.metadata)
    path = source.path / UNUSED
    return {k: v for k, v in open_weights(path).metadata.items() if k != "format"} if os.path.isfile(path) else {}
