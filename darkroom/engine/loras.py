"""The LoRAs that prompts name: read once, put on for single calls, never a state of the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from darkroom.checkpoints.embeddings import bundled_embeddings
from darkroom.checkpoints.folders import LORAS, find_file
from darkroom.checkpoints.lora import read_lora
from darkroom.checkpoints.open_file import open_weights
from darkroom.conditioning.embedding import Embedding
from darkroom.engine.shelf import Shelf
from darkroom.nn.lora import Adapters, merge
from darkroom.prompts.tree import LoraTag
from darkroom.systems.build import LatentDiffusion

__all__ = ["LoraShelf", "PromptLoras", "merged"]

KEPT = 8  # LoRAs that stay read


@dataclass(frozen=True)
class PromptLoras:
    """What the LoRAs of one picture's prompt change, live: the UNet and the text encoders, each by module name."""

    unet: Adapters | None = None
    text: Adapters | None = None


@contextmanager
def merged(model: LatentDiffusion, adapters: Adapters | None) -> Iterator[None]:
    """`adapters` in the weights while this is open, for compiled models, which take no live ones; afterwards the
    weights are bit for bit what they were."""
    applied = merge(model, adapters)
    try:
        yield
    finally:
        applied.undo()


class LoraShelf:
    """Reads the LoRAs of prompts from `folders` and, with `paths`, from wherever a name is a path."""

    def __init__(self, folders: Sequence[Path], *, paths: bool = True) -> None:
        self.folders, self.paths = tuple(folders), paths
        self._loras = Shelf(lambda path, model: read_lora(path, model.system, model.dtype, model.device), KEPT)
        self._words = Shelf(lambda path, model: bundled_embeddings(open_weights(path), model.system), KEPT)

    def of(self, tags: Sequence[LoraTag], model: LatentDiffusion) -> PromptLoras:
        """`InputError` for a LoRA that is not found, is damaged or does not fit the model."""
        loras = [(self._loras.get(self.find(tag.name), model), tag) for tag in tags]
        return PromptLoras(
            Adapters.of((lora.unet, tag.unet) for lora, tag in loras),
            Adapters.of((lora.text, tag.text) for lora, tag in loras),
        )

    def find(self, name: str) -> Path:
        """The file of the LoRA that a prompt calls `name`; `InputError` if there is none."""
        return find_file(LORAS, name, self.folders, paths=self.paths)

    def embeddings(self, tags: Sequence[LoraTag], model: LatentDiffusion) -> list[Embedding]:
        """The words that the LoRAs bring along; of the rest only the headers are read."""
        paths = dict.fromkeys(self.find(tag.name) for tag in tags)
        return [embedding for path in paths for embedding in self._words.get(path, model)]
