"""What lies in a folder that this project wrote, before its networks are built. No torch."""

from __future__ import annotations

import os
from pathlib import Path

from darkroom.errors import InputError, printable
from darkroom.json_file import read_json

__all__ = ["ADAPTERS", "COMPONENTS", "base_of", "is_native", "main_file", "weight_files"]

COMPONENTS = ("unet", "autoencoder", "conditioner")  # of a system, a file each
ADAPTERS = "lora.safetensors"  # of a folder with a base


def is_native(folder: Path) -> bool:
    """Whether `folder` holds a system as `save_system` writes it."""
    return os.path.isfile(folder / "system.json")


def base_of(folder: Path) -> str | None:
    """The model that the LoRA in `folder` changes, for `-m`; None for a folder that holds weights of its own."""
    path = folder / "system.json"
    base = read_json(path).get("base")
    if base is None:
        return None
    if not (isinstance(base, str) and 0 < len(base) < 4096):
        raise InputError(f"{path}: base is {printable(repr(base))}, expected is the name or path of a model")
    beside = os.path.normpath(folder / base)
    return beside if os.path.exists(beside) else base


def main_file(folder: Path) -> Path:
    """The file whose hash stands for the system in `folder`."""
    return folder / ("unet.safetensors" if base_of(folder) is None else ADAPTERS)


def weight_files(folder: Path) -> list[Path]:
    """The files that the system in `folder` is read from, whether they are there or not."""
    return [folder / f"{name}.safetensors" for name in COMPONENTS] if base_of(folder) is None else [folder / ADAPTERS]
