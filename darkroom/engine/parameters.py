"""The text that a picture carries: its plan, the model that drew it, the LoRAs and embeddings that its prompts name."""

from __future__ import annotations

from collections.abc import Mapping

from darkroom import __version__
from darkroom.checkpoints.model import LoadedModel
from darkroom.engine.loras import LoraShelf
from darkroom.requests.plan import Plan
from darkroom.requests.records.a1111 import parameters_text
from darkroom.requests.records.files import files_of

__all__ = ["made_with"]


def made_with(loaded: LoadedModel, plan: Plan, shelf: LoraShelf, files: Mapping[str, object] | None = None) -> str:
    """The `parameters` text of a picture of `plan`. `files`: other files that it was made with, in A1111's words."""
    files = {**(files or {}), **files_of(plan, shelf.find)}
    return parameters_text(plan, loaded.name, loaded.hash, f"darkroom {__version__}", files)
