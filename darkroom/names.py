"""The names of samplers, schedules, systems and their kin, without the parts of the house that define them.

Those parts import PyTorch, which takes longer than any answer that needs names alone. `names.json`, and the keys of
recipes in `recipe-keys.txt`, are made of them by `python -m darkroom.cli.names`; tests hold them together. What a
program adds to the tables at run time is not in them.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

from darkroom.registry import Registry

__all__ = ["names_of", "recipe_keys_text", "split_name", "table"]


@cache
def table() -> dict[str, Any]:
    """All that `names.json` holds."""
    return json.loads((files("darkroom") / "names.json").read_text(encoding="utf-8"))


def recipe_keys_text() -> str:
    """Every key of every recipe, for a terminal."""
    return (files("darkroom") / "recipe-keys.txt").read_text(encoding="utf-8")


@cache
def names_of(sort: str) -> Registry[str]:
    """The names of a sort (sampler, schedule, seed mode, prompt syntax, prediction, system …), looked up as there."""
    names: Registry[str] = Registry(sort)
    for name, aliases in table()["names"][sort].items():
        names.add(name, name, *aliases)
    return names


def split_name(name: str) -> tuple[str, str | None]:
    """Old A1111 names carry the schedule at their end: "DPM++ 2M Karras" and "k_dpmpp_2m_ka" are 2M and karras."""
    found = re.fullmatch(r"(.*\S)(?:[ _]+(karras|exponential|polyexponential)|_(ka))", name.strip(), re.I | re.S)
    if found is None:
        return name.strip(), None
    return found[1].rstrip(" _"), (found[2] or "karras").lower()
