"""Textual-inversion embeddings: files of A1111, Diffusers and kohya's scripts, found by name, read against a system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch

from darkroom.checkpoints.fingerprint import sha256
from darkroom.checkpoints.folders import EMBEDDINGS, named_files
from darkroom.checkpoints.open_file import open_weights
from darkroom.checkpoints.stored import Stored, Weights, all_finite
from darkroom.conditioning.caption import CaptionConfig
from darkroom.conditioning.embedding import Embedding
from darkroom.errors import InputError, printable
from darkroom.systems import SYSTEMS, System

__all__ = [
    "BUNDLED",
    "EmbeddingFolders",
    "bundled_embeddings",
    "describe_embedding",
    "embedding_hash",
    "read_embedding",
]

BUNDLED = "bundle_emb."  # what precedes the tensors of embeddings inside a LoRA: bundle_emb.NAME.PART
PAIR = (("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1"))  # for two towers, by name
SINGLE = ("emb_params", "string_to_param.*")  # for one
MAX_VECTORS = 75  # what a chunk of a prompt holds


def read_embedding(path: Path | str, system: System) -> Embedding:
    """The embedding in a file, for the text towers of `system`. Raises `InputError` naming the file and the cause: it
    holds none, or vectors of other widths than the towers read."""
    path = Path(path)
    weights = open_weights(path)
    return replace(_embedding(_name_of(path), weights, f"{path}", system), file=path)


def bundled_embeddings(weights: Weights, system: System) -> list[Embedding]:
    """Those that a LoRA brings along."""
    found: dict[str, dict[str, Stored]] = {}
    for key, stored in weights.items():
        if key.startswith(BUNDLED):
            name, _, part = key.removeprefix(BUNDLED).partition(".")
            found.setdefault(name, {})[part] = stored
    return [
        _embedding(name, parts, f"{weights.path}: the embedding {printable(name)!r} inside", system)
        for name, parts in found.items()
    ]


class EmbeddingFolders:
    """The embeddings in or below folders, by the names of their files as A1111 and ComfyUI have them, each read when
    it is first asked for. Files go before those of the same name that LoRAs bring along."""

    def __init__(self, folders: Sequence[Path], system: System) -> None:
        self.folders, self.system = tuple(folders), system
        self.bundled: Mapping[str, Embedding] = {}  # by name in lower case
        self._read: dict[Path, Embedding] = {}

    def also(self, bundled: Sequence[Embedding]) -> EmbeddingFolders:
        """With those that LoRAs bring along."""
        if not bundled:
            return self
        more = copy(self)  # what has been read stays so
        more.bundled = {embedding.name.lower(): embedding for embedding in bundled}
        return more

    @property
    def names(self) -> list[str]:
        """All names, in lower case."""
        return [*self.paths, *(name for name in self.bundled if name not in self.paths)]

    @cached_property
    def paths(self) -> Mapping[str, Path]:
        """Every name in lower case, with and without folders and ending → its file."""
        lowered: dict[str, Path] = {}
        for name, path in named_files(EMBEDDINGS, self.folders).items():
            lowered.setdefault(name.lower(), path)
        return lowered

    def get(self, name: str) -> Embedding | None:
        """The embedding that `name` means; None if there is none. Raises `InputError` if it does not fit the system."""
        path = self.paths.get(name.lower())
        if path is None:
            return self.bundled.get(name.lower())
        if path not in self._read:
            self._read[path] = read_embedding(path, self.system)
        return self._read[path]


def embedding_hash(path: Path) -> str:
    """The first twelve hex digits of the file's sha256: what A1111 writes as "TI hashes"."""
    return sha256(path)[:12]


def describe_embedding(weights: Weights) -> dict[str, str] | None:
    """What `darkroom inspect` says of an embedding; None if the file is none."""
    parts = _parts(weights)
    if parts is None or any(len(stored.shape) not in (1, 2) for stored in parts):
        return None
    widths = [stored.shape[-1] for stored in parts]
    if not set(widths) <= {width for system in SYSTEMS.values() for width in _widths(system)}:
        return None
    count = parts[0].shape[0] if len(parts[0].shape) == 2 else 1
    return {"kind": "embedding (textual inversion)", "vectors": f"{count}", "widths": ", ".join(map(str, widths))}


def _name_of(path: Path) -> str:
    return path.parent.name if path.name in EMBEDDINGS.single else path.stem


def _widths(system: System) -> list[int]:
    """Of the vectors that its text towers read."""
    return [width for c in system.embedders if isinstance(c, CaptionConfig) for width in c.vector_widths]


def _parts(tensors: Mapping[str, Stored]) -> list[Stored] | None:
    """The vectors for one or two towers; None if the file is no embedding."""
    for pair in PAIR:
        if set(pair) & set(tensors):
            return [tensors[name] for name in pair if name in tensors] if set(tensors) <= set(pair) else None
    named = [tensors[name] for name in SINGLE if name in tensors]
    if named:
        return named if len(named) == 1 else None
    only = next(iter(tensors.values())) if len(tensors) == 1 else None  # Diffusers: by the word that it stands for
    return None if only is None or len(only.shape) not in (1, 2) else [only]


def _embedding(name: str, tensors: Mapping[str, Stored], where: str, system: System) -> Embedding:
    widths = _widths(system)
    if not widths:
        raise InputError(f"{where} is an embedding, and {system.name} has no text encoder that reads one")
    parts = _parts(tensors)
    if parts is None:
        shown = ", ".join(printable(n) for n in list(tensors)[:3])
        raise InputError(f"{where} is no embedding: its {len(tensors)} tensors ({shown}) are not those of one")
    found: list[torch.Tensor] = []
    for width in widths:
        fitting = next((s for s in parts if s.shape[-1:] == (width,)), None)
        if fitting is None:
            given = " and ".join(str(s.shape[-1] if s.shape else 1) for s in parts)
            expected = " and ".join(map(str, widths))
            raise InputError(
                f"{where} holds vectors of width {given}, {system.name} reads {expected}: made for another model?"
            )
        found.append(_vectors(fitting, where))
    if len({len(vectors) for vectors in found}) > 1:
        counts = " and ".join(str(len(vectors)) for vectors in found)
        raise InputError(f"{where} holds {counts} vectors for the towers of {system.name}, expected are equally many")
    return Embedding(name, tuple(found))


def _vectors(stored: Stored, where: str) -> torch.Tensor:
    """(n, width), float32."""
    if not stored.dtype.is_floating_point or len(stored.shape) not in (1, 2):
        raise InputError(f"{where} holds {stored.dtype} of shape {list(stored.shape)}, expected are vectors")
    vectors = stored.load(torch.float32).reshape(-1, stored.shape[-1])
    if not 0 < len(vectors) <= MAX_VECTORS:
        raise InputError(f"{where} holds {len(vectors)} vectors, accepted are 1 to {MAX_VECTORS}")
    if not all_finite(vectors):
        raise InputError(f"{where} holds NaN or infinite values")
    return vectors.clone()
