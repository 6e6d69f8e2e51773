"""From one layout to the other, tensor by tensor, so that the way back gives the same bits."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from darkroom.checkpoints import diffusers, original
from darkroom.checkpoints.diffusers_config import component_configs, model_index, scheduler_configs
from darkroom.checkpoints.identify import Identity, empty_state, written_by_generative_models
from darkroom.checkpoints.modelspec import modelspec
from darkroom.checkpoints.open_file import open_weights
from darkroom.checkpoints.part import complete
from darkroom.checkpoints.safetensors_file import Planned, plan, write_safetensors
from darkroom.checkpoints.source import Source
from darkroom.checkpoints.stored import Stored
from darkroom.checkpoints.transfer import planned_ours, planned_theirs
from darkroom.conditioning.bert_text import BertTextConfig
from darkroom.conditioning.clip_text import ClipTextEmbedderConfig
from darkroom.errors import InputError
from darkroom.models.vocabulary import find_bert_vocabulary, find_clip_vocabulary
from darkroom.systems.build import LatentDiffusion
from darkroom.systems.system import System

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
        folder = source.path if source.layout == "diffusers" else source.path.parent
        ours = _ours(source, identity, dtype)
        return cls(identity.system, ours, _unused(source, identity), _notes(source), folder)


def write_original(content: Content, path: Path) -> None:
    """Write one safetensors file in the layout of the published single file."""
    system = content.system
    parts = original.parts(system, generative_models=written_by_generative_models(system))
    tensors = planned_theirs(complete(parts, empty_state(system)), content.tensors)
    for name in original.OPTIONAL:
        if name in tensors and _is_trivial(tensors[name]):
            del tensors[name]
    for name, stored in content.unused.items():
        tensors.setdefault(name, Planned(stored.dtype, stored.shape, stored.load))
    write_safetensors(path, tensors, modelspec(system, content.notes))


def write_diffusers(content: Content, folder: Path) -> list[str]:
    """Write a folder that Diffusers loads; returns what the user should know about it."""
    system = content.system
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists already and is not an empty folder")
    vocabulary = _vocabulary(system, content.beside)
    index = model_index(system, tokenizer=vocabulary is not None)
    fresh = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}.part")
    try:
        _write_components(content, fresh)
        for component, config in scheduler_configs(system).items():
            _write_json(fresh / component / "scheduler_config.json", config)
        for component in index:
            if component.startswith("tokenizer") and vocabulary is not None and index[component][0]:
                _write_tokenizer(fresh / component, vocabulary, system, component)
        if index.get("feature_extractor", [None])[0]:
            _write_json(fresh / "feature_extractor" / "preprocessor_config.json", _image_processor(index))
        _write_json(fresh / "model_index.json", index)
        if content.unused:
            unused = {n: Planned(s.dtype, s.shape, s.load) for n, s in content.unused.items()}
            write_safetensors(fresh / UNUSED, unused, {"format": "pt", **content.notes})
        if folder.exists():
            folder.rmdir()
        os.replace(fresh, folder)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error}") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    if _reads_text(system) and vocabulary is None:
        return ["the folder has no tokenizer, since no vocabulary was found on this machine: put one into tokenizer/"]
    return []


def _write_components(content: Content, folder: Path) -> None:
    rules = complete(diffusers.parts(content.system), empty_state(content.system))
    tensors = planned_theirs(rules, content.tensors)
    for component, config in component_configs(content.system).items():
        inside = {n.partition("/")[2]: t for n, t in tensors.items() if n.startswith(f"{component}/")}
        stem = "model" if "architectures" in config else "diffusion_pytorch_model"
        write_safetensors(folder / component / f"{stem}.safetensors", inside, {"format": "pt"})
        _write_json(folder / component / "config.json", config)


def _ours(source: Source, identity: Identity, dtype: torch.dtype | None) -> dict[str, Planned]:
    """All of our tensors; statistics that single files lack are those of no statistics."""
    state = empty_state(identity.system)
    plans = planned_ours(identity.rules, state, source.tensors, dtype)
    for name, tensor in state.items():
        if name not in plans:
            value = torch.full(tensor.shape, 1.0 if name.endswith(".std") else 0.0, dtype=dtype)
            plans[name] = Planned(value.dtype, tuple(value.shape), lambda value=value: value)
    return {name: plans[name] for name in state}


def _is_trivial(plan: Planned) -> bool:
    value = plan.make()
    return bool((value == 0).all() or (value == 1).all())


def _unused(source: Source, identity: Identity) -> dict[str, Stored]:
    """What the single file carried beside the weights, without second copies of the UNet and training losses."""
    if source.layout == "original":
        small = ("model_ema.decay", "model_ema.num_updates")
        copies = ("model_ema.", original.UNET, "loss.")
        return {n: source.tensors[n] for n in identity.fit.unused if n in small or not n.startswith(copies)}
    path = source.path / UNUSED
    return dict(open_weights(path)) if path.is_file() else {}


def _notes(source: Source) -> dict[str, str]:
    """The metadata of the single file, also after a stay in a folder."""
    if source.layout == "original":
        return dict(source.metadata)
    path = source.path / UNUSED
    return {k: v for k, v in open_weights(path).metadata.items() if k != "format"} if path.is_file() else {}


def _reads_text(system: System) -> bool:
    return any(isinstance(c, (ClipTextEmbedderConfig, BertTextConfig)) for c in system.embedders)


def _vocabulary(system: System, beside: Path | None) -> Path | None:
    """A vocabulary in a form that transformers reads, if there is one on this machine."""
    try:
        for config in system.embedders:
            if isinstance(config, BertTextConfig):
                found = find_bert_vocabulary(beside)
                return found if found.name == "vocab.txt" else None
            if isinstance(config, ClipTextEmbedderConfig):
                found = find_clip_vocabulary(beside)
                return found if found.suffix == ".json" else None
    except InputError:
        pass
    return None


def _write_tokenizer(folder: Path, vocabulary: Path, system: System, component: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = {"vocab.json": ("vocab.json", "merges.txt")}.get(vocabulary.name, (vocabulary.name,))
    for name in names:
        shutil.copyfile(vocabulary.with_name(name), folder / name)
    if vocabulary.name == "vocab.txt":
        _write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "model_max_length": 77})
        return
    (config,) = (c for c in system.embedders if isinstance(c, ClipTextEmbedderConfig))
    encoder = component.replace("tokenizer", "text_encoder")
    tower = config.towers[diffusers.text_components(config).index(encoder)]
    end = "<|endoftext|>"
    special = {"bos_token": "<|startoftext|>", "eos_token": end, "unk_token": end}
    special["pad_token"] = "!" if tower.padding == 0 else end
    _write_json(folder / "special_tokens_map.json", special)
    table = {"tokenizer_class": "CLIPTokenizer", "model_max_length": tower.tower.length, "do_lower_case": True}
    _write_json(folder / "tokenizer_config.json", {**table, **special})


def _image_processor(index: Mapping[str, Any]) -> dict[str, Any]:
    kind = index["feature_extractor"][1]
    if kind == "DPTImageProcessor":
        size = {"height": 384, "width": 384}
        half = [0.5, 0.5, 0.5]
        shape = {"size": size, "ensure_multiple_of": 32, "keep_aspect_ratio": True, "do_resize": True}
        return {"image_processor_type": kind, **shape, "do_normalize": True, "image_mean": half, "image_std": half}
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    shape = {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}
    return {"image_processor_type": kind, **shape, "image_mean": mean, "image_std": std}


def _write_json(path: Path, table: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table, indent=2, sort_keys=True) + "\n", encoding="utf-8")
