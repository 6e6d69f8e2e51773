"""The LoRAs that prompts name: read once, put on for single calls, never a state of the model."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from darkroom.checkpoints.folders import LORAS, find_file
from darkroom.checkpoints.lora import Lora, read_lora
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
    """Reads the LoRAs of prompts from `folders`; those used last stay read as long as their files stay the same."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(folders)
        self._read: OrderedDict[tuple[object, ...], Lora] = OrderedDict()

    def of(self, tags: Sequence[LoraTag], model: LatentDiffusion) -> PromptLoras:
        """`InputError` for a LoRA that is not found, is damaged or does not fit the model."""
        loras = [(self._get(tag.name, model), tag) for tag in tags]
        return PromptLoras(
            Adapters.of((lora.unet, tag.unet) for lora, tag in loras),
            Adapters.of((lora.text, tag.text) for lora, tag in loras),
        )

    def _get(self, name: str, model: LatentDiffusion) -> Lora:
        path = find_file(LORAS, name, self.folders)
        file = path.stat()
        key = (path, file.st_mtime_ns, file.st_size, model.system.name, model.dtype, model.device)
        if key not in self._read:
            self._read[key] = read_lora(path, model.system, model.dtype, model.device)
            while len(self._read) > KEPT:
                self._read.popitem(last=False)
        self._read.move_to_end(key)
        return self._read[key]
