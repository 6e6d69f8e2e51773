"""Checkpoints of the catalogue by the names and shapes of their tensors, so that one is told without PyTorch.

`known-checkpoints.json` is made of the catalogue by `python -m darkroom.cli.names`. What is not in it, or
takes more than names and shapes (numbers that have to be read), is left to `identify`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from darkroom.checkpoints import diffusers_names, original_names
from darkroom.checkpoints.choosing import Candidate, choose
from darkroom.checkpoints.prediction import tell_prediction
from darkroom.json_file import real

if TYPE_CHECKING:
    from darkroom.checkpoints.source import Source
    from darkroom.diffusion.prediction import Prediction

__all__ = [
    "Recognized",
    "Shapes",
    "description_digest",
    "digest",
    "is_shipped",
    "known_first_stages",
    "recognized",
    "table",
]

Shapes = Mapping[str, Sequence[int]]
COUNTERS = {"model_ema.decay", "model_ema.num_updates"}


@dataclass(frozen=True)
class Recognized:
    """What `inspect` says of a checkpoint's system."""

    name: str
    title: str
    told_by: str
    alternatives: tuple[str, ...]
    prediction: str
    zero_terminal_snr: bool
    prediction_told_by: str
    parameters: Mapping[str, int]  # of each part
    unused: int  # tensors that nothing reads


@cache
def table() -> dict[str, Any]:
    """All that `known-checkpoints.json` holds."""
    return json.loads((files("darkroom") / "known-checkpoints.json").read_text(encoding="utf-8"))


def digest(shapes: Shapes, layout: str) -> tuple[str, dict[str, list[int]]]:
    """(One word for names and shapes, those among the names that files of others may hold as baggage).

    Sides of 1 do not count: linear layers and convolutions with a kernel of one are the same numbers.
    """
    is_ignored = original_names.is_ignored if layout == "original" else diffusers_names.is_ignored
    plain = {n.replace("vqvae/", "vae/"): [side for side in shape if side != 1] for n, shape in shapes.items()}
    told = sorted(f"{n} {shape}" for n, shape in plain.items() if not is_ignored(n))
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:32], {n: s for n, s in plain.items() if is_ignored(n)}


def recognized(source: Source, prediction: Prediction | None, hint: str) -> Recognized | None:
    """The system of the catalogue that has these tensors; None where that takes a closer look."""
    if not _is_whole_average(source):
        return None
    scales = [c["scaling_factor"] for c in source.configs.values() if c.get("scaling_factor") is not None]
    if any((real(scale) or 0) <= 0 for scale in scales):
        return None
    word, beside = digest({name: stored.shape for name, stored in source.tensors.items()}, source.layout)
    entry = table()[source.layout].get(word)
    if entry is None or not entry["beside"].items() <= beside.items():
        return None
    rows = {name: table()["systems"][name] for name in entry["systems"]}
    told = tell_prediction(source, prediction, ambiguous=len({row["prediction"] for row in rows.values()}) > 1)
    candidates = {n: Candidate(row["prediction"], row["generative models"], row["usual"]) for n, row in rows.items()}
    names, told_by = choose(candidates, source, told, hint)
    row = rows[names[0]]
    return Recognized(
        names[0],
        row["title"],
        told_by,
        tuple(names[1:]),
        row["prediction"] if told is None or told.prediction is None else str(told.prediction),
        row["zero terminal SNR"] or (told is not None and told.zero_terminal_snr),
        f"the habit of {names[0]}" if told is None else told.by,
        row["parameters"],
        len(source.tensors) - entry["count"],
    )


def description_digest(said: object) -> str:
    """One word for the description of a system in a folder of this project."""
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def is_shipped(said: object) -> bool:
    """Whether that is the description of a model that ships, which needs no check."""
    return description_digest(said) in table()["descriptions"]


def _is_whole_average(source: Source) -> bool:
    """Whether the running average is that of every tensor of the UNet, or there is none."""
    average = {n for n in source.tensors if n.startswith("model_ema.")} - COUNTERS
    unet = [n for n in source.tensors if n.startswith(original_names.UNET)]
    return not average or all(
        (copy := original_names.ema_name(n)) in average and source.tensors[copy].shape == source.tensors[n].shape
        for n in unet
    )


def known_first_stages(shapes: Shapes) -> list[str] | None:
    """The first stages of the catalogue that have these tensors; None where none has exactly these."""
    word, beside = digest(shapes, "original")
    entry = table()["first stages"].get(word)
    return entry["names"] if entry is not None and entry["beside"].items() <= beside.items() else None
