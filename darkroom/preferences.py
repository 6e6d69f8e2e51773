"""What a user keeps in `config.toml`: where models lie, and what commands take where nothing is said.

The file is `$DARKROOM_CONFIG`, or else `darkroom/config.toml` in `$XDG_CONFIG_HOME` (`~/.config`). It need not be
there. Paths in it may begin with `~`; relative ones are seen from the file's folder.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from darkroom.config import load_toml
from darkroom.errors import InputError, cause

__all__ = ["Preferences", "meaning", "preferences_path", "read_preferences"]


def _key(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True)
class Preferences:
    """The keys of the file."""

    model: str = _key("picturebook", "the model that is taken without -m")
    output: str = _key("out", "the folder for pictures without -o")
    device: str = _key("cpu", "where to compute without --device")
    models_dirs: tuple[str, ...] = _key((), "folders of A1111, ComfyUI or models, besides --models-dir")
    lora_dirs: tuple[str, ...] = _key((), "folders of LoRAs, besides --lora-dir")
    embeddings_dirs: tuple[str, ...] = _key((), "folders of embeddings, besides --embeddings-dir")
    extra_model_paths: str | None = _key(None, "a file of folders as ComfyUI has it")


def meaning(name: str) -> str:
    """What the key `name` is for."""
    return next(f.metadata["meaning"] for f in fields(Preferences) if f.name == name)


def preferences_path() -> Path:
    """The user's file, whether it is there or not."""
    if said := os.environ.get("DARKROOM_CONFIG"):
        return Path(said)
    base = os.environ.get("XDG_CONFIG_HOME", "")
    try:  # the XDG base directory specification: relative paths are invalid and ignored
        return (Path(base) if os.path.isabs(base) else Path.home() / ".config") / "darkroom" / "config.toml"
    except RuntimeError as error:
        raise InputError(f"the folder of config.toml is not known: {cause(error)}") from None


def read_preferences() -> Preferences:
    """What the user's file says, paths absolute; the defaults where there is none. Raises `InputError` naming file and
    key for what is unknown or of the wrong type."""
    path = preferences_path()
    if not os.path.exists(path) and not os.environ.get("DARKROOM_CONFIG"):
        return Preferences()
    read = load_toml(Preferences, path)
    folder = path.absolute().parent

    def at(said: str) -> str:
        try:
            return str(folder / Path(said).expanduser())
        except (RuntimeError, ValueError) as error:  # an unknown user, or a name that no file can have
            raise InputError(f"{path}: {said!r} is no path: {cause(error)}") from None

    return replace(
        read,
        output=read.output if read.output == Preferences.output else at(read.output),
        models_dirs=tuple(map(at, read.models_dirs)),
        lora_dirs=tuple(map(at, read.lora_dirs)),
        embeddings_dirs=tuple(map(at, read.embeddings_dirs)),
        extra_model_paths=None if read.extra_model_paths is None else at(read.extra_model_paths),
    )
