"""InvokeAI's table under `invokeai_metadata`."""

from __future__ import annotations

from typing import Any

from darkroom.prompts.compel import translated
from darkroom.prompts.grammar import MAX_LENGTH
from darkroom.requests.records.found import Findings, Found, listed

__all__ = ["read"]

READ = {"positive_prompt", "negative_prompt", "width", "height", "seed", "steps", "cfg_scale", "scheduler"}
READ |= {"strength", "clip_skip", "loras", "model", "rand_device"}
SILENT = {"app_version", "generation_mode", "workflow", "canvas_v2_metadata"}


def read(said: dict[str, Any]) -> Found:
    """What the table says. Prompts are translated from compel's syntax, and weights act as compel has them."""
    found = Findings()
    tags = []
    for entry in listed(said.get("loras")):
        inner = entry.get("model", entry.get("lora")) if isinstance(entry, dict) else None
        name = inner.get("name", inner.get("model_name")) if isinstance(inner, dict) else None
        tags.append(found.lora(name, entry.get("weight", 1) if isinstance(entry, dict) else None))
    for field in ("positive_prompt", "negative_prompt"):
        text = said.get(field)
        if isinstance(text, str) and len(text) <= MAX_LENGTH:
            text, loras = translated(text, found.unmapped, composed=field == "positive_prompt")
            tags += [found.lora(name, weight) for name, weight in loras]
        found.text(field.removeprefix("positive_"), text)
    if tags:
        found.fields["prompt"] = found.fields.get("prompt", "") + "".join(tags)
    for field in ("width", "height", "seed", "steps"):
        found.number(field, said.get(field), int)
    found.number("guidance_scale", said.get("cfg_scale"), float, "cfg_scale")
    found.number("strength", said.get("strength"), float)
    skip = said.get("clip_skip")
    if isinstance(skip, int) and not isinstance(skip, bool):
        found.fields["clip_skip"] = skip + 1  # it counts the layers left out
    found.sampler(said.get("scheduler"))
    found.rest(said, READ | SILENT)
    found.fields["emphasis"] = "compel"
    model = said.get("model")
    model = model if isinstance(model, dict) else {}
    return found.found("InvokeAI", model.get("name", model.get("model_name")), model.get("hash"))
