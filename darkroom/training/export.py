"""One network with its configuration in one safetensors file."""

from __future__ import annotations

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

__all__ = ["read_network", "write_network"]

C = TypeVar("C")


def write_network(path: Path, network: nn.Module, config: Any, facts: Mapping[str, Any]) -> None:
    """Write `network` in bf16 with `config` and `facts` in the header, whole or not at all."""
    tensors = {
        k: t.detach().to(torch.bfloat16).contiguous() if t.is_floating_point() else t.contiguous()
        for k, t in network.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    save_file(tensors, fresh, metadata={"config": json.dumps(to_dict(config)), "training": json.dumps(dict(facts))})
    os.replace(fresh, path)


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
    config = from_dict(config_class, json.loads(metadata["config"]), str(path))
    return config, {k: t.float() if t.is_floating_point() else t for k, t in tensors.items()}
