"""The A1111 `parameters` text: what made a picture, in the words that other tools read."""

from __future__ import annotations

import json
import re
from typing import TypeVar

from darkroom.errors import InputError
from darkroom.tasks.plan import Plan
from darkroom.types import Request

__all__ = ["parameters_text", "parse_parameters"]

N = TypeVar("N", int, float)

_PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


def parameters_text(plan: Plan, model: str, model_hash: str, version: str) -> str:
    """Prompt, negative prompt and settings as three blocks of lines."""
    request = plan.request
    settings = {
        "Steps": plan.steps,
        "Sampler": plan.sampler,
        "Schedule type": plan.schedule.capitalize(),
        "CFG scale": f"{plan.guidance:g}",
        "Seed": request.seed,
        "Size": f"{plan.width}x{plan.height}",
        "Model hash": model_hash,
        "Model": model,
        "RNG": "CPU",
        "Version": version,
    }
    lines = [request.prompt]
    if request.negative_prompt:
        lines.append(f"Negative prompt: {request.negative_prompt}")
    lines.append(", ".join(f"{key}: {_quote(str(value))}" for key, value in settings.items()))
    return "\n".join(lines)


def parse_parameters(text: str) -> Request:
    """The request that a `parameters` text describes. Settings that Darkroom has no word for are left out."""
    *lines, last = text.strip().split("\n")
    settings = {key: _unquote(value) for key, value in _PAIR.findall(last)}
    if len(settings) < 3:
        lines, settings = [*lines, last], {}
    prompt, negative, in_negative = [], [], False
    for line in lines:
        if line.startswith("Negative prompt:"):
            in_negative, line = True, line.removeprefix("Negative prompt:").strip()
        (negative if in_negative else prompt).append(line)
    width, height = None, None
    if match := re.fullmatch(r"(\d+)x(\d+)", settings.get("Size", "")):
        width, height = int(match[1]), int(match[2])
    return Request(
        prompt="\n".join(prompt),
        negative_prompt="\n".join(negative),
        width=width,
        height=height,
        seed=_number(settings, "Seed", int) or 0,
        steps=_number(settings, "Steps", int),
        guidance=_number(settings, "CFG scale", float),
        sampler=settings.get("Sampler"),
        schedule=settings.get("Schedule type"),
    )


def _number(settings: dict[str, str], key: str, kind: type[N]) -> N | None:
    if key not in settings:
        return None
    try:
        return kind(settings[key])
    except ValueError:
        raise InputError(f"the picture's {key} is {settings[key]!r}, wanted is a number") from None


def _quote(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if any(c in value for c in ',\n:"') else value


def _unquote(value: str) -> str:
    if value.startswith('"'):
        try:
            return str(json.loads(value))
        except ValueError:
            return value
    return value.strip()
