"""The project's own layout of a system on disk: `system.json` and one safetensors file per component."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from darkroom.config import from_dict, to_dict
from darkroom.errors import InputError
from darkroom.systems.build import LatentDiffusion, build
from darkroom.systems.system import System

__all__ = ["load_system", "read_system", "save_system"]

COMPONENTS = ("unet", "autoencoder", "conditioner")


def save_system(
    model: LatentDiffusion, folder: Path, facts: Mapping[str, Any], dtype: torch.dtype = torch.bfloat16
) -> None:
    """Write `model` to `folder`, whole or not at all; `facts` tell how the weights came about."""
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name in COMPONENTS:
        tensors = {
            k: t.detach().to("cpu", dtype if t.is_floating_point() else t.dtype).contiguous()
            for k, t in getattr(model, name).state_dict().items()
        }
        save_file(tensors, fresh / f"{name}.safetensors")
    text = json.dumps({"system": to_dict(model.system), "training": dict(facts)}, indent=1)
    (fresh / "system.json").write_text(text + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(fresh, folder)


def load_system(folder: Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> LatentDiffusion:
    """Read what `save_system` wrote, checked whole: no key missing, none left over, every shape right."""
    try:
        data = json.loads((folder / "system.json").read_text())
    except FileNotFoundError:
        raise InputError(f"{folder} is no system: it holds no system.json") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{folder / 'system.json'} cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise InputError(f"{folder / 'system.json'} is not a table")
    system = read_system(data, folder / "system.json")
    try:
        model = build(system, "meta")
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{folder / 'system.json'} describes networks that cannot be built: {error}") from None
    for name in COMPONENTS:
        _assign(getattr(model, name), folder / f"{name}.safetensors", device, dtype)
    model.conditioner.look_in(folder)
    return model.eval().requires_grad_(False)


def read_system(data: Mapping[str, Any], path: Path) -> System:
    """The system that `data`, the content of the system.json at `path`, describes."""
    described = data.get("system")
    if isinstance(described, Mapping) and isinstance(defaults := described.get("defaults"), Mapping):
        # The former name of the guidance scale, in systems exported before it was renamed.
        renamed = {"guidance_scale" if name == "guidance" else name: value for name, value in defaults.items()}
        described = {**described, "defaults": renamed}
    return from_dict(System, described, str(path))


def _assign(module: torch.nn.Module, path: Path, device: torch.device | str, dtype: torch.dtype | None) -> None:
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118  # not a mapping
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise InputError(f"{path}: tensor {name} holds NaN or infinite values")
    if dtype is not None:
        tensors = {k: t.to(dtype) if t.is_floating_point() else t for k, t in tensors.items()}
    try:
        module.load_state_dict(tensors, strict=True, assign=True)
    except RuntimeError as error:
        raise InputError(f"{path} does not fit its system: {' '.join(str(error).split())}") from None
