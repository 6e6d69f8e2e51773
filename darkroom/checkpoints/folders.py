"""Files that people keep in folders and call by name: LoRAs, embeddings, control networks, checkpoints."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from darkroom.errors import InputError, printable
from darkroom.registry import nearest

__all__ = ["CHECKPOINTS", "CONTROLS", "EMBEDDINGS", "LORAS", "Kept", "called", "find_file", "named_files"]

MAX_FILES = 100_000  # looked at below one folder


@dataclass(frozen=True)
class Kept:
    """A kind of files. `single`: how tools name the file in a folder of its own, whose name then is the file's.
    `marks`: files that make a folder one model, which is called by the folder's name."""

    kind: str
    endings: tuple[str, ...]
    single: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()


CHECKPOINTS = Kept(
    "model", (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin"), marks=("model_index.json", "system.json")
)
LORAS = Kept(
    "LoRA",
    (".safetensors", ".sft", ".pt", ".pth", ".ckpt", ".bin"),
    ("pytorch_lora_weights.safetensors", "adapter_model.safetensors", "adapter_model.bin", "pytorch_lora_weights.bin"),
)
CONTROLS = Kept(
    "control network",
    (".safetensors", ".sft", ".pth", ".pt", ".ckpt", ".bin"),
    tuple(
        f"diffusion_pytorch_model{variant}" for variant in (".safetensors", ".fp16.safetensors", ".bin", ".fp16.bin")
    ),
)
EMBEDDINGS = Kept(
    "embedding",
    (".safetensors", ".sft", ".pt", ".bin"),
    ("learned_embeds.safetensors", "learned_embeds.bin"),
)


def find_file(kept: Kept, name: str, folders: Sequence[Path], *, paths: bool = True) -> Path:
    """The file that `name` means: a path, or a file in or below one of `folders`, with or without the folders between
    and its ending. A folder that holds one file, as tools write it, stands for it. Without `paths` only what `folders`
    hold is looked at, whoever chose the name.

    Raises `InputError` with the nearest of those that are there.
    """
    path = Path(os.path.expanduser(name))
    for candidate in (path, *(path / single for single in kept.single)) if paths else ():
        if os.path.isfile(candidate):
            return candidate
    known = named_files(kept, folders)
    if name in known:
        return known[name]
    if not folders and name and os.path.isdir(path):
        raise InputError(f"the folder {path} holds no {kept.kind}, which would be called {' or '.join(kept.single)}")
    if not folders:
        raise InputError(f"the {kept.kind} {printable(name)!r} is no file, and no folder of {kept.kind}s is given")
    where = ", ".join(map(str, folders))
    stems = list({path: name for name, path in reversed(known.items())}.values())
    listed = ", ".join(nearest(name, stems)[:10]) or "none"
    raise InputError(f"unknown {kept.kind} {printable(name)!r} in {where}; known are: {listed}")


def called(kept: Kept, name: str, folders: Sequence[Path]) -> str:
    """The path of the file that is called `name` in or below `folders`; `name` itself where it is a path or called so
    nowhere."""
    if not folders or os.path.isfile(name) or os.path.isdir(name):
        return name
    return str(named_files(kept, folders).get(name, name))


def named_files(kept: Kept, folders: Sequence[Path]) -> dict[str, Path]:
    """Every name by which a file in or below `folders` may be called. Earlier folders go before later ones, what lies
    higher before what lies deeper."""
    known: dict[str, Path] = {}
    longer: dict[str, Path] = {}
    for folder in folders:
        for path in _files(folder, kept.marks):
            whole = os.path.isdir(path)
            if whole or path.suffix.lower() in kept.endings:
                named = path if whole else path.parent if path.name in kept.single else path.with_suffix("")
                known.setdefault(named.name, path)
                for longer_name in (path.name, *(p.relative_to(folder).as_posix() for p in (named, path))):
                    longer.setdefault(longer_name, path)
    return known | {name: path for name, path in longer.items() if name not in known}


def _files(folder: Path, marks: Sequence[str]) -> Iterator[Path]:
    """All files below `folder`, links to folders followed, each real folder once; one that holds one of `marks`
    is given itself in place of what is in it."""
    seen: set[str] = set()
    left = MAX_FILES
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen or left < 0:
            folders.clear()
            continue
        seen.add(real)
        if not set(marks).isdisjoint(files):
            folders.clear()
            yield Path(place)
            continue
        folders.sort()
        left -= len(files)
        yield from (path for name in sorted(files) if os.path.isfile(path := Path(place) / name))
