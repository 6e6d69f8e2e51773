"""Fooocus's own scheme: a flat JSON table."""

from __future__ import annotations

from typing import Any

from darkroom.prompts.comfy import translated
from darkroom.prompts.grammar import MAX_LENGTH
from darkroom.requests.records.found import Findings, Found, listed

__all__ = ["read"]

READ = {"prompt", "negative_prompt", "steps", "guidance_scale", "seed", "clip_skip", "sampler", "scheduler"}
READ |= {"loras", "resolution"}
# Said, but nothing that a request holds.
SILENT = {"version", "metadata_scheme", "created_by", "base_model", "base_model_hash", "full_prompt"}
SILENT |= {"full_negative_prompt", "refiner_model_hash"}


def read(said: dict[str, Any]) -> Found | None:
    """`said` is the table under `parameters`; None for one that is none of this tool."""
    if not isinstance(said.get("prompt"), str) or not said.keys() & {"base_model", "performance", "sampler"}:
        return None
    found = Findings()
    tags = []
    for entry in listed(said.get("loras")):
        if isinstance(entry, list) and len(entry) >= 2:
            tags.append(found.lora(entry[0], entry[1]))
    for field in ("prompt", "negative_prompt"):
        text = said.get(field)
        if isinstance(text, str) and len(text) <= MAX_LENGTH:  # which it reads as ComfyUI does
            text = translated(text, found.unmapped)
        found.text(field, text)
    found.fields["prompt"] += "".join(tags)
    found.number("steps", said.get("steps"), int)
    found.number("guidance_scale", said.get("guidance_scale"), float, "guidance_scale")
    found.number("seed", said.get("seed"), int)
    found.number("clip_skip", said.get("clip_skip"), int)
    found.sampler(said.get("sampler"))
    found.schedule(said.get("scheduler"))
    found.size(said.get("resolution"))
    found.rest(said, READ | SILENT)
    found.fields["seed_mode"] = "comfy"  # its sampling is ComfyUI's
    return found.found("Fooocus", said.get("base_model"), said.get("base_model_hash"))
