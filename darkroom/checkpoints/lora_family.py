"""Which models a LoRA was made for: told by the tokens that it reads, its metadata, or its keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from darkroom.checkpoints.lora_names import parse_key
from darkroom.checkpoints.modelspec import architecture
from darkroom.checkpoints.stored import Stored, Weights
from darkroom.errors import InputError
from darkroom.systems import SYSTEMS
from darkroom.systems.system import System

__all__ = ["FAMILIES", "Family", "family_of", "made_for", "require_family", "told_family"]

Groups = Mapping[str, Mapping[str, Stored]]  # layer, as the file calls it → part → tensor
_SAID = ("ss_base_model_version", "modelspec.architecture")  # metadata that name a model


@dataclass(frozen=True)
class Family:
    """Systems whose LoRAs fit one another."""

    title: str
    example: str  # in the catalogue
    word: str  # by which metadata name it
    base_version: str  # what kohya's scripts call it
    second_tower: bool = False  # whether LoRAs may adapt a second text encoder

    @property
    def token_width(self) -> int | None:
        return SYSTEMS[self.example].unet.context_dim


FAMILIES = (  # a word of an earlier one may contain that of a later one
    Family("the SDXL refiner", "sdxl-refiner", "refiner", "sdxl_refiner_v1-0"),
    Family("SDXL", "sdxl-base", "xl", "sdxl_base_v1-0", second_tower=True),
    Family("Stable Diffusion 2", "sd-v2-1-base", "v2", "sd_v2"),
    Family("Stable Diffusion 1", "sd-v1-5", "v1", "sd_v1"),
)


def family_of(system: System) -> Family | None:
    """The family of a system; None for those that have no name among LoRAs."""
    return _by_word(architecture(system))


def _by_word(said: str) -> Family | None:
    return next((family for family in FAMILIES if family.word in said.lower()), None)


def _token_width(groups: Groups) -> int | None:
    """Of the tokens that the adapted cross-attention reads; None if no such layer is adapted by low-rank factors."""
    for key, parts in groups.items():
        if re.search(r"attn2[._]to_[kv]$", key) and "down" in parts and len(parts["down"].shape) > 1:
            return parts["down"].shape[1]
    return None


def _said_family(weights: Weights, keys: Iterable[str]) -> Family | None:
    """What metadata or the keys of a second text encoder say."""
    found = _by_word(" ".join(weights.metadata.get(name, "") for name in _SAID))
    if found is None and any(parse_key(key)[0].startswith("te2:") for key in keys):
        return next(family for family in FAMILIES if family.second_tower)
    return found


def told_family(weights: Weights, groups: Groups) -> Family | None:
    """The family that the LoRA was made for; None if nothing tells, or it was made for a system of none."""
    width = _token_width(groups)
    if width is None:
        return _said_family(weights, groups)
    return next((family for family in FAMILIES if family.token_width == width), None)


def made_for(weights: Weights, groups: Groups) -> str | None:
    """What the LoRA was made for, in words; None if nothing tells."""
    if (family := told_family(weights, groups)) is not None:
        return family.title
    width = _token_width(groups)
    return None if width is None else f"a model that reads tokens of width {width}"


def require_family(weights: Weights, groups: Groups, system: System) -> None:
    """Raise `InputError` if the LoRA was made for a family other than that of `system`."""
    width, reads = _token_width(groups), system.unet.context_dim
    said, own = _said_family(weights, groups), family_of(system)
    fits = width == reads if width is not None else said is None or own is None or said == own
    if not fits:
        tokens = f"tokens of width {reads}" if reads else "no tokens"
        raise InputError(
            f"{weights.path} is a LoRA for {made_for(weights, groups)}, "
            f"the model is {system.name}, which reads {tokens}"
        )
