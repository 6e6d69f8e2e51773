"""What a file says about how its picture was made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from darkroom.diffusion.samplers import SAMPLERS, split_name
from darkroom.diffusion.sigma_schedules import SCHEDULES
from darkroom.errors import InputError
from darkroom.types import Request

__all__ = ["Findings", "Found", "listed", "shown"]


@dataclass(frozen=True)
class Found:
    """The request as far as it maps, and in words what did not."""

    request: Request
    dialect: str
    model: str | None = None
    model_hash: str | None = None
    unmapped: tuple[str, ...] = ()


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
        if value is None or value == "":
            return
        try:
            if isinstance(value, (bool, list, dict)):
                raise ValueError
            self.fields[field] = kind(value)
        except (TypeError, ValueError, OverflowError):
            self.unmapped.append(f"{name or field}: {str(value)[:80]}")

    def sampler(self, value: object) -> None:
        """A sampler's name in any tool's words, perhaps with the schedule inside."""
        if not isinstance(value, str):
            return
        name, carried = split_name(value)
        if name in SAMPLERS:
            self.fields["sampler"] = SAMPLERS.name(name)
            if carried is not None:
                self.fields.setdefault("schedule", carried)
        else:
            self.unmapped.append(f"sampler: {value[:80]}")

    def schedule(self, value: object) -> None:
        if not isinstance(value, str) or value.lower() == "automatic":
            return
        if value in SCHEDULES:
            self.fields["schedule"] = SCHEDULES.name(value)
        else:
            self.unmapped.append(f"schedule: {value[:80]}")

    def found(self, dialect: str, model: object = None, model_hash: object = None) -> Found:
        try:
            request = replace(Request(), **self.fields)
        except TypeError as error:
            raise InputError(f"the {dialect} metadata cannot be read: {error}") from None
        return Found(
            request,
            dialect,
            model if isinstance(model, str) else None,
            model_hash if isinstance(model_hash, str) else None,
            tuple(shown(thing, 200) for thing in self.unmapped),
        )


def shown(value: object, longest: int = 80) -> str:
    """Untrusted text cut short, without the control characters that terminals obey."""
    return "".join(c if c.isprintable() else " " for c in str(value)[:longest])


def listed(value: object) -> list[Any]:
    """`value` if it is a list, else none of it."""
    return value if isinstance(value, list) else []
