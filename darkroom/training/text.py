"""Objective: tell from a caption what it promises. Trains a system's text transformer before there are pictures."""

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
from darkroom.nn.attention import Attention
from darkroom.systems.system import SYSTEMS, System
from darkroom.training.config import LoopConfig
from darkroom.training.objective import Loss, StepContext

__all__ = ["FactsHead", "TextObjective", "TextRecipe", "facts_targets", "text_config"]

PARTS = sorted({part for kind in KINDS.values() for part in kind.parts})
# What is asked of every kind of thing: its answers, of which the first stands for "not said".
OF_KINDS: dict[str, tuple[str, ...]] = {
    "count": ("0", "1", "2", "3", "4"),
    "colour": ("", *COLOURS),
    **dict.fromkeys(PARTS, ("", *COLOURS)),
    "relation": ("", *RELATIONS),
}
# What is asked of the whole scene.
OF_SCENES: dict[str, tuple[str, ...]] = {
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


class FactsHead(nn.Module):
    """Reads facts off a text transformer's tokens as a denoiser does: by cross-attention, one query per question."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(len(KINDS) + 1, width) * 0.5)  # every kind, then the scene
        self.attention = Attention(width, width, heads, width // heads)
        self.norm = nn.LayerNorm(width)
        self.of_kinds = nn.ModuleDict({name: nn.Linear(width, len(v)) for name, v in OF_KINDS.items()})
        self.of_scenes = nn.ModuleDict({name: nn.Linear(width, len(v)) for name, v in OF_SCENES.items()})

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """Logits of every question for tokens (B, L, width): (B, kinds, answers), of scenes (B, answers)."""
        found = self.norm(self.attention(self.queries.expand(len(tokens), -1, -1), tokens))
        logits = {name: layer(found[:, :-1]) for name, layer in self.of_kinds.items()}
        return logits | {name: layer(found[:, -1]) for name, layer in self.of_scenes.items()}


def facts_targets(facts: Sequence[Facts]) -> dict[str, Tensor]:
    """The true answers to every question, int64: (B, kinds), of scenes (B,)."""
    order = {kind: i for i, kind in enumerate(KINDS)}
    of_kinds = {name: np.zeros((len(facts), len(order)), np.int64) for name in OF_KINDS}
    for row, one in enumerate(facts):
        for group in one.groups:
            column = order[group.kind]
            of_kinds["count"][row, column] += group.count
            of_kinds["colour"][row, column] = OF_KINDS["colour"].index(group.colour or "")
            for part, colour in group.parts.items():
                of_kinds[part][row, column] = OF_KINDS[part].index(colour)
        for r in one.relations:
            for place, relation in ((r.subject, r.relation), (r.object, OPPOSITE[r.relation])):
                of_kinds["relation"][row, order[one.groups[place].kind]] = OF_KINDS["relation"].index(relation)
    of_scenes = {
        name: np.array([answers.index(getattr(one, name) or "") for one in facts])
        for name, answers in OF_SCENES.items()
    }
    return {name: torch.from_numpy(values) for name, values in (of_kinds | of_scenes).items()}


class TextObjective:
    """Cross-entropies of all questions, each sort meaned over what captions say and over what they do not say."""

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
        self.head = FactsHead(self.config.width)
        self.frozen = nn.ModuleDict()
        self.trained = nn.ModuleDict({"text": self.text, "head": self.head})

    def optimizers(self) -> dict[str, list[nn.Parameter]]:
        return {"text": list(self.trained.parameters())}

    def batch(self, places: Sequence[Place]) -> tuple[Tensor, dict[str, Tensor]]:
        captions = [self.data.caption(place.index, place.epoch) for place in places]
        return self.text.prepare([text for text, _ in captions]), facts_targets([facts for _, facts in captions])

    def losses(self, batch: tuple[Tensor, dict[str, Tensor]], context: StepContext) -> Iterator[Loss]:
        device = self.head.queries.device
        logits = self.head(self.text(batch[0].to(device)))
        total, log = torch.zeros((), device=device), {}
        for name, truth in batch[1].items():
            truth, answers = truth.to(device).flatten(), logits[name].float().flatten(0, -2)
            loss = F.cross_entropy(answers, truth, reduction="none")
            for among in (truth > 0, truth == 0):
                total = total + (loss * among).sum() / among.sum().clamp(min=1)
            said = truth > 0
            if said.any():
                log[f"right/{name}"] = (answers.argmax(dim=1) == truth)[said].float().mean().detach()
        yield Loss("text", total / len(batch[1]), log)

    def samples(self) -> np.ndarray | None:
        return None

    def export(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        write_network(folder / "text.safetensors", self.text, self.config, metadata)
