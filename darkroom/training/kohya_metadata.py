"""What kohya's trainers write into a LoRA's file about the data that it was trained on (`ss_…`)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from darkroom.data.dataset import Dataset, Joined
from darkroom.data.folder import Folder
from darkroom.types import Size

__all__ = ["data_metadata"]


def data_metadata(dataset: Dataset, buckets: Mapping[Size, np.ndarray]) -> dict[str, str]:
    """Folders with their repeats and how often each of their tags occurs, buckets with how many places of an epoch
    they fill; of data that is no folder, the buckets alone."""
    joined = isinstance(dataset, Joined)
    parts = list(zip(dataset.parts, dataset.repeats)) if joined else [(dataset, 1)]
    folders = [(part, repeats) for part, repeats in parts if isinstance(part, Folder)]
    sizes = {
        str(i): {"resolution": [size.width, size.height], "count": len(members)}
        for i, (size, members) in enumerate(sorted(buckets.items()))
    }
    told = {"ss_bucket_info": json.dumps({"buckets": sizes}), "ss_enable_bucket": str(len(sizes) > 1)}
    if folders:
        dirs = {f.config.path.name: {"n_repeats": repeats, "img_count": len(f)} for f, repeats in folders}
        tags = {f.config.path.name: tag_frequency(f.texts) for f, _ in folders}
        told |= {"ss_dataset_dirs": json.dumps(dirs), "ss_tag_frequency": json.dumps(tags)}
    return told


def tag_frequency(captions: Sequence[str | None]) -> dict[str, int]:
    """How often each tag, what stands between commas, occurs in the first lines of `captions`, in small letters."""
    lines = [(text or "").strip().partition("\n")[0] for text in captions]
    return dict(Counter(tag for line in lines for part in line.split(",") if (tag := part.strip().lower())))
