"""One network with its configuration in one safetensors file."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from darkroom.config import from_dict, to_dict
from darkroom.errors import InputError

__all__ = ["check_same", "fill", "load_network", "read_network", "write_network"]

C = TypeVar("C")


def write_network(path: Path, network: nn.Module, config: Any, facts: Mapping[str, Any]) -> None:
    """Write `network` in bf16 with `config` and `facts` in the header, whole or not at all."""
    tensors = {
        k: t.detach().to(torch.bfloat16).contiguous() if t.is_floating_point() else t.contiguous()
        for k, t in network.state_dict().items()
    }
    metadata = {"config": json.dumps(to_dict(config)), "training": json.dumps(dict(facts))}
    fresh = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, fresh, metadata)
        os.replace(fresh, path)
    except (OSError, SafetensorError) as error:
        fresh.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written: {error}") from None


def read_network(path: Path, config_class: type[C]) -> tuple[C, dict[str, torch.Tensor]]:
    """The configuration and the float32 state dict of a file that `write_network` wrote."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118  # not a mapping
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read as a network: {error}") from None
    if "config" not in metadata:
        raise InputError(f"{path} carries no configuration; it was not written by a recipe of this project")
    try:
        told = json.loads(metadata["config"])
    except ValueError as error:
        raise InputError(f"{path} carries a configuration that is not JSON: {error}") from None
    state = {k: t.float() if t.is_floating_point() else t for k, t in tensors.items()}
    return from_dict(config_class, told, str(path)), state


def load_network(network: nn.Module, config: Any, path: Path) -> None:
    """Fill `network`, built from `config`, from the file at `path`; `InputError` if that holds another network."""
    found, state = read_network(path, type(config))
    check_same(found, config, path)
    fill(network, state, path)


def check_same(found: Any, config: Any, path: Path) -> None:
    """`InputError` if `found`, the configuration in the file at `path`, is not `config`."""
    if found != config:
        raise InputError(f"{path} holds another network: {_difference(found, config)}")


def fill(network: nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Load `state`, read from `path`, into `network`, strictly."""
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"{path} does not fit its own configuration: {' '.join(str(error).split())}") from None


def _difference(found: Any, wanted: Any) -> str:
    """The first field in which two configurations of a class differ."""
    names = [f.name for f in dataclasses.fields(wanted)]
    name = next(n for n in names if getattr(found, n) != getattr(wanted, n))
    return f"its {name} is {getattr(found, name)}, wanted is {getattr(wanted, name)}"
