"""The folder of a run: whose run it is, in which precision it computes, and files that a kill leaves whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from darkroom.config import to_dict
from darkroom.errors import InputError
from darkroom.nn.device import find_device
from darkroom.nn.precision import fast_half
from darkroom.training.config import LoopConfig
from darkroom.whole_file import whole_file

__all__ = ["CHECKPOINT", "claim", "natural_precision", "settled"]

CHECKPOINT = "checkpoint.pt"
RECIPE = "recipe.json"


def natural_precision(device: str) -> Literal["fp32", "bf16"]:
    """What a new run on `device` computes in: bf16 where that is fast, else float32; fp16 would need scaled losses."""
    return "bf16" if fast_half(find_device(device)) is torch.bfloat16 else "fp32"


def settled(config: LoopConfig, folder: Path) -> LoopConfig:
    """`config` with its precision decided: as the run in `folder` began, else as its device likes best."""
    if config.precision != "auto":
        return config
    if (folder / CHECKPOINT).exists():
        match _recorded(folder):
            case {"loop": {"precision": "fp32" | "bf16" as precision}}:
                return replace(config, precision=precision)
    return replace(config, precision=natural_precision(config.device))


def claim(folder: Path, recipe: Any, config: LoopConfig) -> None:
    """Make `folder` and write down whose run it holds; refuse one that holds the run of another recipe.

    The device is no part of what must agree: a run may go on elsewhere, though only up to rounding as it was.
    """
    told = to_dict(recipe)
    if isinstance(told, dict) and "loop" in told:
        told["loop"] = to_dict(config)
    written = folder / RECIPE
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the run cannot be written to {folder}: {error.strerror}") from None
    if (folder / CHECKPOINT).exists() and written.exists() and _but_device(_recorded(folder)) != _but_device(told):
        raise InputError(
            f"{folder} holds the run of another recipe (see {written}); resume it with the same settings or choose "
            "another folder"
        )
    with whole_file(written) as file:
        file.write(json.dumps(told, indent=1, sort_keys=True).encode())


def _recorded(folder: Path) -> Any:
    """The recipe of the run in `folder` as plain data; None if it cannot be read."""
    try:
        return json.loads((folder / RECIPE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _but_device(told: Any) -> Any:
    match told:
        case {"loop": dict(loop)}:
            return {**told, "loop": {k: v for k, v in loop.items() if k != "device"}}
    return told
