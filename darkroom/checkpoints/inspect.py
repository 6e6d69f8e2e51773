"""What a file or folder of weights is, as far as it can be said without loading it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from darkroom.checkpoints import original
from darkroom.checkpoints.control import describe_control
from darkroom.checkpoints.embeddings import describe_embedding, embedding_hash
from darkroom.checkpoints.fingerprint import lora_hash, model_hash
from darkroom.checkpoints.identify import empty_state, identify
from darkroom.checkpoints.lora import describe_lora
from darkroom.checkpoints.native import base_of, describe_system, is_native, main_file
from darkroom.checkpoints.open_file import open_weights
from darkroom.checkpoints.source import Source, open_source
from darkroom.checkpoints.statistics import STATISTICS, statistics_beside
from darkroom.checkpoints.stored import Stored, Weights
from darkroom.checkpoints.table import rules
from darkroom.checkpoints.transfer import fit
from darkroom.conditioning.image_prompt import ImagePromptConfig
from darkroom.diffusion.process import Prediction
from darkroom.models.autoencoder import Autoencoder
from darkroom.systems import FIRST_STAGES, FirstStage, System
from darkroom.systems.empty import empty_modules

__all__ = ["inspect"]

_PRECISIONS = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.float64: "fp64"}


def inspect(
    path: Path, *, ema: str = "auto", prediction: Prediction | None = None, hashed: bool = True, finite: bool = False
) -> dict[str, Any]:
    """A table of facts for people and programs, in the order to show them.

    `hashed` reads the whole file once (remembered for the next time), `finite` looks at every number. Raises
    `InputError` naming file and cause.
    """
    if is_native(path):
        return _native(path)
    if not os.path.isdir(path):
        weights = open_weights(path)
        facts = describe_control(weights) or describe_lora(weights) or _first_stage(weights)
        facts = facts or describe_embedding(weights)
        if facts is not None:
            if finite:
                weights.require_finite()
            hash_of = lora_hash if "rank" in facts else embedding_hash if "vectors" in facts else model_hash
            digest = {"hash": hash_of(path)} if hashed else {}
            return {"file": str(path), "container": weights.kind, **facts, **_content(weights), **digest}
    source = open_source(path)
    if finite:
        source.require_finite()
    identity = identify(source, ema=ema, prediction=prediction, hint=str(path))
    system = identity.system
    return {
        "file": str(path),
        "container": ", ".join(sorted({w.kind for w in source.files})),
        "layout": source.layout,
        "system": f"{system.name} ({system.title})",
        "told by": identity.told_by,
        **({"could also be": ", ".join(identity.alternatives)} if identity.alternatives else {}),
        "prediction": system.prediction + (", zero terminal SNR" if system.schedule.zero_terminal_snr else ""),
        "prediction told by": identity.prediction_told_by,
        "running average": _average(source),
        **_statistics(source, system),
        **_content(source.tensors),
        **_parameters(empty_state(system)),
        "known baggage": f"{len(identity.fit.unused)} tensors",
        **({"hash": model_hash(source.main_file)} if hashed else {}),
        **{k: v for k, v in source.metadata.items() if k.startswith("modelspec.") and len(v) < 200},
    }


def _content(tensors: Mapping[str, Stored]) -> dict[str, str]:
    kinds = Counter(_PRECISIONS.get(t.dtype, str(t.dtype).removeprefix("torch.")) for t in tensors.values())
    return {
        "precision": ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common()),
        "tensors": f"{len(tensors)}, {sum(t.nbytes for t in tensors.values()) / 1e9:.2f} GB",
    }


def _average(source: Source) -> str:
    if source.layout == "diffusers":
        return "none beside the weights"
    unet = [n for n in source.tensors if n.startswith(original.UNET)]
    there = [n for n in unet if original.ema_name(n) in source.tensors]
    if there and len(there) == len(unet):
        return "present, complete"
    scalars = "model_ema.decay" in source.tensors
    return "only its counters: the weights themselves are the average" if scalars and not there else "absent"


def _statistics(source: Source, system: System) -> dict[str, str]:
    """Of image embeddings: whether they are there, where a single file ought to have them beside it."""
    widths = [config.tower.projection for config in system.embedders if isinstance(config, ImagePromptConfig)]
    if not widths or source.layout == "diffusers" or set(original.OPTIONAL) <= set(source.tensors):
        return {}
    found = statistics_beside(source.path.parent, widths[0])
    wanted = f"none, taken as 0 and 1; unCLIP L was trained with those in {STATISTICS}, to be put beside the file"
    return {"embedding statistics": str(found) if found else wanted if widths[0] == 768 else "0 and 1"}


def _parameters(state: Mapping[str, Tensor]) -> dict[str, str]:
    counts: Counter[str] = Counter()
    for name, tensor in state.items():
        counts[name.split(".")[0]] += tensor.numel()
    return {f"{part} parameters": f"{count:,}" for part, count in counts.items()}


def _first_stage(weights: Weights) -> dict[str, Any] | None:
    """An autoencoder alone: all of the catalogue with these tensors."""
    if "decoder.conv_in.weight" not in weights:
        return None
    found: list[FirstStage] = []
    for stage in FIRST_STAGES.values():
        with empty_modules():
            state = Autoencoder(stage.autoencoder).state_dict()
        if not fit(
            rules(original.autoencoder(stage.autoencoder), state), state, weights, is_ignored=original.is_ignored
        ).distance:
            found.append(stage)
    names = ", ".join(stage.name for stage in found)
    return {"first stage": names or "of a shape that is not in the catalogue"}


def _native(path: Path) -> dict[str, Any]:
    model = describe_system(path)
    tensors = {f"{f.stem}.{name}": t for f in sorted(path.glob("*.safetensors")) for name, t in open_weights(f).items()}
    return {
        "file": str(path),
        "layout": "this project's own folder",
        **({} if (base := base_of(path)) is None else {"a LoRA of": base}),
        "system": f"{model.system.name} ({model.system.title})",
        "prediction": model.system.prediction,
        **_content(tensors),
        **_parameters(model.state_dict()),
        "hash": model_hash(main_file(path)),
    }
