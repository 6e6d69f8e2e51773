"""Fooocus's own scheme: a flat JSON table."""

from __future__ import annotations

import re
from typing import Any

from darkroom.requests.records.found import Findings, Found, listed

__all__ = ["read"]

# Said, but nothing that a request holds.
SILENT = {"version", "metadata_scheme", "created_by", "base_model", "base_model_hash", "loras", "full_prompt"}
SILENT |= {"full_negative_prompt", "refiner_model_hash"}


def read(said: dict[str, Any]) -> Found:
    """`said` is the table under `parameters`."""
    found = Findings()
    prompt = said.get("prompt")
    tags = []
    for entry in listed(said.get("loras")):
        if isinstance(entry, (list, tuple)) and len(entry) >= 2 and isinstance(entry[0], str):
            tags.append(f"<lora:{entry[0].removesuffix('.safetensors')}:{entry[1]}>")
    found.text("prompt", f"{prompt}{''.join(tags)}" if isinstance(prompt, str) else prompt)
    found.text("negative_prompt", said.get("negative_prompt"))
    found.number("steps", said.get("steps"), int)
    found.number("guidance_scale", said.get("guidance_scale"), float, "guidance_scale")
    found.number("seed", said.get("seed"), int)
    found.number("clip_skip", said.get("clip_skip"), int)
    found.sampler(said.get("sampler"))
    found.schedule(said.get("scheduler"))
    sides = re.findall(r"\d{1,6}", str(said.get("resolution", "")))
    if len(sides) == 2:
        found.fields |= {"width": int(sides[0]), "height": int(sides[1])}
    read_keys = {"prompt", "negative_prompt", "steps", "guidance_scale", "seed", "clip_skip", "sampler", "scheduler"}
    found.unmapped += [
        f"{key}: {str(value)[:80]}"
        for key, value in said.items()
        if key not in read_keys | SILENT | {"resolution"} and value not in (None, "", [], "None")
    ]
    found.fields["seed_mode"] = "comfy"  # its sampling is ComfyUI's
    return found.found("Fooocus", said.get("base_model"), said.get("base_model_hash"))
