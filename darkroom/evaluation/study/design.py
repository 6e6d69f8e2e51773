"""What a study asks: of whom, about what, which questions. Fixed before the first vote, in `study.json`."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from darkroom.config import from_dict, to_dict
from darkroom.data.picturebook.caption import Facts
from darkroom.errors import InputError, require
from darkroom.json_file import read_json
from darkroom.whole_file import whole_file

__all__ = ["DAMAGED", "QUESTIONS", "Design", "Exhibit", "Item", "load_design", "save_design"]

# As in the human evaluation of SDXL-Turbo (2311.17042, section 4.2).
QUESTIONS = {
    "quality": "Which picture is nicer to look at?",
    "prompt": "Which picture shows this better?",
}
DAMAGED = -1  # in the place of a candidate: the other side's picture, taken apart
MAX_BYTES = 256 << 20


@dataclass(frozen=True)
class Item:
    """What every candidate has drawn: a name, its prompt (empty where none is known), settings that came with it.

    `facts`: what the prompt promises, where it is a line of `darkroom data prompts`.
    """

    name: str
    prompt: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    facts: Facts | None = None


class Exhibit(NamedTuple):
    """A picture that may be shown: whose, of what, and whether it is taken apart to test the voter."""

    candidate: int
    item: int
    damaged: bool = False


@dataclass(frozen=True)
class Design:
    """`attention`, `repeats`: the share of pairs that have a known answer, and that come a second time, sides changed.

    `secret` makes the pictures' names, which tell nothing of who drew them.
    """

    candidates: tuple[str, ...]
    items: tuple[Item, ...]
    questions: tuple[str, ...]
    attention: float = 0.08
    repeats: float = 0.04
    secret: str = field(default_factory=lambda: secrets.token_hex(16))

    def __post_init__(self) -> None:
        require(len(self.candidates) >= 2, "the number of candidates", len(self.candidates), "at least 2")
        if len(set(self.candidates)) < len(self.candidates):
            raise InputError(f"a candidate is named twice: {', '.join(self.candidates)}")
        require(len(self.items) >= 1, "the number of items", len(self.items), "at least 1")
        for name in self.questions:
            if name not in QUESTIONS:
                raise InputError(f"unknown question {name!r}; known are: {', '.join(QUESTIONS)}")
        require(len(self.questions) >= 1, "the number of questions", len(self.questions), "at least 1")
        for name, share in (("attention", self.attention), ("repeats", self.repeats)):
            require(0 <= share <= 0.5, f"the share of {name}", share, "0 to 0.5")

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """All pairs of candidates, the lower number first."""
        return list(combinations(range(len(self.candidates)), 2))

    def label(self, exhibit: Exhibit) -> str:
        """The name under which a picture is shown, which tells nothing of it."""
        said = "{}/{}/{}".format(*exhibit).encode()
        return hmac.new(self.secret.encode(), said, hashlib.sha256).hexdigest()[:20]

    def exhibits(self) -> dict[str, Exhibit]:
        """Every picture that may be shown, by its label."""
        numbers = range(len(self.candidates))
        every = [Exhibit(c, i, d) for c in numbers for i in range(len(self.items)) for d in (False, True)]
        return {self.label(e): e for e in every}


def save_design(folder: Path, design: Design) -> None:
    """Write `study.json`."""
    with whole_file(folder / "study.json") as file:
        file.write((json.dumps(to_dict(design), indent=1, ensure_ascii=False) + "\n").encode())


def load_design(folder: Path) -> Design:
    """The study in `folder`; `InputError` where there is none."""
    path = folder / "study.json"
    if not os.path.isfile(path):
        raise InputError(f"{folder} holds no study: name the candidates to make one")
    return from_dict(Design, read_json(path, MAX_BYTES), str(path))
