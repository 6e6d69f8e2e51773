"""Which metric can be trusted: known faults in scenes of the picture-book world, in doses, and who notices them.

Everything is known of the world: the right pictures can be drawn without end, and so can faulty ones. A metric notices
a dose if its number leaves the band that sets without fault give (their mean ± 1.96 deviations, both sets drawn anew
each time). It cries wolf if the intervals of two sets without fault, measured against one reference, do not meet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from darkroom.data.picturebook import KINDS
from darkroom.errors import require
from darkroom.evaluation.all_pairs import pair_numbers, within
from darkroom.evaluation.features import FeatureNetwork
from darkroom.evaluation.frechet import Frechet, frechet_distance
from darkroom.evaluation.inception_score import InceptionScore
from darkroom.evaluation.known_world import Eyes, Pool, World, draw_world
from darkroom.evaluation.metric import Measured, mean_of
from darkroom.models.judge import Judge

__all__ = ["FAULTS", "TrustConfig", "TrustReport", "table", "tried", "trust"]

DOSES = 4  # of every fault
NOTICED = 0.8  # share of repeats in which a dose must be seen


@dataclass(frozen=True)
class TrustConfig:
    pictures: tuple[int, ...]  # sizes of the sets
    repeats: int = 20  # of every fault and dose; twice as many sets without fault
    pool: int = 2000  # scenes that sets are drawn from; as many again for the reference
    size: int = 128
    seed: int = 0
    half: bool = False  # pictures are looked at in bfloat16

    def __post_init__(self) -> None:
        for count in self.pictures:
            require(20 <= count <= self.pool // 2, "the number of pictures", count, f"20 to half the pool, {self.pool}")
        require(self.repeats >= 4, "the number of repeats", self.repeats, "at least 4")


@dataclass(frozen=True)
class Fault:
    """`draw` makes a faulty set of n pictures at a dose; `reference` is what it will be compared with."""

    doses: tuple[float, ...]
    what: str  # the dose in words, "{}" its number
    draw: Callable[[World, float, int, np.random.Generator, Pool], Pool]


def _some(pool: Pool, n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(len(pool), n, replace=False)


def _blur(world: World, dose: float, n: int, rng: np.random.Generator, reference: Pool) -> Pool:
    return world.blurred[dose][_some(world.clean, n, rng)]


def _dropped(world: World, dose: float, n: int, rng: np.random.Generator, reference: Pool) -> Pool:
    gone = {str(k) for k in rng.choice(list(KINDS), int(dose), replace=False)}
    left = [i for i, s in enumerate(world.clean.scenes) if not gone & {t.kind for t in s.things}]
    return world.clean[rng.choice(left, n, replace=len(left) < n)]


def _exchanged(world: World, dose: float, n: int, rng: np.random.Generator, reference: Pool) -> Pool:
    places = _some(world.clean, n, rng)
    faulty = rng.random(n) < dose
    return _mixed(world.clean[places], world.exchanged[places], faulty)


def _repeated(world: World, dose: float, n: int, rng: np.random.Generator, reference: Pool) -> Pool:
    distinct = world.clean[_some(world.clean, max(2, round(dose * n)), rng)]
    return distinct[np.arange(n) % len(distinct)]


def _copied(world: World, dose: float, n: int, rng: np.random.Generator, reference: Pool) -> Pool:
    return _mixed(world.clean[_some(world.clean, n, rng)], reference[_some(reference, n, rng)], rng.random(n) < dose)


def _mixed(a: Pool, b: Pool, from_b: np.ndarray) -> Pool:
    scenes = [y if other else x for x, y, other in zip(a.scenes, b.scenes, from_b)]
    return Pool(np.where(from_b[:, None], b.rows, a.rows), np.where(from_b, b.kept, a.kept), scenes)


# Doses from the weakest to the strongest.
FAULTS: dict[str, Fault] = {
    "blur": Fault((0.25, 0.5, 1.0, 2.0), "{:g} px", _blur),
    "dropped kinds": Fault((1, 2, 4, 8), "{:g} of " + str(len(KINDS)), _dropped),
    "exchanged colors": Fault((0.1, 0.25, 0.5, 1.0), "{:.0%} of pictures", _exchanged),
    "fewer varieties": Fault((0.5, 0.25, 0.1, 0.02), "{:.0%} distinct", _repeated),
    "copied training pictures": Fault((0.05, 0.1, 0.25, 0.5), "{:.0%} copied", _copied),
}


@dataclass(frozen=True)
class TrustReport:
    """By number of pictures, then metric: the band without fault as (mean, deviation), how often it cries wolf (None:
    no intervals at that size), and by fault the share of repeats that noticed each dose."""

    config: TrustConfig
    network: str
    bands: Mapping[int, Mapping[str, tuple[float, float]]]
    wolf: Mapping[int, Mapping[str, float | None]]
    noticed: Mapping[int, Mapping[str, Mapping[str, tuple[float, ...]]]]

    def as_json(self) -> dict[str, object]:
        doses = {name: [f.what.format(d) for d in f.doses] for name, f in FAULTS.items()}
        return {**asdict(self), "doses": doses}


def trust(judge: Judge, network: FeatureNetwork, config: TrustConfig, cache: Path | None = None) -> TrustReport:
    """Draw the world, its faults, and the sets; measure them all through `network`. What was seen of the pictures is
    kept in the folder `cache`."""
    eyes = Eyes(judge, network, cache, config.half)
    return tried(draw_world(eyes, config.pool, config.size, config.seed, FAULTS["blur"].doses), network, config)


def tried(world: World, network: FeatureNetwork, config: TrustConfig) -> TrustReport:
    """The same for a world that has been drawn."""
    bands, wolf, noticed = {}, {}, {}
    for n in config.pictures:
        clean = [_clean(world, network, n, config.seed, i) for i in track(range(2 * config.repeats), f"{n} pictures")]
        values = {name: np.array([first[name].value for first, _ in clean]) for name in clean[0][0]}
        bands[n] = {name: (float(v.mean()), float(v.std(ddof=1))) for name, v in values.items()}
        wolf[n] = {name: _cries([(a[name], b[name]) for a, b in clean]) for name in values}
        shares = [_shares(world, network, n, place, bands[n], config) for place in track(range(DOSES), "faults")]
        noticed[n] = {
            name: {label: tuple(found[label][name] for found in shares) for label in FAULTS} for name in values
        }
    name = f"{network.name} [{network.digest}]" + (" in bfloat16" if config.half else "")
    return TrustReport(config, name, bands, wolf, noticed)


def table(report: TrustReport) -> list[list[str]]:
    """Rows for people: metric, pictures, smallest dose of each fault that 8 of 10 repeats notice, cries of wolf."""
    rows = []
    for name in next(iter(report.noticed.values())):
        for n in report.noticed:
            found = [_smallest(FAULTS[label], shares) for label, shares in report.noticed[n][name].items()]
            cries = report.wolf[n][name]
            rows.append([name, str(n), *found, "–" if cries is None else f"{cries:.0%}"])
    return rows


def _smallest(fault: Fault, shares: Sequence[float]) -> str:
    """The smallest dose from which on all are noticed."""
    first = len(shares)
    while first and shares[first - 1] >= NOTICED:
        first -= 1
    return fault.what.format(fault.doses[first]) if first < len(shares) else "–"


def _clean(
    world: World, network: FeatureNetwork, n: int, seed: int, i: int
) -> tuple[Mapping[str, Measured], Mapping[str, Measured]]:
    """Two sets without fault, measured against one reference."""
    rng = np.random.default_rng((seed, 0, n, i))
    reference = _Sight(world.training[_some(world.training, n, rng)])
    places = _some(world.clean, 2 * n, rng)
    first, second = (_Sight(world.clean[p]) for p in (places[:n], places[n:]))
    return (
        _numbers(first, reference, network, intervals=True),
        _numbers(second, reference, network, intervals=True),
    )


def _shares(
    world: World,
    network: FeatureNetwork,
    n: int,
    place: int,
    bands: Mapping[str, tuple[float, float]],
    config: TrustConfig,
) -> dict[str, dict[str, float]]:
    """At the dose of every fault that stands at `place`, by metric: in how many of the repeats its number left its
    band. Faults share the reference, which is what most of the work would be."""
    outside = {label: dict.fromkeys(bands, 0) for label in FAULTS}
    for i in range(config.repeats):
        rng = np.random.default_rng((config.seed, 1, n, place, i))
        pool = world.training[_some(world.training, n, rng)]
        reference = _Sight(pool)
        for label, fault in FAULTS.items():
            faulty = fault.draw(world, fault.doses[place], n, deepcopy(rng), pool)
            found = _numbers(_Sight(faulty), reference, network, intervals=False)
            for name, (mean, deviation) in bands.items():
                outside[label][name] += abs(found[name].value - mean) > 1.96 * deviation
    return {label: {name: c / config.repeats for name, c in counts.items()} for label, counts in outside.items()}


class _Sight:
    """One set, and what is found once for all that it is measured against."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.pairs, self.frechet = pool, within(pool.rows), Frechet()
        self.frechet.update(pool.rows)


def _numbers(pictures: _Sight, reference: _Sight, network: FeatureNetwork, *, intervals: bool) -> dict[str, Measured]:
    """By metric. `intervals`: of the Fréchet distance as well, for which it is computed 40 times."""
    pairs = dict(pair_numbers(pictures.pairs, reference.pairs))
    if intervals:
        frechet = pictures.frechet.result(reference.frechet)["frechet"]
    else:
        frechet = Measured(frechet_distance(pictures.frechet.moments, reference.frechet.moments))
    numbers = {"frechet": frechet, "kernel": pairs.pop("kernel"), "gaussian": pairs.pop("gaussian")}
    if network.classes is not None:
        score = InceptionScore()
        score.update(network.classes(pictures.pool.rows))
        numbers["score"] = score.score
    return numbers | pairs | {"kept prompts": mean_of(pictures.pool.kept)}


def _cries(pairs: Sequence[tuple[Measured, Measured]]) -> float | None:
    intervals = [(a.interval, b.interval) for a, b in pairs if a.interval is not None and b.interval is not None]
    if not intervals:
        return None
    return float(np.mean([a[1] < b[0] or b[1] < a[0] for a, b in intervals]))
