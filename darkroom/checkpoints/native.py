"""The project's own files: a folder for a system (`system.json` and one safetensors file for each component, or a LoRA
and the name of the model that it changes), and one safetensors file with its configuration for a network alone."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from darkroom.checkpoints.bounds import few_modules, require_bounded
from darkroom.checkpoints.lora import write_lora
from darkroom.checkpoints.open_file import open_weights
from darkroom.checkpoints.own_folder import ADAPTERS, COMPONENTS
from darkroom.checkpoints.safetensors_file import Planned, write_safetensors
from darkroom.config import from_dict, to_dict
from darkroom.errors import InputError, cause
from darkroom.json_file import parse_table, read_json
from darkroom.nn.lora import Adapter
from darkroom.systems.build import LatentDiffusion, build
from darkroom.systems.system import System
from darkroom.whole_file import whole_file, whole_folder

__all__ = [
    "describe_system",
    "load_network",
    "load_strict",
    "load_system",
    "read_network",
    "require_same",
    "save_adapted",
    "save_system",
    "write_network",
    "write_system",
]

UNBUILDABLE = (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError)

C = TypeVar("C")


def save_system(
    model: LatentDiffusion, folder: Path, metadata: Mapping[str, Any], dtype: torch.dtype = torch.bfloat16
) -> None:
    """Write `model` to `folder`, whole or not at all, in place of what was there; `metadata` tells how the weights came
    about. Vocabularies that lie in the folder of the model's checkpoint go with it. Raises `InputError` if the place
    refuses."""
    write_system(model, {name: _planned(getattr(model, name), dtype) for name in COMPONENTS}, folder, metadata)


def write_system(
    model: LatentDiffusion, plans: Mapping[str, Mapping[str, Planned]], folder: Path, metadata: Mapping[str, Any]
) -> None:
    """`save_system` with the tensors of each component taken from `plans`; `model` may be without weights."""
    with whole_folder(folder, replace=True) as fresh:
        for name in COMPONENTS:
            write_safetensors(fresh / f"{name}.safetensors", plans[name])
        for path in model.conditioner.files():
            shutil.copyfile(path, fresh / path.name)
        _describe(fresh, {"system": to_dict(model.system), "training": dict(metadata)})


def save_adapted(
    adapters: Mapping[str, Adapter],
    system: System,
    base: str,
    folder: Path,
    metadata: Mapping[str, Any],
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write to `folder` a system that is the model `base` changed by `adapters`: its description and a LoRA file that
    other tools read. `base` is whatever `-m` takes, or a path from `folder`."""
    with whole_folder(folder, replace=True) as fresh:
        notes = {f"ss_{key}": str(value) for key, value in metadata.items()}
        write_lora(fresh / ADAPTERS, adapters, system, notes, dtype)
        _describe(fresh, {"system": to_dict(system), "base": base, "training": dict(metadata)})


def _describe(folder: Path, description: Mapping[str, Any]) -> None:
    with whole_file(folder / "system.json") as file:
        file.write(f"{json.dumps(description, indent=1)}\n".encode())


def load_system(folder: Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> LatentDiffusion:
    """Read what `save_system` wrote, checked whole: no key missing, none left over, every shape right, every value
    finite. Raises `InputError` naming file and cause."""
    model = describe_system(folder)
    for name in COMPONENTS:
        path = folder / f"{name}.safetensors"
        load_strict(getattr(model, name), _finite_tensors(path, device, dtype), path, assign=True)
    model.conditioner.look_in(folder)
    return model.eval().requires_grad_(False)


def describe_system(folder: Path) -> LatentDiffusion:
    """The system that `folder` describes, without weights (on the device "meta")."""
    path = folder / "system.json"
    if not os.path.isfile(path):
        raise InputError(f"{folder} is no system: it holds no system.json")
    system = from_dict(System, _renamed(read_json(path).get("system")), str(path))
    require_bounded(system, str(path))
    try:
        with few_modules(str(path)):
            return build(system, "meta")
    except InputError:
        raise
    except UNBUILDABLE as error:
        raise InputError(f"{path} describes networks that cannot be built: {cause(error)}") from None


# Fields of descriptions by the names that they had in earlier exports, below the field that holds them.
FORMER = {
    "": {"stage_overflows": "force_upcast"},
    "unet": {"head_width": "head_dim", "cross_only": "only_cross_attention"},
    "defaults": {"guidance": "guidance_scale"},
}


def _renamed(described: object) -> object:
    """A description whose fields have the names of today."""
    if not isinstance(described, Mapping):
        return described
    now: dict[str, object] = {FORMER[""].get(str(name), str(name)): value for name, value in described.items()}
    for field, names in FORMER.items():
        if field and isinstance(inner := now.get(field), Mapping):
            now[field] = {names.get(name, name): value for name, value in inner.items()}
    return now


def write_network(
    path: Path, network: nn.Module, config: Any, metadata: Mapping[str, Any], dtype: torch.dtype = torch.bfloat16
) -> None:
    """Write `network` with `config` and `metadata` in the header, whole or not at all."""
    header = {"config": json.dumps(to_dict(config)), "training": json.dumps(dict(metadata))}
    write_safetensors(path, _planned(network, dtype), header)


def read_network(path: Path, config_class: type[C]) -> tuple[C, dict[str, Tensor]]:
    """The configuration and the float32 state dict of a file that `write_network` wrote. Raises `InputError` naming
    file and cause."""
    metadata = open_weights(path).metadata
    if "config" not in metadata:
        raise InputError(f"{path} carries no configuration; it was not written by a recipe of this project")
    config = from_dict(config_class, parse_table(metadata["config"], f"{path}: the configuration"), str(path))
    require_bounded(config, str(path))
    return config, _finite_tensors(path, "cpu", torch.float32)


def load_network(network: nn.Module, config: Any, path: Path) -> None:
    """Fill `network`, built from `config`, from the file at `path`; `InputError` if that holds another network."""
    found, state = read_network(path, type(config))
    require_same(found, config, path)
    load_strict(network, state, path)


def require_same(found: Any, config: Any, path: Path) -> None:
    """`InputError` if `found`, the configuration in the file at `path`, is not `config`."""
    if found != config:
        raise InputError(f"{path} holds another network: {_difference(found, config)}")


def load_strict(network: nn.Module, state: Mapping[str, Tensor], path: Path, *, assign: bool = False) -> None:
    """Load `state`, read from `path`, into `network`: no key missing, none left over, every shape right. `assign`: the
    tensors themselves become the parameters."""
    try:
        network.load_state_dict(state, strict=True, assign=assign)
    except RuntimeError as error:
        raise InputError(f"{path} does not fit its own configuration: {cause(error)}") from None


def _planned(network: nn.Module, dtype: torch.dtype) -> dict[str, Planned]:
    """The tensors of `network` in `dtype`, converted one at a time as they are written; whole numbers stay."""
    return {
        name: Planned(kind, tuple(t.shape), lambda t=t, kind=kind: t.detach().to("cpu", kind))
        for name, t in network.state_dict().items()
        for kind in [dtype if t.is_floating_point() else t.dtype]
    }


def _finite_tensors(path: Path, device: torch.device | str, dtype: torch.dtype | None) -> dict[str, Tensor]:
    weights = open_weights(path)
    weights.require_finite()
    return {name: stored.load(dtype, device) for name, stored in weights.items()}


def _difference(found: Any, expected: Any) -> str:
    """The first field in which two configurations of a class differ."""
    names = [f.name for f in dataclasses.fields(expected)]
    name = next(n for n in names if getattr(found, n) != getattr(expected, n))
    return f"its {name} is {getattr(found, name)}, expected is {getattr(expected, name)}"
