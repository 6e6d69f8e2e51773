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

from darkroom.registry import Registry, plain_spelling

__all__ = ["names_of", "recipe_keys_text", "sampler_spelling", "split_name", "table"]

MAX_WORDS = 4  # of a schedule's name


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
    names: Registry[str] = Registry(sort, sampler_spelling if sort == "sampler" else plain_spelling)
    for name, aliases in table()["names"][sort].items():
        names.add(name, name, *aliases)
    return names


def sampler_spelling(name: str) -> str:
    """One spelling of what tools write unlike: "DPM++ 2S a", `dpmpp_2s_ancestral`, `dpm++2s_a` and `k_dpmpp_2s_a`, and
    `EulerAncestralDiscreteScheduler`, the name of a class of Diffusers."""
    text = plain_spelling(name).replace("++", "pp").replace("ancestral", "a")
    text = re.sub(r"^k-?(?=dpm|euler|heun|lms)", "", text)  # of k-diffusion
    return re.sub(r"-gpu$|(discrete)?scheduler$|-", "", text)


def split_name(name: str) -> tuple[str, str | None]:
    """(The sampler, the schedule that tools write behind it): "DPM++ 2M Karras", `k_dpmpp_2m_ka`, `ddim_trailing`."""
    text = name.strip()
    if text not in names_of("sampler"):
        for gap in list(re.finditer(r"[\s_-]+", text))[-MAX_WORDS:]:
            if text[gap.end() :] in names_of("schedule"):
                return text[: gap.start()], names_of("schedule").name(text[gap.end() :])
    return text, None
