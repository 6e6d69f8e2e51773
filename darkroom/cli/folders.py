"""Where files that are called by name are looked for: the folders on the line, then those of config.toml."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from darkroom.checkpoints.folders import CHECKPOINTS, CONTROLS, EMBEDDINGS, LORAS, Kept, named_files
from darkroom.checkpoints.model_folders import ModelFolders, read_extra_model_paths, tree_folders
from darkroom.cli.options import Also
from darkroom.errors import InputError
from darkroom.preferences import read_preferences

__all__ = ["Folders", "completed", "kept_folders"]

PANEL = "Models"
KEPT = {"loras": LORAS, "embeddings": EMBEDDINGS, "controlnet": CONTROLS}  # other kinds are checkpoints


@dataclass(frozen=True)
class Folders:
    """Folders of models. All is used where it lies; nothing is copied."""

    models: Annotated[
        list[Path] | None,
        typer.Option(
            "--models-dir",
            metavar="FOLDER",
            help="A1111's or ComfyUI's folder, or one of models: names are looked up there.",
            rich_help_panel=PANEL,
        ),
    ] = None
    extra: Annotated[
        list[Path] | None,
        typer.Option(
            "--extra-model-paths", metavar="FILE", help="ComfyUI's extra_model_paths.yaml.", rich_help_panel=PANEL
        ),
        Also("--extra-model-paths-config"),
    ] = None
    loras: Annotated[
        list[Path] | None,
        typer.Option("--lora-dir", metavar="FOLDER", help="Where LoRAs are looked for.", rich_help_panel=PANEL),
        Also("--lora-model-dir"),
    ] = None
    embeddings: Annotated[
        list[Path] | None,
        typer.Option(
            "--embeddings-dir",
            metavar="FOLDER",
            help="Where textual-inversion embeddings that prompts name are looked for.",
            rich_help_panel=PANEL,
        ),
        Also("--embedding-dir"),
    ] = None

    controls: Annotated[
        list[Path] | None,
        typer.Option(
            "--controlnet-dir", metavar="FOLDER", help="Where control networks are looked for.", rich_help_panel=PANEL
        ),
        Also("--control-net-dir"),
    ] = None

    def found(self) -> ModelFolders:
        """All of them. Raises `InputError` for one that is not there."""
        own = ModelFolders(
            loras=tuple(self.loras or ()),
            embeddings=tuple(self.embeddings or ()),
            controlnet=tuple(self.controls or ()),
        )
        for folder in (*own.loras, *own.embeddings, *own.controlnet):
            if not os.path.isdir(folder):
                raise InputError(f"there is no folder {folder}")
        for root in self.models or ():
            own = own + tree_folders(root)
        for file in self.extra or ():
            own = own + read_extra_model_paths(file)
        return own + kept_folders()


def kept_folders() -> ModelFolders:
    """The folders of config.toml."""
    kept = read_preferences()
    found = ModelFolders(loras=tuple(map(Path, kept.lora_dirs)), embeddings=tuple(map(Path, kept.embeddings_dirs)))
    for root in kept.models_dirs:
        found = found + tree_folders(Path(root))
    return found if kept.extra_model_paths is None else found + read_extra_model_paths(Path(kept.extra_model_paths))


def completed(kind: str) -> Callable[[typer.Context, str], list[str]]:
    """What offers the shell names of a kind of `ModelFolders`, from the folders on the line so far and config.toml."""
    kept: Kept = KEPT.get(kind, CHECKPOINTS)

    def names(context: typer.Context, incomplete: str) -> list[str]:
        said = {f: context.params.get(f"folders_{f}") for f in ("models", "extra", "loras", "embeddings", "controls")}
        try:
            folders = Folders(**said).found()
        except InputError:  # said when the command runs
            return []
        files = named_files(kept, getattr(folders, kind))
        shortest = {path: name for name, path in reversed(files.items())}
        return sorted(name for name in shortest.values() if name.startswith(incomplete))

    return names
