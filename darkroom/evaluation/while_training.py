"""Numbers of the pictures that a run draws at intervals, through any of the feature networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from darkroom.evaluation.compare import published_name
from darkroom.evaluation.features import FeatureNetwork, open_features
from darkroom.evaluation.frechet import Frechet
from darkroom.evaluation.prompts import clip_score
from darkroom.pixels import to_tensor
from darkroom.training.sample_metrics import DrawnSet

__all__ = ["SampleMeasure"]

TOGETHER = 16  # pictures that go through a network at a time


class SampleMeasure:
    """Measures sets of one run, whose true pictures are always the same: the Fréchet distance to them through each
    network, and the CLIP score where the network reads texts. `specs`: networks as `open_features` takes them."""

    def __init__(self, specs: Sequence[str], device: str = "cpu") -> None:
        self.networks = [open_features(spec, device) for spec in specs]
        self._truth: dict[str, Frechet] = {}

    def __call__(self, drawn: DrawnSet) -> dict[str, float]:
        numbers = {}
        for network in self.networks:
            if network.name not in self._truth:
                self._truth[network.name] = _seen(_features(network, drawn.truth))
            rows = list(_features(network, drawn.pictures))
            (found,) = _seen(rows).result(self._truth[network.name]).values()
            name = published_name("frechet", network.name)
            numbers[f"metrics/{name if name != 'frechet' else f'frechet {network.name}'}"] = found.value
            if network.texts is not None and any(drawn.captions):
                numbers["metrics/CLIP score"] = clip_score(rows, drawn.captions, network).value
        return numbers


def _seen(pieces: Sequence[np.ndarray] | Iterator[np.ndarray]) -> Frechet:
    metric = Frechet()
    for rows in pieces:
        metric.update(rows)
    return metric


def _features(network: FeatureNetwork, pictures: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(pictures), TOGETHER):
        yield network(to_tensor(pictures[start : start + TOGETHER]))
