"""What is right in a request but far from what its system was made for, in sentences for the user."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from darkroom.conditioning.word_text import WordTextConfig
from darkroom.models.tokenizer import WordTokenizer
from darkroom.prompts.schedule import Wording
from darkroom.registry import nearest
from darkroom.requests.plan import Plan
from darkroom.systems.system import System

__all__ = ["known_words", "remarks"]

FAR = 2.0  # times a system's own side, or that part of it, from which pictures fall apart
LOOKED = 200  # texts of a prompt that changes over the steps whose words are looked up
SHOWN = 8  # unknown words in one sentence
MANY, NEAR = 150, 3  # known words that are too many to be listed; then so many for each unknown one


def remarks(plan: Plan, system: System) -> Iterator[str]:
    """The plan's own remarks; sentences on words that the system's text encoder lacks, and on sizes that it was not
    made for."""
    yield from plan.remarks
    said = plan.request.prompt.strip() or plan.request.negative_prompt.strip()
    if said and not any(e.key == "caption" for e in system.embedders):
        yield f"{system.name} reads no prompt: what is said there changes nothing"
    if unknown := _unknown(plan, system):
        words = ", ".join(unknown[:SHOWN]) + (" …" if len(unknown) > SHOWN else "")
        yield f"{system.name} does not know: {words}; it knows: {_shown(known_words(system), unknown[:SHOWN])}"
    d, request = system.defaults, plan.request
    enlarges = any(e.enlarges for e in system.embedders)
    if enlarges or plan.starts_from_image or request.latent is not None:
        return
    sides = (plan.width / d.width, plan.height / d.height)
    made = f"{system.name} was made for {d.width}x{d.height}"
    if min(sides) <= 1 / FAR:
        yield f"{made}; at {plan.width}x{plan.height} little is to be seen"
    elif max(sides) >= FAR:
        scale = max(1.1, round((sides[0] * sides[1]) ** 0.5, 1))
        width, height = (max(plan.step, round(s / scale / plan.step) * plan.step) for s in (plan.width, plan.height))
        yield (
            f"{made}; at {plan.width}x{plan.height} things come twice or fall apart. "
            f"-W {width} -H {height} --hires {scale:g} enlarges a whole picture"
        )


def known_words(system: System) -> list[str]:
    """The vocabulary of a system that has a small one of its own, singular where it has both; else none."""
    words = {w for e in system.embedders if isinstance(e, WordTextConfig) for w in e.words if re.fullmatch("[a-z]+", w)}
    return sorted(w for w in words if w.removesuffix("s") not in words or not w.endswith("s"))


def _shown(known: list[str], unknown: list[str]) -> str:
    """All words that are known, or where they are many those most like the unknown ones."""
    known = [word for word in known if len(word) > 2]
    if len(known) <= MANY:
        return ", ".join(known)
    near = dict.fromkeys(like for word in unknown for like in nearest(word, known)[:NEAR])
    return f"{len(known)} words, such as {', '.join(near)}"


def _unknown(plan: Plan, system: System) -> list[str]:
    tokenizers = [WordTokenizer(e.words, e.length) for e in system.embedders if isinstance(e, WordTextConfig)]
    texts = dict.fromkeys(islice(_texts(plan), LOOKED if tokenizers else 0))
    return list(dict.fromkeys(word for text in texts for t in tokenizers for word in t.unknown(text)))


def _texts(plan: Plan) -> Iterator[str]:
    """All that the prompts say over the steps."""
    for prompt in (plan.prompt, plan.negative, *plan.region_prompts):
        for part in prompt.parts:
            wording = Wording(part.prompt, plan.steps)
            for step in (0, *wording.changes()):
                yield wording.at(step).said
