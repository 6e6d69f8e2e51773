"""Devices by their names."""

from __future__ import annotations

import torch

from darkroom.errors import InputError

__all__ = ["find_device"]


def find_device(name: str) -> torch.device:
    """The device called `name` ("cpu", "cuda", "cuda:1", "mps"); `InputError` if this machine or PyTorch lacks it."""
    here = ["cpu"]
    if torch.cuda.is_available():
        here += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        here.append("mps")
    if name not in here:
        lacks = name.startswith("cuda") and not torch.backends.cuda.is_built()
        why = "; this PyTorch is built without CUDA" if lacks else ""
        raise InputError(f"there is no device {name!r} here; there are: {', '.join(here)}{why}")
    return torch.device(name)
