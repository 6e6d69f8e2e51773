"""The text that a picture carries: its plan, the model that drew it, and the files of the LoRAs that it names."""

from __future__ import annotations

from collections.abc import Mapping

from darkroom import __version__
from darkroom.checkpoints.fingerprint import lora_hash
from darkroom.checkpoints.model import LoadedModel
from darkroom.engine.loras import LoraShelf
from darkroom.requests.plan import Plan
from darkroom.requests.records.a1111 import parameters_text

__all__ = ["lora_hashes", "made_with"]


def made_with(loaded: LoadedModel, plan: Plan, shelf: LoraShelf, files: Mapping[str, object] | None = None) -> str:
    """The `parameters` text of a picture of `plan`. `files`: other files that it was made with, in A1111's words."""
    files = {**(files or {}), **lora_hashes(plan, shelf)}
    return parameters_text(plan, loaded.name, loaded.hash, f"darkroom {__version__}", files)


def lora_hashes(plan: Plan, shelf: LoraShelf) -> dict[str, object]:
    """The LoRAs of the prompt with their hashes, as A1111 writes them; nothing where there are none."""
    found = {tag.name: shelf.find(tag.name) for tag in plan.prompt.loras}
    hashes = [f"{name}: {lora_hash(path)}" for name, path in found.items()]
    return {"Lora hashes": ", ".join(hashes)} if hashes else {}
