"""What a file or folder of weights is, as far as it can be said without loading it.

The systems and first stages of the catalogue and models that ship are told without PyTorch, whose import takes
longer than all else; what takes the networks to tell is in `closely`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.checkpoints.fingerprint import model_hash
from darkroom.checkpoints.known import is_shipped, known_first_stages, recognized
from darkroom.checkpoints.locate import place
from darkroom.checkpoints.open_file import open_weights
from darkroom.checkpoints.original_names import UNET, ema_name
from darkroom.checkpoints.own_folder import base_of, is_native, main_file, weight_files
from darkroom.checkpoints.source import Source, open_source
from darkroom.checkpoints.stored import Stored
from darkroom.errors import InputError
from darkroom.json_file import read_json
from darkroom.names import names_of

if TYPE_CHECKING:
    from darkroom.diffusion.prediction import Prediction

__all__ = ["inspect", "require_system"]

_PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float64": "fp64"}


def inspect(
    path: Path, *, ema: str = "auto", prediction: Prediction | None = None, hashed: bool = True, finite: bool = False
) -> dict[str, Any]:
    """A table of facts for people and programs, in the order to show them.

    `hashed` reads the whole file once (remembered for the next time), `finite` looks at every number. Raises
    `InputError` naming file and cause.
    """
    if is_native(path):
        return _native(path, hashed=hashed, finite=finite)
    source = open_source(path)
    if finite:
        source.require_finite()
    told = recognized(source, prediction, str(path)) if ema == "auto" else None
    more: dict[str, str] = {}
    if told is None:
        if not os.path.isdir(path) and (facts := _part(source, hashed=hashed)) is not None:
            return facts
        from darkroom.checkpoints.closely import identified

        told, more = identified(source, ema=ema, prediction=prediction, hint=str(path))
    return {
        "file": str(path),
        "container": ", ".join(sorted({w.kind for w in source.files})),
        "layout": source.layout,
        "system": f"{told.name} ({told.title})",
        "told by": told.told_by,
        **({"could also be": ", ".join(told.alternatives)} if told.alternatives else {}),
        "prediction": told.prediction + (", zero terminal SNR" if told.zero_terminal_snr else ""),
        "prediction told by": told.prediction_told_by,
        "running average": _average(source),
        **more,
        **_content(source.tensors),
        **_parameters(told.parameters),
        "known baggage": f"{told.unused} tensors",
        **({"hash": model_hash(source.main_file)} if hashed else {}),
        **{k: v for k, v in source.metadata.items() if k.startswith("modelspec.") and len(v) < 200},
    }


def require_system(model: str, folders: Sequence[Path] = ()) -> None:
    """Raise `InputError` where no system can be loaded from what `model` means (`place`), as far as that can be said
    by names and shapes of tensors, and without a look at the hub."""
    if model in names_of("first stage") and model not in names_of("system"):
        raise InputError(f"{model} is a first stage, not a whole model")
    path = place(model, folders)
    base = base_of(path) if isinstance(path, Path) and is_native(path) else None
    for found in (path, None if base is None else place(base)):
        if isinstance(found, Path) and "system" not in inspect(found, hashed=False):
            raise InputError(f"{found} is not a whole model; darkroom inspect says what it is")


def _part(source: Source, *, hashed: bool) -> dict[str, Any] | None:
    """The facts of a file that is put on a model or beside it; None for a whole checkpoint."""
    (weights,) = source.files
    hash_of = model_hash
    if (stages := known_first_stages({name: stored.shape for name, stored in weights.items()})) is not None:
        facts: dict[str, Any] = {"first stage": ", ".join(stages)}
    else:
        from darkroom.checkpoints.closely import part

        found = part(weights)
        if found is None:
            return None
        facts, hash_of = found
    digest = {"hash": hash_of(source.path)} if hashed else {}
    return {"file": str(source.path), "container": weights.kind, **facts, **_content(weights), **digest}


def _content(tensors: Mapping[str, Stored]) -> dict[str, str]:
    kinds = Counter(_PRECISIONS.get(t.kind, t.kind) for t in tensors.values())
    return {
        "precision": ", ".join(f"{kind} ({count})" for kind, count in kinds.most_common()),
        "tensors": f"{len(tensors)}, {sum(t.nbytes for t in tensors.values()) / 1e9:.2f} GB",
    }


def _average(source: Source) -> str:
    if source.layout == "diffusers":
        return "none beside the weights"
    unet = [n for n in source.tensors if n.startswith(UNET)]
    there = [n for n in unet if ema_name(n) in source.tensors]
    if there and len(there) == len(unet):
        return "present, complete"
    scalars = "model_ema.decay" in source.tensors
    return "only its counters: the weights themselves are the average" if scalars and not there else "absent"


def _parameters(counts: Mapping[str, int]) -> dict[str, str]:
    return {f"{part} parameters": f"{count:,}" for part, count in counts.items()}


def _native(path: Path, *, hashed: bool, finite: bool) -> dict[str, Any]:
    said = read_json(path / "system.json").get("system")
    if isinstance(said, dict) and is_shipped(said):
        name, title, prediction = said["name"], said["title"], said["prediction"]
    else:
        from darkroom.checkpoints.native import describe_system

        system = describe_system(path).system
        name, title, prediction = system.name, system.title, system.prediction
    base = base_of(path)
    stored = {f.stem: open_weights(f) for f in sorted(weight_files(path))}
    if finite:
        for weights in stored.values():
            weights.require_finite()
    tensors = {f"{part}.{name}": t for part, weights in stored.items() for name, t in weights.items()}
    counts = {part: sum(t.numel for t in weights.values()) for part, weights in stored.items()}
    return {
        "file": str(path),
        "layout": "this project's own folder",
        **({} if base is None else {"a LoRA of": base}),
        "system": f"{name} ({title})",
        "prediction": prediction,
        **_content(tensors),
        **_parameters(counts),
        **({"hash": model_hash(main_file(path))} if hashed else {}),
    }
