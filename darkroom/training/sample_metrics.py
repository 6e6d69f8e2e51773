"""Metrics at intervals: pictures drawn for captions of the data beside the true pictures, always the same ones.

What measures them is handed in by who starts the run: feature networks belong to a room above this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from darkroom.data.order import Place
from darkroom.data.reader import Reader
from darkroom.engine.pipeline import Pipeline
from darkroom.errors import InputError, require
from darkroom.requests.plan import plan
from darkroom.systems.build import LatentDiffusion
from darkroom.types import Request, Sample

__all__ = ["DrawnSet", "Measure", "MetricsConfig", "SampleSet"]

# What a request says of itself or of the picture's size; other inputs would have to be pictures.
SAID = ("caption", "class", "original_size", "crop", "target_size", "aesthetic_score")


@dataclass(frozen=True)
class MetricsConfig:
    networks: tuple[str, ...]  # "judge", "inception=FILE", "clip=FOLDER", "dinov2=FILE", as for darkroom evaluate
    every: int = 1000  # steps between measurements
    count: int = 64  # pictures, always of the same captions and noise; Fréchet distances compare at equal counts only

    def __post_init__(self) -> None:
        require(bool(self.networks), "networks", "empty", "at least one, such as judge")
        require(self.every >= 1, "every", self.every, "at least 1")
        require(2 <= self.count <= 100_000, "count", self.count, "2 to 100000")


@dataclass(frozen=True)
class DrawnSet:
    """Drawn pictures and the true ones, uint8 (N, H, W, 3), with their captions; "" where the system reads none."""

    pictures: np.ndarray
    truth: np.ndarray
    captions: Sequence[str]


Measure = Callable[[DrawnSet], Mapping[str, float]]


class SampleSet:
    """The first `config.count` samples, evenly over the data, of `reader`'s most frequent size, as requests drawn like
    `asked`; `InputError` for a system whose inputs a request cannot say, and for captions that are no prompts."""

    def __init__(self, model: LatentDiffusion, reader: Reader, config: MetricsConfig, asked: Request) -> None:
        self.config, self.model, self.reader = config, model, reader
        unsaid = [e.key for e in model.system.embedders if e.key not in SAID]
        if unsaid:
            raise InputError(
                f"metrics is given, expected is nothing for {model.system.name}, whose {unsaid[0]} no caption tells"
            )
        size = max(reader.buckets, key=lambda s: len(reader.buckets[s]))
        members = reader.buckets[size]
        chosen = dict.fromkeys(members[np.linspace(0, len(members) - 1, config.count).round().astype(int)].tolist())
        require(len(chosen) > 1, "pictures to measure by", len(chosen), "at least 2 of one size")
        self.places = [Place(n, 0, index, size) for n, index in enumerate(chosen)]
        keys = {e.key for e in model.system.embedders}
        asked = replace(asked, width=size.width, height=size.height)
        self.requests = []
        for place, sample in zip(self.places, self._samples(pixels=False)):
            caption = sample.conditions.get("caption", "") if "caption" in keys else ""
            inputs = {key: sample.conditions[key] for key in ("class",) if key in keys}
            self.requests.append(replace(asked, prompt=caption, inputs=inputs, seed=asked.seed + place.number))
            plan(self.requests[-1], model.system)

    def _samples(self, *, pixels: bool) -> list[Sample]:
        found = [self.reader.read(place, pixels=pixels) for place in self.places]
        self.reader.drain()
        return found

    @cached_property
    def truth(self) -> np.ndarray:
        """The true pictures."""
        return np.stack([sample.image for sample in self._samples(pixels=True)])

    def drawn(self) -> DrawnSet:
        """What the model draws now."""
        pictures = Pipeline(self.model).generate(self.requests)
        self.model.train()
        return DrawnSet(np.stack([p.pixels for p in pictures]), self.truth, [r.prompt for r in self.requests])
