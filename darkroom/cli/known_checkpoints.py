"""`known-checkpoints.json`, made of the catalogue: see `checkpoints/known.py`."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from darkroom.checkpoints import diffusers, original
from darkroom.checkpoints.diffusers_config import has_pipeline
from darkroom.checkpoints.identify import by_networks, candidate, empty_state, parameter_counts
from darkroom.checkpoints.known import description_digest, digest
from darkroom.checkpoints.part import Part, complete
from darkroom.checkpoints.table import rules
from darkroom.checkpoints.transfer import wanted_shapes
from darkroom.conditioning.image_prompt import ImagePromptConfig
from darkroom.models.autoencoder import Autoencoder
from darkroom.systems import FIRST_STAGES, SYSTEMS, System
from darkroom.systems.empty import empty_modules

__all__ = ["known_checkpoints"]


def known_checkpoints() -> dict[str, Any]:
    """What the file is to hold."""
    systems = [s for s in SYSTEMS.values() if _is_told_by_tensors(s)]
    known: dict[str, Any] = {"systems": {s.name: _row(s) for s in systems}, "original": {}, "diffusers": {}}
    for alike in by_networks(systems):
        names = [s.name for s in alike]
        if original.holds(alike[0]):
            for style in sorted({candidate(s).generative_models for s in alike}):
                parts = original.parts(alike[0], generative_models=style)
                _add(known["original"], alike[0], parts, "original", names)
        if pipelines := [s.name for s in alike if has_pipeline(s)]:
            _add(known["diffusers"], alike[0], diffusers.parts(alike[0]), "diffusers", pipelines)
    folders = (p for p in (files("darkroom") / "weights").iterdir() if (p / "system.json").is_file())
    known["descriptions"] = sorted(
        description_digest(json.loads((p / "system.json").read_text(encoding="utf-8"))["system"]) for p in folders
    )
    known["first stages"] = {}
    for stage in FIRST_STAGES.values():
        with empty_modules():
            state = Autoencoder(stage.autoencoder).state_dict()
        shapes = wanted_shapes(rules(original.autoencoder(stage.autoencoder), state), state)
        word, beside = digest(shapes, "original")
        known["first stages"].setdefault(word, {"names": [], "beside": beside})["names"].append(stage.name)
    return known


def _is_told_by_tensors(system: System) -> bool:
    """Whether nothing else has to be read: no scale in the file, no statistics beside it."""
    return not system.scale_in_file and not any(isinstance(e, ImagePromptConfig) for e in system.embedders)


def _add(table: dict[str, Any], system: System, parts: list[Part], layout: str, names: list[str]) -> None:
    state = empty_state(system)
    shapes = wanted_shapes(complete(parts, state), state)
    word, beside = digest(shapes, layout)
    entry = table.setdefault(word, {"systems": [], "count": len(shapes), "beside": beside})
    entry["systems"] += [name for name in names if name not in entry["systems"]]


def _row(system: System) -> dict[str, Any]:
    told = candidate(system)
    return {
        "title": system.title,
        "prediction": str(told.prediction),
        "zero terminal SNR": system.schedule.zero_terminal_snr,
        "generative models": told.generative_models,
        "usual": told.usual,
        "parameters": parameter_counts(system),
    }
