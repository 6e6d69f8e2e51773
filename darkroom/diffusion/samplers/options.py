"""Options of samplers (eta, s_churn, order …) as users give them: read against the sampler's own signature."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Mapping

from darkroom.config import from_dict
from darkroom.diffusion.samplers.registry import SAMPLERS
from darkroom.errors import InputError
from darkroom.types import Sampler

__all__ = ["options_of", "with_options"]

# What numbers an option may have; every other from 0 on.
LIMITS = {"order": (1, 4), "r": (0.01, 1.0)}


def options_of(name: str) -> dict[str, object]:
    """The options of the sampler `name` and their defaults."""
    parameters = inspect.signature(SAMPLERS[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def with_options(name: str, options: Mapping[str, object]) -> Sampler:
    """The sampler `name` with `options` set; `InputError` for one that it does not have or that cannot be."""
    sampler, known = SAMPLERS[name], options_of(name)
    where = f"the sampler {SAMPLERS.name(name)}"
    if options and not known:
        raise InputError(f"{where} has no options, {', '.join(options)} cannot be set")
    hints = typing.get_type_hints(sampler)
    fields = [(key, hints[key], dataclasses.field(default=default)) for key, default in known.items()]
    read = from_dict(dataclasses.make_dataclass("Options", fields, frozen=True), dict(options), where)
    chosen = {key: getattr(read, key) for key in options}
    for key, value in chosen.items():
        low, high = LIMITS.get(key, (0, float("inf")))
        if isinstance(value, (int, float)) and not low <= value <= high:
            raise InputError(f"{where}: {key} is {value}, wanted is {low} to {high}")
    return functools.partial(sampler, **chosen)
