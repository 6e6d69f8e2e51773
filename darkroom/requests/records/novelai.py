"""NovelAI's table under `Comment`, beside `Software`, and its prompts: `{x}` is 1.05 times, `[x]` 1 / 1.05."""

from __future__ import annotations

import re
from typing import Any

from darkroom.prompts.grammar import MAX_LENGTH
from darkroom.prompts.pieces import Piece, printed
from darkroom.requests.records.found import Findings, Found, listed

__all__ = ["read", "translated"]

STEP = 1.05

_SIGN = re.compile(r"(-?\d+(?:\.\d*)?|-?\.\d+)::|::|[{}\[\]]")
READ = {"prompt", "uc", "steps", "width", "height", "scale", "seed", "sampler", "noise_schedule", "strength"}
SILENT = {"request_type", "signed_hash", "n_samples", "version", "v4_prompt", "v4_negative_prompt", "uncond_scale"}
SILENT |= {"cfg_rescale", "legacy", "legacy_v3_extend", "deliberate_euler_ancestral_bug", "prefer_brownian"}
SAMPLERS_HERE = {"ddim_v3": "ddim"}


def read(said: dict[str, Any], model: object) -> Found:
    """What the table says; `model` is named beside it."""
    found = Findings()
    for field, key in (("prompt", "prompt"), ("negative_prompt", "uc")):
        text = said.get(key)
        short = isinstance(text, str) and len(text) <= MAX_LENGTH
        found.text(field, translated(text, found.unmapped) if short else text)  # type: ignore[arg-type]
    for field in ("width", "height", "seed", "steps"):
        found.number(field, said.get(field), int)
    found.number("guidance_scale", said.get("scale"), float, "scale")
    found.number("strength", said.get("strength"), float)
    if said.get("strength") is not None:
        found.unmapped.append("the picture that was drawn over")
    name = said.get("sampler")
    found.sampler(SAMPLERS_HERE.get(name, name) if isinstance(name, str) else name)
    if said.get("noise_schedule") != "native":
        found.schedule(said.get("noise_schedule"))
    for key, usual in (("uncond_scale", 1), ("cfg_rescale", 0)):
        if said.get(key, usual) != usual:
            found.unmapped.append(f"{key}: {said[key]}")
    for key in ("v4_prompt", "v4_negative_prompt"):  # prompts of single figures, which the other one does not hold
        caption = said[key].get("caption") if isinstance(said.get(key), dict) else None
        for each in listed(caption.get("char_captions")) if isinstance(caption, dict) else ():
            if isinstance(each, dict) and each.get("char_caption"):
                found.unmapped.append(f"{key} of a figure: {str(each['char_caption'])[:80]}")
    found.rest(said, READ | SILENT)
    return found.found("NovelAI", model)


def translated(text: str, lost: list[str]) -> str:
    """A prompt of NovelAI in A1111's grammar: braces, brackets and `1.5::x::` become weights, other signs are text.

    Brackets weigh what follows until they are closed, and need not be.
    """
    pieces: list[Piece] = []
    level, number, begin = 0, 1.0, 0
    for sign in [*_SIGN.finditer(text), None]:
        end = len(text) if sign is None else sign.start()
        pieces.append((text[begin:end], round(number * STEP ** max(-200, min(level, 200)), 6)))
        if sign is None:
            break
        begin = sign.end()
        if sign[0].endswith("::"):
            number = 1.0 if sign[1] is None else float(sign[1])
        else:
            level += 1 if sign[0] in "{]" else -1
    return printed(pieces, lost)
