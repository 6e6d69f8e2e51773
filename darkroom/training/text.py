"""Objective: tell from each word of a caption what it promises. Trains a system's text transformer without pictures.

A text transformer that learns together with its denoiser finds the words, but not what belongs to what: after 700,000
captions "a red house and a yellow tree" and "a yellow house and a red tree" still gave the word "house" the same
features (cosine 0.999), so colours, parts and sides went astray. Here the word "house" itself must tell its colour, its
count, the colours of its parts and on which side of what it stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.checkpoints.native import load_strict, load_system, write_network
from darkroom.conditioning.word_text import WordText, WordTextConfig
from darkroom.data.order import Place
from darkroom.data.picturebook import COLOURS, KINDS, Facts
from darkroom.data.picturebook.backdrop import BACKGROUNDS, GROUNDS, SKIES
from darkroom.data.picturebook.relations import OPPOSITE, RELATIONS
from darkroom.data.reader import Reader
from darkroom.data.source import PictureBook, PictureBookConfig
from darkroom.errors import InputError
from darkroom.systems.system import SYSTEMS, System
from darkroom.training.config import LoopConfig
from darkroom.training.objective import Loss, StepContext

__all__ = ["QUESTIONS", "Answer", "TextObjective", "TextRecipe", "answers", "text_config"]

# What is asked of a word, and what it may answer; the first answer stands for "not said".
QUESTIONS: dict[str, tuple[str, ...]] = {
    # of the name of a kind of thing
    "count": ("0", "1", "2", "3", "4"),
    "colour": ("", *COLOURS),
    **{part: ("", *COLOURS) for kind in KINDS.values() for part in kind.parts},
    "relation": ("", *RELATIONS),
    "related_to": ("", *KINDS),
    # of the name of a part
    "part_colour": ("", *COLOURS),
    "part_of": ("", *KINDS),
    # of the whole scene, asked of the caption's first word
    "sky": ("", *SKIES),
    "ground": ("", *GROUNDS),
    "background": ("", *BACKGROUNDS),
}


@dataclass(frozen=True)
class TextRecipe:
    loop: LoopConfig
    data: PictureBookConfig
    system: str  # a name of the catalogue whose captions are read by a word transformer
    init_from: Path | None = None  # go on from the text transformer of this system's folder; None: fresh weights
    kind: Literal["text"] = "text"

    def __post_init__(self) -> None:
        text_config(SYSTEMS[self.system])


def text_config(system: System) -> WordTextConfig:
    """The configuration of the word transformer that reads the captions of `system`; `InputError` if it has none."""
    for config in system.embedders:
        if isinstance(config, WordTextConfig):
            return config
    raise InputError(f"system is {system.name}, expected is one whose captions are read by a word transformer")


@dataclass(frozen=True)
class Answer:
    """What the word at `place` of a caption has to answer to `question`: QUESTIONS[question][answer]."""

    question: str
    place: int
    answer: int


def answers(words: Sequence[str], facts: Facts) -> list[Answer]:
    """All that the `words` of a caption have to tell, by the `facts` of its scene. Groups stand in the caption's order.

    What is cut off (a caption longer than the transformer's length) is not asked.
    """
    scene = ("sky", "ground", "background")
    found = [Answer(name, 0, QUESTIONS[name].index(getattr(facts, name) or "")) for name in scene]
    places: dict[int, int] = {}  # of the groups' names
    place = -1
    for number, group in enumerate(facts.groups):
        kind = KINDS[group.kind]
        place = _next(words, {kind.name, kind.plural}, place)
        if place < 0:
            break
        places[number] = place
        found.append(Answer("count", place, group.count))
        found.append(Answer("colour", place, QUESTIONS["colour"].index(group.colour or "")))
        for part in kind.parts:
            found.append(Answer(part, place, QUESTIONS[part].index(group.parts.get(part, ""))))
        for part, colour in group.parts.items():
            place = _next(words, {part}, place)
            if place < 0:
                break
            found.append(Answer("part_colour", place, QUESTIONS["part_colour"].index(colour)))
            found.append(Answer("part_of", place, QUESTIONS["part_of"].index(group.kind)))
        if place < 0:
            break
    related: dict[int, tuple[str, str]] = {}
    for r in facts.relations:
        related[r.subject] = (r.relation, facts.groups[r.object].kind)
        related[r.object] = (OPPOSITE[r.relation], facts.groups[r.subject].kind)
    for number, place in places.items():
        for name, said in zip(("relation", "related_to"), related.get(number, ("", ""))):
            found.append(Answer(name, place, QUESTIONS[name].index(said)))
    return found


def _next(words: Sequence[str], names: set[str], place: int) -> int:
    """The first place behind `place` where one of `names` stands; −1: nowhere."""
    return next((i for i in range(place + 1, len(words)) if words[i] in names), -1)


class AnswersHead(nn.Module):
    """Reads the answers off the features of single words: a linear map for each question."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.of = nn.ModuleDict({name: nn.Linear(width, len(choices)) for name, choices in QUESTIONS.items()})

    def forward(self, tokens: Tensor, question: str, at: Tensor) -> Tensor:
        """Logits (N, choices) of `question` for tokens (B, L, width), at rows and places (N, 2)."""
        return self.of[question](self.norm(tokens[at[:, 0], at[:, 1]])).float()


class TextObjective:
    """The cross-entropies of all questions, summed; each is meaned over the words it is asked of."""

    ema = ("text",)

    def __init__(self, recipe: TextRecipe) -> None:
        self.recipe = recipe
        self.data = PictureBook(recipe.data)
        self.reader = Reader(self.data, None, recipe.loop.step_size, recipe.loop.seed)
        self.config = text_config(SYSTEMS[recipe.system])
        self.text = WordText(self.config)
        if recipe.init_from is not None:
            conditioner: Any = load_system(recipe.init_from, dtype=torch.float32).conditioner
            load_strict(self.text, conditioner.embedders[self.text.key].state_dict(), recipe.init_from)
        self.head = AnswersHead(self.config.width)
        self.frozen = nn.ModuleDict()
        self.trained = nn.ModuleDict({"text": self.text, "head": self.head})

    def optimizers(self) -> dict[str, list[nn.Parameter]]:
        return {"text": list(self.trained.parameters())}

    def batch(self, places: Sequence[Place]) -> tuple[Tensor, dict[str, Tensor]]:
        """Token numbers (B, L); for each question rows, places and right answers, int64 (N, 3)."""
        captions = [self.data.caption(place.index, place.epoch) for place in places]
        asked: dict[str, list[tuple[int, int, int]]] = {}
        for row, (text, facts) in enumerate(captions):
            words = self.text.tokenizer.split(text)[: self.config.length - 1]
            for one in answers(words, facts):
                asked.setdefault(one.question, []).append((row, one.place, one.answer))
        return self.text.prepare([text for text, _ in captions]), {k: torch.tensor(v) for k, v in asked.items()}

    def losses(self, batch: tuple[Tensor, dict[str, Tensor]], context: StepContext) -> Iterator[Loss]:
        device = self.head.norm.weight.device
        tokens = self.text(batch[0].to(device))
        total, log = torch.zeros((), device=device), {}
        for question, asked in batch[1].items():
            asked = asked.to(device)
            logits, truth = self.head(tokens, question, asked[:, :2]), asked[:, 2]
            total = total + F.cross_entropy(logits, truth)
            said = truth > 0
            if said.any():
                log[f"right/{question}"] = (logits.argmax(dim=1) == truth)[said].float().mean().detach()
        yield Loss("text", total, log)

    def samples(self) -> np.ndarray | None:
        return None

    def export(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        write_network(folder / "text.safetensors", self.text, self.config, metadata)
