"""Two sets of pictures measured against each other through one feature network."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from darkroom.errors import InputError
from darkroom.evaluation import inception_score, kernel, neighbors  # noqa: F401  # puts them into METRICS
from darkroom.evaluation.features import FeatureNetwork
from darkroom.evaluation.frechet import Frechet
from darkroom.evaluation.metric import METRICS, Measured, Metric
from darkroom.evaluation.moments import Moments
from darkroom.evaluation.picture_set import PictureSet, read_features
from darkroom.evaluation.statistics import Statistics

__all__ = ["Comparison", "Seen", "compare", "published_name", "see", "usual_metrics"]

# What papers call a distance through a network, and what is measured through it unless said otherwise.
PUBLISHED = {
    ("frechet", "inception"): "FID",
    ("kernel", "inception"): "KID",
    ("score", "inception"): "IS",
    ("gaussian", "clip"): "CMMD",
    ("frechet", "dinov2"): "FD-DINOv2",
}
USUAL = {
    "judge": ("frechet", "kernel", "neighbors"),
    "inception": ("frechet", "kernel", "score", "neighbors"),
    "clip": ("gaussian", "neighbors"),
    "dinov2": ("frechet", "gaussian", "neighbors"),
}


FEW = 100  # pictures a side


def published_name(number: str, network: str) -> str:
    """The name that papers give the number `number` of features of `network`; else its own."""
    return PUBLISHED.get((number, network), number)


def usual_metrics(network: str) -> tuple[str, ...]:
    """What is measured through `network` where nothing is said."""
    return USUAL.get(network, ("frechet", "kernel", "neighbors"))


@dataclass(frozen=True)
class Seen:
    """One set as the metrics saw it."""

    metrics: Mapping[str, Metric]
    moments: Moments
    content: str  # a hash of all features, in whatever order the pictures come
    count: int


@dataclass(frozen=True)
class Comparison:
    """Numbers by name, how many pictures each side had (None: the file of statistics does not say), and through which
    network they were seen."""

    numbers: Mapping[str, Measured]
    pictures: int
    reference: int | None
    network: FeatureNetwork
    notes: tuple[str, ...] = ()


def see(pieces: Iterable[np.ndarray], network: FeatureNetwork, metrics: Sequence[str]) -> Seen:
    """Take in the features of a set, piece by piece. `InputError` for metrics that ask for what the network has not."""
    made = {METRICS.name(name): METRICS[name]() for name in metrics}
    for name, metric in made.items():
        if metric.reads == "classes" and network.classes is None:
            raise InputError(f"the metric {name} needs a network that classifies, {network.name} does not")
    moments, count, content = Moments(), 0, 0
    for rows in pieces:
        classes = None if network.classes is None else network.classes(rows)
        for metric in made.values():
            metric.update(rows if metric.reads == "features" or classes is None else classes)
        moments.update(rows)
        count += len(rows)
        for row in rows:  # a sum does not depend on the order
            content += int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=16).digest())
    return Seen(made, moments, f"{content % 2**128:032x}", count)


def compare(
    pictures: PictureSet,
    reference: PictureSet | Statistics,
    network: FeatureNetwork,
    metrics: Sequence[str] | None = None,
    cache: Path | None = None,
) -> tuple[Comparison, Seen]:
    """`metrics` (default: the usual ones of the network) of `pictures` against `reference`, and what was seen of the
    pictures. Refused, as `InputError`: sets that are the same, statistics of another network, too few pictures."""
    names = [METRICS.name(name) for name in (metrics or usual_metrics(network.name))]
    if isinstance(reference, Statistics):
        return _against_statistics(pictures, reference, network, names, metrics is not None, cache)
    ours = see(read_features(pictures, network, cache), network, names)
    theirs = see(read_features(reference, network, cache), network, names)
    if ours.content == theirs.content:
        raise InputError(
            f"{pictures.path} and {reference.path} hold the same {ours.count} pictures: they say nothing of each other"
        )
    numbers: dict[str, Measured] = {}
    for name in names:
        numbers |= ours.metrics[name].result(theirs.metrics[name])
    notes = tuple(_notes(pictures, reference, network, ours.count, theirs.count))
    return Comparison(numbers, ours.count, theirs.count, network, notes), ours


def _against_statistics(
    pictures: PictureSet,
    known: Statistics,
    network: FeatureNetwork,
    names: Sequence[str],
    insisted: bool,
    cache: Path | None,
) -> tuple[Comparison, Seen]:
    if known.network is not None and known.network != network.identity:
        raise InputError(
            f"the statistics are of the network {known.network}, the pictures are seen by {network.identity}: these "
            "cannot be compared"
        )
    others = [name for name in names if METRICS[name] is not Frechet]
    if others and (insisted or len(others) == len(names)):
        raise InputError(f"{others[0]} needs the pictures themselves; statistics (mu, sigma) serve frechet alone")
    ours = see(read_features(pictures, network, cache), network, ["frechet"])
    frechet = ours.metrics["frechet"]
    assert isinstance(frechet, Frechet)
    notes = [f"{', '.join(others)}: left out, as they need the reference's pictures"] if others else []
    if known.network is None:
        notes.append("the file of statistics does not say of which network and resize it is")
    if known.count is None:
        notes.append("the file of statistics does not say of how many pictures it is: the distance depends on it")
    else:
        notes += _count_notes(ours.count, known.count)
    numbers = {"frechet": frechet.against(known)}
    return Comparison(numbers, ours.count, known.count, network, tuple(notes)), ours


def _notes(
    pictures: PictureSet, reference: PictureSet, network: FeatureNetwork, ours: int, theirs: int
) -> Iterator[str]:
    sizes = pictures.sizes() | reference.sizes()
    if len(sizes) > 1 and network.resizes:
        listed = ", ".join(str(s) for s in sorted(sizes)[:3]) + (", …" if len(sizes) > 3 else "")
        yield f"pictures of unlike sizes ({listed}), all brought to the network's own: the size is part of the number"
    elif len(sizes) > 1:
        raise InputError(
            f"{pictures.path} holds pictures of {min(sizes)}, {reference.path} of {max(sizes)}: the network "
            f"{network.name} sees them as they are, so these cannot be compared"
        )
    yield from _count_notes(ours, theirs)


def _count_notes(ours: int, theirs: int) -> Iterator[str]:
    if min(ours, theirs) < FEW:
        yield f"{min(ours, theirs)} pictures a side tell little, whatever an interval says: 1,000 or more are usual"
    if ours != theirs:
        yield f"{ours} pictures against {theirs}: Fréchet distances compare only with those of the same two counts"
