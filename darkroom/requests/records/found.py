"""What a file says about how its picture was made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from darkroom.errors import InputError, cause, printable
from darkroom.names import names_of, split_name
from darkroom.prompts.grammar import MAX_WEIGHT
from darkroom.types import ControlUnit, Request

__all__ = ["Findings", "Found", "RecordedControl", "listed"]

# Levels that a configuration of Diffusers' schedulers asks for, as schedules.
_SIGMAS = {
    "use_karras_sigmas": "karras",
    "use_exponential_sigmas": "exponential",
    "use_beta_sigmas": "beta",
}


@dataclass(frozen=True)
class RecordedControl:
    """A control unit without its picture, and the digest of that."""

    unit: ControlUnit
    sha256: str

    def said(self) -> dict[str, Any]:
        """What it says besides the defaults, by names of its fields."""
        values = {f.name: (getattr(self.unit, f.name), f.default) for f in fields(self.unit)}
        return {name: value for name, (value, usual) in values.items() if value != usual and value is not None}


@dataclass(frozen=True)
class Found:
    """The request as far as it maps, and in words what did not."""

    request: Request
    dialect: str
    model: str | None = None
    model_hash: str | None = None
    unmapped: tuple[str, ...] = ()
    lora_hashes: Mapping[str, str] = field(default_factory=dict)
    embedding_hashes: Mapping[str, str] = field(default_factory=dict)
    controls: tuple[RecordedControl, ...] = ()  # `recalled` reads their pictures


class Findings:
    """Collects a request from untrusted values: what has the wrong type or an unknown name goes to `unmapped`."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.unmapped: list[str] = []

    def text(self, field: str, value: object) -> None:
        if isinstance(value, str):
            self.fields[field] = value
        elif value is not None:
            self.unmapped.append(f"{field}: {str(value)[:80]}")

    def number(self, field: str, value: object, kind: type, name: str | None = None) -> None:
        """A number, also as text."""
        if (number := self.read_number(name or field, value, kind)) is not None:
            self.fields[field] = number

    def read_number(self, name: str, value: Any, kind: type) -> Any:
        """`value`, perhaps a text, as a number of `kind`, whole ones also where they are written as 20.0; None, and
        said, where it is none."""
        if value is None or value == "":
            return None
        try:
            if isinstance(value, (bool, list, dict)):
                raise ValueError
            if kind is int and not isinstance(value, int) and re.fullmatch(r"\s*-?\d{1,15}\.0*\s*", str(value)):
                return int(float(str(value)))
            if kind is int and isinstance(value, float):
                raise ValueError
            return kind(value)
        except (TypeError, ValueError, OverflowError):
            self.unmapped.append(f"{name}: {str(value)[:80]}")
            return None

    def sampler(self, value: object) -> None:
        """A sampler's name in any tool's words, perhaps with the schedule inside."""
        if not isinstance(value, str):
            return
        name, carried = split_name(value)
        if name in names_of("sampler"):
            self.fields["sampler"] = names_of("sampler").name(name)
            if carried is not None:
                self.fields.setdefault("schedule", carried)
        else:
            self.unmapped.append(f"sampler: {value[:80]}")

    def schedule(self, value: object) -> None:
        if not isinstance(value, str) or value.lower() == "automatic":
            return
        if value in names_of("schedule"):
            self.fields["schedule"] = names_of("schedule").name(value)
        else:
            self.unmapped.append(f"schedule: {value[:80]}")

    def scheduler_configuration(self, said: Mapping[str, Any]) -> set[str]:
        """The schedule and the kind of solver that `said` chooses in the words of Diffusers' schedulers; returns the
        keys that were read."""
        read = {key for key in said if key in _SIGMAS or key in ("algorithm_type", "timestep_spacing")}
        chosen = next((name for key, name in _SIGMAS.items() if str(said.get(key)) == "True"), None)
        if chosen is not None or said.get("timestep_spacing") is not None:
            self.schedule(chosen or said["timestep_spacing"])
        if str(said.get("algorithm_type", "")).startswith("sde") and self.fields.get("sampler") == "DPM++ 2M":
            self.fields["sampler"] = "DPM++ 3M SDE" if str(said.get("solver_order")) == "3" else "DPM++ 2M SDE"
            read.add("solver_order")
        return read

    def size(self, value: object) -> None:
        """Width and height as `512x768`, or with other signs between and around them."""
        sides = re.findall(r"\d{1,6}", str(value)[:100])
        if len(sides) == 2:
            self.fields |= {"width": int(sides[0]), "height": int(sides[1])}
        elif value not in (None, ""):
            self.unmapped.append(f"size: {value}")

    def lora(self, name: object, text: object, unet: object | None = None) -> str:
        """The tag of a LoRA with its strengths, `unet` as `text` where it is None; "" where a tag cannot hold them."""
        strengths = [text] if unet is None else [text, unet]
        sound = all(isinstance(v, (int, float)) and abs(v) <= MAX_WEIGHT for v in strengths)
        if not isinstance(name, str) or not name or set(name) & set(":<>") or not sound:
            self.unmapped.append(f"the LoRA {name} of strength {' and '.join(map(str, strengths))}")
            return ""
        stem = name.removesuffix(".safetensors").removesuffix(".ckpt").removesuffix(".pt")
        numbers = "".join(":" + (f"{v:.6f}".rstrip("0").rstrip(".") or "0") for v in strengths)
        return f"<lora:{stem}{numbers}>"

    def rest(self, table: dict[str, Any], known: set[str]) -> None:
        """What `table` holds besides what is `known` and what is empty."""
        self.unmapped += [
            f"{key}: {str(value)[:200]}"
            for key, value in table.items()
            if key not in known and value not in (None, "", [], {}, False, "None")
        ]

    def found(self, dialect: str, model: object = None, model_hash: object = None) -> Found:
        try:
            request = replace(Request(), **self.fields)
        except TypeError as error:
            raise InputError(f"the {dialect} metadata cannot be read: {cause(error)}") from None
        return Found(
            request,
            dialect,
            model if isinstance(model, str) else None,
            model_hash if isinstance(model_hash, str) else None,
            tuple(printable(thing, 200) for thing in self.unmapped),
        )


def listed(value: object) -> list[Any]:
    """`value` if it is a list, else none of it."""
    return value if isinstance(value, list) else []
