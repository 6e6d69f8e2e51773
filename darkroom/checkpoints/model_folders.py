"""Where people keep their models: the trees of A1111 and ComfyUI, and ComfyUI's `extra_model_paths.yaml`.

Everything is used where it lies; nothing is copied.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from darkroom.checkpoints.folders import CHECKPOINTS, named_files
from darkroom.errors import InputError, cause, printable
from darkroom.input_file import read_text

__all__ = ["ModelFolders", "read_extra_model_paths", "tree_folders"]

MAX_BYTES = 1 << 20  # of a file of paths
# Kind → its folder in A1111's tree, in ComfyUI's, and in a folder of models alone, in either spelling.
TREE: dict[str, tuple[str, ...]] = {
    "checkpoints": (
        *("models/Stable-diffusion", "models/checkpoints", "models/diffusers"),
        *("Stable-diffusion", "checkpoints", "diffusers"),
    ),
    "loras": ("models/Lora", "models/LyCORIS", "models/loras", "Lora", "LyCORIS", "loras"),
    "embeddings": ("embeddings", "models/embeddings"),
    "vae": ("models/VAE", "models/vae", "VAE", "vae"),
    "controlnet": ("models/ControlNet", "models/controlnet", "ControlNet", "controlnet"),
}


@dataclass(frozen=True)
class ModelFolders:
    """The folders to look in, by what lies there; earlier ones go first."""

    checkpoints: tuple[Path, ...] = ()
    loras: tuple[Path, ...] = ()
    embeddings: tuple[Path, ...] = ()
    vae: tuple[Path, ...] = ()
    controlnet: tuple[Path, ...] = ()

    def __add__(self, other: ModelFolders) -> ModelFolders:
        kinds = (f.name for f in dataclasses.fields(self))
        return ModelFolders(**{k: tuple(dict.fromkeys(getattr(self, k) + getattr(other, k))) for k in kinds})


def tree_folders(root: Path) -> ModelFolders:
    """The folders below `root`: the program's folder of A1111 or ComfyUI, the models inside it, or a plain folder of
    models and LoRAs. Raises `InputError` if it is none of these."""
    if not os.path.isdir(root):
        raise InputError(f"there is no folder {root}")
    found = {kind: _unlike(root / name for name in names) for kind, names in TREE.items()}
    if not any(found.values()):
        if not named_files(CHECKPOINTS, [root]):
            expected = ", ".join(names[0] for names in TREE.values())
            raise InputError(f"{root} holds no models: expected is a folder with {expected}, or as ComfyUI has them")
        # Not for embeddings, whose names are words of prompts.
        found = dict.fromkeys(("checkpoints", "loras", "vae", "controlnet"), (root,))
    return ModelFolders(**found)


def _unlike(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Those that are folders, each once, whatever the spellings by which a file system finds it."""
    real: dict[str, Path] = {}
    for path in paths:
        if os.path.isdir(path):  # also of names that no folder can have
            real.setdefault(os.path.realpath(path), path)
    return tuple(real.values())


def read_extra_model_paths(path: Path) -> ModelFolders:
    """The folders in ComfyUI's file of paths: for each program a `base_path`, and below it one or more lines a kind.

    Raises `InputError` naming the file and the key. Folders that are not there are left out, as ComfyUI does.
    """
    text = read_text(path, MAX_BYTES)
    try:
        table = yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read: {cause(error)}") from None
    if not isinstance(table, dict):
        raise InputError(f"{path} is not a table of programs and their folders")
    first, others = ModelFolders(), ModelFolders()
    for name, program in table.items():
        if program is None:
            continue
        if not isinstance(program, dict):
            raise InputError(f"{path}: {printable(name)} is {printable(program)}, expected is a table of folders")
        found = _program(path, str(name), program)
        if program.get("is_default") is True:
            first = first + found
        else:
            others = others + found
    return first + others


def _program(path: Path, name: str, program: dict[Any, Any]) -> ModelFolders:
    def lines(key: str) -> list[str]:
        said = program.get(key)
        if said is None:
            return []
        if not isinstance(said, str) or "\0" in said:
            raise InputError(f"{path}: {printable(name)}.{key} is {printable(said)}, expected is a path on each line")
        return [os.path.expandvars(os.path.expanduser(line.strip())) for line in said.splitlines() if line.strip()]

    base = path.parent.joinpath(*lines("base_path")[:1])
    kinds = [f.name for f in dataclasses.fields(ModelFolders)]
    return ModelFolders(**{kind: _unlike(base / line for line in lines(kind)) for kind in kinds})
