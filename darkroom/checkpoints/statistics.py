"""Mean and deviation of image embeddings (stable unCLIP), which single files do not hold."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from darkroom.checkpoints.open_file import open_weights
from darkroom.errors import InputError

__all__ = ["STATISTICS", "embedding_statistic", "statistics_beside"]

STATISTICS = "ViT-L-14_stats.th"  # Karlo's, as the reference calls it: a tuple of mean and deviation


def embedding_statistic(name: str, width: int, folder: Path) -> Tensor:
    """The value (width,) of the buffer `name`, which ends in mean or std: from the file beside the checkpoint, or else
    0 and 1, which is as if there were no statistics and what the release of ViT-H has."""
    is_std = name.endswith(".std")
    path = statistics_beside(folder, width)
    if path is None:
        return torch.full((width,), 1.0 if is_std else 0.0)
    return open_weights(path)["1" if is_std else "0"].load(torch.float32).flatten()


def statistics_beside(folder: Path, width: int) -> Path | None:
    """The file of statistics in the checkpoint's `folder`; None if there is none of embeddings of `width`. `InputError`
    if it is damaged."""
    path = next((p for p in (folder / STATISTICS, folder / "karlo_models" / STATISTICS) if os.path.isfile(p)), None)
    if path is None:
        return None
    found = open_weights(path)
    if set(found) != {"0", "1"}:
        raise InputError(f"{path} does not hold a mean and a deviation")
    found.require_finite()
    return path if all(stored.numel == width for stored in found.values()) else None
