"""InvokeAI before 3: a table under `sd-metadata`, and the line of its command under `Dream`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from darkroom.prompts.compel import translated
from darkroom.prompts.grammar import MAX_LENGTH
from darkroom.requests.records.found import Findings, Found, listed

__all__ = ["read", "read_dream"]

NEGATIVE = re.compile(r"\[([^\[\]]{0,4000})\]")
FLAGS = {"s": "steps", "S": "seed", "W": "width", "H": "height", "C": "cfg_scale", "A": "sampler"}
READ = {"prompt", "steps", "cfg_scale", "width", "height", "seed", "sampler", "type"}


def read(said: Mapping[str, Any]) -> Found | None:
    """None for a table without a picture in it."""
    image = said.get("image")
    return _found(image, said.get("model_weights")) if isinstance(image, dict) else None


def read_dream(line: str) -> Found | None:
    """`"a cat" -s 30 -S 99 -W 640 -H 512 -C 7.5 -A k_euler_a`; None for what is no such line."""
    try:
        prompt, *words = shlex.split(line)
    except ValueError:
        return None
    said: dict[str, Any] = {"prompt": prompt}
    for flag, value in re.findall(r"-(\w)\s?(\S+)", " ".join(words)):
        said[FLAGS.get(flag, f"-{flag}")] = value
    return _found(said, None) if "steps" in said else None


def _found(said: dict[str, Any], model: object) -> Found:
    found = Findings()
    entries = said.get("prompt")
    parts = [entry for entry in listed(entries) if isinstance(entry, dict)]
    text = parts[0].get("prompt") if parts else entries
    found.unmapped += [f"a further prompt: {str(part.get('prompt'))[:80]}" for part in parts[1:]]
    if isinstance(text, str) and len(text) <= MAX_LENGTH:
        negative = ", ".join(NEGATIVE.findall(text))
        prompt, loras = translated(NEGATIVE.sub("", text).strip(), found.unmapped, composed=True)
        found.text("prompt", prompt + "".join(found.lora(name, weight) for name, weight in loras))
        found.text("negative_prompt", translated(negative, found.unmapped, composed=False)[0])
    else:
        found.text("prompt", text)
    for field in ("width", "height", "seed", "steps"):
        found.number(field, said.get(field), int)
    found.number("guidance_scale", said.get("cfg_scale"), float, "cfg_scale")
    found.sampler(said.get("sampler"))
    if said.get("type") not in (None, "txt2img"):
        found.unmapped.append(f"the picture that was drawn over ({said['type']})")
    found.rest({key: value for key, value in said.items() if value != 0}, READ)
    found.fields["emphasis"] = "compel"
    return found.found("InvokeAI", model)
