"""Pictures against the texts that they were drawn from: CLIP score, and how much pictures of one prompt vary."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from darkroom.errors import InputError
from darkroom.evaluation.features import FeatureNetwork
from darkroom.evaluation.metric import Measured, mean_of

__all__ = ["clip_score", "variety"]


def clip_score(pieces: Iterable[np.ndarray], captions: Sequence[str], network: FeatureNetwork) -> Measured:
    """The mean cosine of pictures and captions, 0 where negative (Hessel et al. 2021, without its factor of 2.5; times
    100 as torchmetrics prints it). The note tells how many captions were cut at what the network reads."""
    if network.texts is None:
        raise InputError(f"a CLIP score needs a network that reads texts, {network.name} does not; try clip=FOLDER")
    texts = network.texts(captions)
    rows = np.concatenate(list(pieces)).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True).clip(min=1e-12)
    found = mean_of((rows * texts.rows).sum(axis=1).clip(min=0))
    cut = f"{texts.cut} of {len(captions)} captions are longer than the network reads and were cut" if texts.cut else ""
    return Measured(found.value, found.interval, cut or found.note)


def variety(pieces: Iterable[np.ndarray], captions: Sequence[str]) -> dict[str, Measured]:
    """How far apart pictures of one prompt lie, as cosine distance of their features.

    `variety`: the mean over prompts of the mean over pairs of their pictures. `variety between prompts`: the same of
    pictures of unlike prompts, which bounds it. Prompts with one picture tell nothing of the first. Streams the sums.
    """
    sums: dict[str, np.ndarray] = {}
    counts: dict[str, int] = defaultdict(int)
    start = 0
    for rows in pieces:
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(min=1e-12)
        for caption, row in zip(captions[start : start + len(rows)], unit.astype(np.float64)):
            sums[caption] = sums[caption] + row if caption in sums else row.copy()
            counts[caption] += 1
        start += len(rows)
    several = [c for c, n in counts.items() if n > 1]
    if not several:
        raise InputError("every prompt has one picture: variety needs several of a prompt, drawn from several seeds")
    # Of n unit vectors with sum s the mean cosine over pairs is (s·s − n) / (n (n − 1)).
    within = [1 - (sums[c] @ sums[c] - counts[c]) / (counts[c] * (counts[c] - 1)) for c in several]
    found = mean_of(np.array(within))
    alone = len(counts) - len(several)
    note = f"{alone} of {len(counts)} prompts have one picture and are left out" if alone else found.note
    numbers = {"variety": Measured(found.value, found.interval, note)}
    if len(counts) > 1:
        total, n = np.sum(list(sums.values()), axis=0), start
        pairs = n * n - sum(k * k for k in counts.values())
        unlike = (total @ total - sum(s @ s for s in sums.values())) / pairs
        numbers["variety between prompts"] = Measured(float(1 - unlike))
    return numbers
