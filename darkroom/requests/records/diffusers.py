"""Tables in Diffusers' words, as scripts around it write them, and Easy Diffusion's, a text for each of their keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from darkroom.prompts.compel import translated
from darkroom.prompts.grammar import MAX_LENGTH
from darkroom.requests.records.found import Findings, Found, listed

__all__ = ["read"]

EASY = "use_stable_diffusion_model"  # which Easy Diffusion alone has
SAMPLER = ("scheduler", "sampler", "sampler_name")
STRENGTH = ("strength", "prompt_strength")
READ = {"prompt", "negative_prompt", "width", "height", "seed", "num_inference_steps", "guidance_scale", "clip_skip"}
READ |= {*SAMPLER, *STRENGTH, EASY, "model", "use_lora_model", "lora_alpha", "output_format", "output_quality"}


def read(said: Mapping[str, Any]) -> Found | None:
    """What the table says, its numbers perhaps as texts; None for one that is none of these tools."""
    if not isinstance(said.get("prompt"), str) or "num_inference_steps" not in said:
        return None
    found, easy = Findings(), EASY in said
    tags = "".join(found.lora(name, weight) for name, weight in _loras(said))
    for field in ("prompt", "negative_prompt"):
        text = said.get(field)
        if easy and isinstance(text, str) and len(text) <= MAX_LENGTH:
            text, _ = translated(text, found.unmapped, composed=field == "prompt")
        found.text(field, text)
    for field in ("width", "height", "seed"):
        found.number(field, said.get(field), int)
    found.number("steps", said.get("num_inference_steps"), int, "num_inference_steps")
    found.number("guidance_scale", said.get("guidance_scale"), float)
    found.number("clip_skip", {"True": 1, "False": 0}.get(str(said.get("clip_skip")), said.get("clip_skip")), int)
    if "clip_skip" in found.fields:
        found.fields["clip_skip"] += 1  # layers that are left out
    if (strength := next((said[key] for key in STRENGTH if said.get(key) not in (None, "")), None)) is not None:
        found.number("strength", strength, float)
        found.unmapped.append("the picture that was drawn over")
    configuration = next((said[key] for key in SAMPLER if said.get(key) is not None), None)
    table = configuration if isinstance(configuration, Mapping) else said
    found.sampler(table.get("_class_name") if table is configuration else configuration)
    own = found.scheduler_configuration(table)
    if tags:
        found.fields["prompt"] = found.fields.get("prompt", "") + tags
    found.rest(dict(said), READ | own)
    found.fields |= {"seed_mode": "diffusers", "emphasis": "compel"} if easy else {"seed_mode": "diffusers"}
    if not easy and not tags:
        found.fields["prompt_syntax"] = "plain"
    return found.found("Easy Diffusion" if easy else "Diffusers", said.get(EASY, said.get("model")))


def _loras(said: Mapping[str, Any]) -> list[tuple[object, object]]:
    """Names and strengths of Easy Diffusion's LoRAs: one or a list of each, perhaps written as text."""
    names, weights = (_list(said.get(key)) for key in ("use_lora_model", "lora_alpha"))
    return [(name, weights[i] if i < len(weights) else 1) for i, name in enumerate(names)]


def _list(value: object) -> list[Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value.replace("'", '"'))
        except (ValueError, RecursionError):
            return [value] if value not in ("", "None") else []
    return listed(value) if isinstance(value, list) else [value] if value is not None else []
