"""SwarmUI's table under `parameters`."""

from __future__ import annotations

import re
from typing import Any

from darkroom.prompts.comfy import translated
from darkroom.prompts.grammar import MAX_LENGTH
from darkroom.requests.records.found import Findings, Found, listed

__all__ = ["read"]

KEY = "sui_image_params"
TAG = re.compile(r"<[^<>]{1,200}>")  # commands of its own
READ = {"prompt", "negativeprompt", "model", "seed", "steps", "cfgscale", "width", "height", "sampler", "scheduler"}
READ |= {"loras", "loraweights", "aspectratio", "swarm_version", "date", "generation_time", "images"}


def read(table: dict[str, Any]) -> Found | None:
    """None for a table that is none of this tool."""
    said = table.get(KEY)
    if not isinstance(said, dict):
        return None
    found = Findings()
    names, weights = (listed(said.get(key)) for key in ("loras", "loraweights"))
    tags = []
    for i, name in enumerate(names):
        weight = weights[i] if i < len(weights) else 1
        try:
            tags.append(found.lora(name, float(weight)))
        except (TypeError, ValueError):
            tags.append(found.lora(name, weight))
    for field, key in (("prompt", "prompt"), ("negative_prompt", "negativeprompt")):
        text = said.get(key)
        if isinstance(text, str) and len(text) <= MAX_LENGTH:
            found.unmapped += [f"{tag} in the {key}" for tag in TAG.findall(text)]
            text = translated(TAG.sub("", text), found.unmapped).strip()
        found.text(field, text)
    if tags:
        found.fields["prompt"] = found.fields.get("prompt", "") + "".join(tags)
    for field in ("width", "height", "seed", "steps"):
        found.number(field, said.get(field), int)
    found.number("guidance_scale", said.get("cfgscale"), float, "cfgscale")
    found.sampler(said.get("sampler"))
    found.schedule(said.get("scheduler"))
    found.rest(said, READ)
    found.fields |= {"seed_mode": "comfy", "emphasis": "comfy"}  # its sampling is ComfyUI's
    return found.found("SwarmUI", said.get("model"))
