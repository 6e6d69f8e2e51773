"""What a system in training draws now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from darkroom.data.reader import Reader
from darkroom.engine.pipeline import Pipeline
from darkroom.pictures.images import grid
from darkroom.systems.build import LatentDiffusion
from darkroom.types import Request

__all__ = ["draw_prompts", "prompt_requests"]


def prompt_requests(reader: Reader, prompts: Sequence[str], asked: Request) -> list[Request]:
    """`prompts` at the data's most frequent size, as `asked`; seeds count up from its own."""
    size = max(reader.buckets, key=lambda s: len(reader.buckets[s]))
    asked = replace(asked, width=size.width, height=size.height)
    return [replace(asked, prompt=prompt, seed=asked.seed + i) for i, prompt in enumerate(prompts)]


def draw_prompts(
    model: LatentDiffusion,
    reader: Reader,
    prompts: Sequence[str],
    asked: Request,
    columns: int = 6,
    *,
    embeddings: Path | None = None,
) -> np.ndarray | None:
    """A grid (H, W, 3) uint8 of `prompts`, drawn as `prompt_requests` says.

    None without prompts or for a system that reads none. `embeddings`: a folder of those that prompts may name.
    """
    if not prompts or "caption" not in model.conditioner.embedders:
        return None
    folders = [] if embeddings is None else [embeddings]
    pictures = Pipeline(model, embedding_folders=folders).generate(prompt_requests(reader, prompts, asked))
    model.train()
    return grid(np.stack([p.pixels for p in pictures]), columns)
