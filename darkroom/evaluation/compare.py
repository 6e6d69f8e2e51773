"""Two sets of pictures measured against each other, batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from darkroom.errors import InputError
from darkroom.evaluation import frechet, kernel, neighbors  # noqa: F401  # puts them into METRICS
from darkroom.evaluation.features import FEATURES, FeatureNetwork
from darkroom.evaluation.metric import METRICS, Measured, Metric
from darkroom.pictures.reading import ENDINGS, read_pixels
from darkroom.pixels import to_tensor

__all__ = ["Comparison", "compare", "folder_batches"]

BATCH = 32


@dataclass(frozen=True)
class Comparison:
    """Numbers by name, how many pictures each side had, and the network whose features were compared."""

    numbers: Mapping[str, Measured]
    pictures: int
    reference: int
    network: str
    digest: str


def compare(
    pictures: Iterable[np.ndarray], reference: Iterable[np.ndarray], metrics: Sequence[str], network: str = "judge"
) -> Comparison:
    """`metrics` of `pictures` against `reference`, each batches uint8 (B, H, W, 3) of one size."""
    kinds = {METRICS.name(name): METRICS[name] for name in metrics}
    features = FEATURES[network]()
    ours, count = _seen(pictures, kinds, features)
    theirs, others = _seen(reference, kinds, features)
    numbers: dict[str, Measured] = {}
    for name in kinds:
        numbers |= ours[name].result(theirs[name])
    return Comparison(numbers, count, others, features.name, features.digest)


def _seen(
    batches: Iterable[np.ndarray], kinds: Mapping[str, type[Metric]], features: FeatureNetwork
) -> tuple[dict[str, Metric], int]:
    made, count = {name: kind() for name, kind in kinds.items()}, 0
    for batch in batches:
        found = features(to_tensor(batch))
        for metric in made.values():
            metric.update(found)
        count += len(batch)
    return made, count


def folder_batches(folder: Path) -> Iterator[np.ndarray]:
    """The pictures in and below `folder`, sorted by name, in batches; `InputError` for unlike sizes or none."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder of pictures")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS)
    if not paths:
        raise InputError(f"{folder} holds no pictures")
    size: tuple[int, int] | None = None
    for start in range(0, len(paths), BATCH):
        rows = []
        for path in paths[start : start + BATCH]:
            pixels = read_pixels(path)
            found = (pixels.shape[1], pixels.shape[0])
            if size not in (None, found):
                raise InputError(f"{path} is {found[0]}x{found[1]}, those before it are {size[0]}x{size[1]}")  # type: ignore[index]
            size = found
            rows.append(pixels)
        yield np.stack(rows)
