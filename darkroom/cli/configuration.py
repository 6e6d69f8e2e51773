"""`darkroom config`: what the user's config.toml says, and what is found by it."""

from __future__ import annotations

import json
import os
from dataclasses import fields

from darkroom.checkpoints.folders import CHECKPOINTS, named_files
from darkroom.cli.folders import KEPT, kept_folders
from darkroom.errors import printable
from darkroom.preferences import Preferences, meaning, preferences_path, read_preferences

__all__ = ["config"]


def config() -> None:
    """Show config.toml: where it is, its keys with what they mean, and the folders that they lead to.

    What it prints is itself a config.toml.
    """
    path, read = preferences_path(), read_preferences()
    print(f"# {path}{'' if os.path.exists(path) else ' (not there; these are the defaults)'}")
    for f in fields(Preferences):
        value = getattr(read, f.name)
        line = f"{f.name} = {_toml(value)}" if value is not None else f"# {f.name} ="
        print(f"\n# {meaning(f.name)}\n{line}")
    folders = kept_folders()
    found = [(kind.name, folder) for kind in fields(folders) for folder in getattr(folders, kind.name)]
    if found:
        print("\n# Names are looked up in:")
    for kind, folder in found:
        count = len(set(named_files(KEPT.get(kind, CHECKPOINTS), [folder]).values()))
        print(f"# {kind:12} {printable(folder, 1000)} ({count} file{'s' if count != 1 else ''})")


def _toml(value: object) -> str:
    """As TOML: texts and lists of them are written as in JSON."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
