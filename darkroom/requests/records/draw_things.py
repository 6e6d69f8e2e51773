"""Draw Things' table in the comment of XMP metadata."""

from __future__ import annotations

import html
import re
from typing import Any

from darkroom.requests.records.found import Findings, Found, listed

__all__ = ["comment", "read"]

_COMMENT = re.compile(r"<exif:UserComment>.{0,200}?<rdf:li[^>]{0,100}>([^<]*)</rdf:li>", re.DOTALL)
READ = {"c", "uc", "steps", "scale", "seed", "size", "sampler", "model", "strength", "lora", "v2", "seed_mode"}


def comment(xmp: str) -> str | None:
    """The comment in the XMP packet of a picture."""
    found = _COMMENT.search(xmp)
    return None if found is None else html.unescape(found[1])


def read(said: dict[str, Any]) -> Found | None:
    """None for a table that is none of this tool."""
    if not isinstance(said.get("c"), str) or "scale" not in said:
        return None
    found = Findings()
    tags = [
        found.lora(entry.get("model"), entry.get("weight", 1)) for entry in listed(said.get("lora")) if _is_table(entry)
    ]
    found.text("prompt", said["c"] + "".join(tags))
    found.text("negative_prompt", said.get("uc"))
    found.number("steps", said.get("steps"), int)
    found.number("guidance_scale", said.get("scale"), float, "scale")
    found.number("seed", said.get("seed"), int)
    found.size(said.get("size"))
    found.sampler(said.get("sampler"))
    if (strength := said.get("strength")) not in (None, 1):
        found.number("strength", strength, float)
        found.unmapped.append("the picture that was drawn over")
    if said.get("seed_mode"):
        found.unmapped.append(f"seed_mode: {said['seed_mode']}")
    found.rest(said, READ)
    return found.found("Draw Things", said.get("model"))


def _is_table(value: object) -> bool:
    return isinstance(value, dict)
