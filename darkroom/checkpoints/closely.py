"""What takes the networks themselves to tell of a checkpoint, or what is beside a whole one: LoRAs and their kin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from darkroom.checkpoints import original
from darkroom.checkpoints.control import describe_control
from darkroom.checkpoints.embeddings import describe_embedding, embedding_hash
from darkroom.checkpoints.fingerprint import lora_hash, model_hash
from darkroom.checkpoints.identify import identify, parameter_counts
from darkroom.checkpoints.known import Recognized
from darkroom.checkpoints.lora import describe_lora
from darkroom.checkpoints.original_names import OPTIONAL, is_ignored
from darkroom.checkpoints.source import Source
from darkroom.checkpoints.statistics import STATISTICS, statistics_beside
from darkroom.checkpoints.stored import Weights
from darkroom.checkpoints.table import rules
from darkroom.checkpoints.transfer import fit
from darkroom.conditioning.image_prompt import ImagePromptConfig
from darkroom.diffusion.prediction import Prediction
from darkroom.models.autoencoder import Autoencoder
from darkroom.systems import FIRST_STAGES, FirstStage, System
from darkroom.systems.empty import empty_modules

__all__ = ["identified", "part"]

Hash = Callable[[Path], str]


def part(weights: Weights) -> tuple[dict[str, Any], Hash] | None:
    """(What is said of a file that is put on a model or beside it, how it is hashed); None for a whole checkpoint."""
    described: tuple[tuple[Callable[[Weights], dict[str, Any] | None], Hash], ...] = (
        (describe_control, model_hash),
        (describe_lora, lora_hash),
        (_first_stage, model_hash),
        (describe_embedding, embedding_hash),
    )
    return next(((facts, hash_of) for describe, hash_of in described if (facts := describe(weights))), None)


def identified(
    source: Source, *, ema: str, prediction: Prediction | None, hint: str
) -> tuple[Recognized, dict[str, str]]:
    """(The system of a checkpoint, what else is to be said of it). `InputError` describing the nearest system."""
    identity = identify(source, ema=ema, prediction=prediction, hint=hint)
    system = identity.system
    told = Recognized(
        system.name,
        system.title,
        identity.told_by,
        identity.alternatives,
        system.prediction,
        system.schedule.zero_terminal_snr,
        identity.prediction_told_by,
        parameter_counts(system),
        len(identity.fit.unused),
    )
    stage = {} if identity.has_stage else {"first stage": "none, to be named with --vae"}
    return told, {**stage, **_statistics(source, system)}


def _statistics(source: Source, system: System) -> dict[str, str]:
    """Of image embeddings: whether they are there, where a single file ought to have them beside it."""
    widths = [config.tower.projection for config in system.embedders if isinstance(config, ImagePromptConfig)]
    if not widths or source.layout == "diffusers" or set(OPTIONAL) <= set(source.tensors):
        return {}
    found = statistics_beside(source.path.parent, widths[0])
    expected = f"none, taken as 0 and 1; unCLIP L was trained with those in {STATISTICS}, to be put beside the file"
    return {"embedding statistics": str(found) if found else expected if widths[0] == 768 else "0 and 1"}


def _first_stage(weights: Weights) -> dict[str, Any] | None:
    """An autoencoder alone: all of the catalogue with these tensors."""
    if "decoder.conv_in.weight" not in weights:
        return None
    found: list[FirstStage] = []
    for stage in FIRST_STAGES.values():
        with empty_modules():
            state = Autoencoder(stage.autoencoder).state_dict()
        table = rules(original.autoencoder(stage.autoencoder), state)
        if not fit(table, state, weights, is_ignored=is_ignored).distance:
            found.append(stage)
    names = ", ".join(stage.name for stage in found)
    return {"first stage": names or "of a shape that is not in the catalogue"}
