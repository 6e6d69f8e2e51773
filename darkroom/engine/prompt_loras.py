"""The LoRAs that a prompt names, put on the model for as long as its pictures are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from darkroom.checkpoints.folders import LORAS, find_file
from darkroom.checkpoints.lora import apply_loras, read_lora
from darkroom.prompts.grammar import LoraTag
from darkroom.systems.build import LatentDiffusion

__all__ = ["prompt_loras"]


@contextmanager
def prompt_loras(model: LatentDiffusion, tags: Sequence[LoraTag], folders: Sequence[Path]) -> Iterator[None]:
    """`tags` on `model` while this is open, live or in the weights of a compiled one; afterwards it is bit for bit what
    it was.
    """
    if not tags:
        yield
        return
    loras = [
        (read_lora(find_file(LORAS, tag.name, folders), model.system, model.dtype, model.device), tag.unet, tag.text)
        for tag in tags
    ]
    applied = apply_loras(model, loras, merged=model.compiled)
    try:
        yield
    finally:
        applied.remove()
