"""Which of several systems with the same tensors a checkpoint is. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from darkroom.checkpoints.original_names import is_of_generative_models

if TYPE_CHECKING:
    from darkroom.checkpoints.prediction import Told
    from darkroom.checkpoints.source import Source

__all__ = ["Candidate", "choose"]


@dataclass(frozen=True)
class Candidate:
    """What of a system tells it from others: what it predicts, whether its single file follows generative-models, and
    which system is meant where nothing tells (None: the first)."""

    prediction: str
    generative_models: bool
    usual: str | None


def choose(candidates: Mapping[str, Candidate], source: Source, told: Told | None, hint: str) -> tuple[list[str], str]:
    """The names of those that remain, the chosen one first, and how it was chosen."""
    names = list(candidates)
    if len(names) == 1:
        return names, "its tensors"
    reasons = ["its tensors"]
    if source.layout == "original":
        style = is_of_generative_models(source.tensors)
        names = [n for n in names if candidates[n].generative_models == style] or names
    if told is not None:
        agreeing = [n for n in names if candidates[n].prediction == told.prediction]
        if agreeing and len(agreeing) < len(names):
            reasons.append("what it predicts")
        names = agreeing or names
    named = _named(names, source, hint)
    if named:
        reasons.append("its name")
    elif len(names) > 1:
        usual = [candidates[n].usual for n in names]
        named = next((n for n in usual if n in names), names[0])
        reasons.append(f"habit (nothing tells it from {', '.join(n for n in names if n != named)})")
    chosen = named or names[0]
    return [chosen, *(n for n in names if n != chosen)], " and ".join(reasons)


def _named(names: Sequence[str], source: Source, hint: str) -> str | None:
    """The candidate whose distinguishing words all occur in the names that the checkpoint goes by; the longest such."""
    said = [hint, source.path.name, source.path.stem, source.metadata.get("modelspec.title", "")]
    said += [part for part in source.path.parts if part.startswith("models--")]
    said.append(str(source.configs.get("model_index", {}).get("_name_or_path", "")))
    heard = {word for text in said for word in _words(text)}
    common = set.intersection(*(set(_words(n)) for n in names))
    matching = [n for n in names if (own := set(_words(n)) - common) and own <= heard]
    return max(matching, key=lambda n: len(set(_words(n)) - common), default=None)


def _words(text: str) -> list[str]:
    return [w for w in re.split(r"[^a-z0-9]+", text.lower()) if w]
