"""Which metric can be trusted: known faults in scenes of the picture-book world, in doses, and who notices them.

Everything is known of the world: the right pictures can be drawn without end, and so can faulty ones. A metric notices
a dose if its number leaves the band that sets without fault give (their mean ± 1.96 deviations, both sets drawn anew
each time). It cries wolf if the intervals of two sets without fault, measured against one reference, do not meet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from PIL import Image, ImageFilter
from rich.progress import track

from darkroom.data.picturebook import KINDS, Facts, Scene, describe, render, sample_scene
from darkroom.errors import require
from darkroom.evaluation.compare import see
from darkroom.evaluation.copies import copied_share, nearest
from darkroom.evaluation.features import FeatureNetwork, open_features
from darkroom.evaluation.judging import look
from darkroom.evaluation.metric import Measured, mean_of
from darkroom.evaluation.verdict import judge_picture
from darkroom.models.judge import Judge
from darkroom.pixels import to_tensor

__all__ = [
    "FAULTS",
    "Pool",
    "TrustConfig",
    "TrustReport",
    "World",
    "exchanged_colors",
    "table",
    "tried",
    "trust",
]

STREAM = 5_000_003  # of the scenes, apart from those of training, prompts and the judge's test
METRICS = ("frechet", "kernel", "gaussian", "score", "neighbors")
PIECE = 64
NOTICED = 0.8  # share of repeats in which a dose must be seen


@dataclass(frozen=True)
class TrustConfig:
    pictures: tuple[int, ...]  # sizes of the sets
    repeats: int = 20  # of every fault and dose; twice as many sets without fault
    pool: int = 2000  # scenes that sets are drawn from; as many again for the reference
    size: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        for count in self.pictures:
            require(20 <= count <= self.pool // 2, "the number of pictures", count, f"20 to half the pool, {self.pool}")
        require(self.repeats >= 4, "the number of repeats", self.repeats, "at least 4")


@dataclass(frozen=True)
class Pool:
    """Pictures to draw sets from: features (P, D), whether the judge finds all that the caption promises, scenes."""

    rows: np.ndarray
    kept: np.ndarray
    scenes: Sequence[Scene]

    def __getitem__(self, places: np.ndarray) -> Pool:
        return Pool(self.rows[places], self.kept[places], [self.scenes[i] for i in places])

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class World:
    """What faults are made of. Faulty pools hold the same scenes as `clean`, place by place."""

    training: Pool
    clean: Pool
    blurred: Mapping[float, Pool]
    exchanged: Pool


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


def trust(judge: Judge, network: FeatureNetwork, config: TrustConfig) -> TrustReport:
    """Draw the world, its faults, and the sets; measure them all through `network`."""
    return tried(_world(judge, network, config), network, config)


def tried(world: World, network: FeatureNetwork, config: TrustConfig) -> TrustReport:
    """The same for a world that has been drawn."""
    bands, wolf, noticed = {}, {}, {}
    for n in config.pictures:
        clean = [_clean(world, network, n, config.seed, i) for i in track(range(2 * config.repeats), f"{n} pictures")]
        values = {name: np.array([first[name].value for first, _ in clean]) for name in clean[0][0]}
        bands[n] = {name: (float(v.mean()), float(v.std(ddof=1))) for name, v in values.items()}
        wolf[n] = {name: _cries([(a[name], b[name]) for a, b in clean]) for name in values}
        noticed[n] = {name: {} for name in values}
        for label, fault in FAULTS.items():
            seen = {name: [] for name in values}
            for place, dose in enumerate(track(fault.doses, label)):
                for name, share in _shares(world, network, fault, dose, n, bands[n], (config, place)).items():
                    seen[name].append(share)
            for name in values:
                noticed[n][name][label] = tuple(seen[name])
    return TrustReport(config, f"{network.name} [{network.digest}]", bands, wolf, noticed)


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
    reference = world.training[_some(world.training, n, rng)]
    places = _some(world.clean, 2 * n, rng)
    first, second = (_numbers(world.clean[p], reference, network) for p in (places[:n], places[n:]))
    return first, second


def _shares(
    world: World,
    network: FeatureNetwork,
    fault: Fault,
    dose: float,
    n: int,
    bands: Mapping[str, tuple[float, float]],
    numbered: tuple[TrustConfig, int],
) -> dict[str, float]:
    """By metric, in how many of the repeats its number left its band."""
    config, place = numbered
    outside = dict.fromkeys(bands, 0)
    for i in range(config.repeats):
        rng = np.random.default_rng((config.seed, 1, n, place, i))
        reference = world.training[_some(world.training, n, rng)]
        found = _numbers(fault.draw(world, dose, n, rng, reference), reference, network)
        for name, (mean, deviation) in bands.items():
            outside[name] += abs(found[name].value - mean) > 1.96 * deviation
    return {name: count / config.repeats for name, count in outside.items()}


def _numbers(pictures: Pool, reference: Pool, network: FeatureNetwork) -> dict[str, Measured]:
    ours, theirs = (see([p.rows], network, METRICS) for p in (pictures, reference))
    numbers: dict[str, Measured] = {}
    for name, metric in ours.metrics.items():
        numbers |= metric.result(theirs.metrics[name])
    del numbers["score of the reference"]
    usual = nearest(reference.rows, [reference.rows], itself=True)
    numbers["copies"] = copied_share(nearest(pictures.rows, [reference.rows]), usual)
    numbers["kept prompts"] = mean_of(pictures.kept)
    return numbers


def _cries(pairs: Sequence[tuple[Measured, Measured]]) -> float | None:
    intervals = [(a.interval, b.interval) for a, b in pairs if a.interval is not None and b.interval is not None]
    if not intervals:
        return None
    return float(np.mean([a[1] < b[0] or b[1] < a[0] for a, b in intervals]))


def _world(judge: Judge, network: FeatureNetwork, config: TrustConfig) -> World:
    def scenes(stream: int) -> list[tuple[Scene, Facts]]:
        drawn = []
        for i in range(config.pool):
            rng = np.random.default_rng((config.seed, STREAM, stream, i))
            scene = sample_scene(rng, split="any")
            drawn.append((scene, describe(scene, rng)[1]))
        return drawn

    def pool(drawn: Sequence[tuple[Scene, Facts]], what: str, blur: float = 0.0) -> Pool:
        return _pool(judge, network, drawn, config.size, blur, what)

    clean = scenes(1)
    return World(
        pool(scenes(0), "reference"),
        pool(clean, "clean"),
        {dose: pool(clean, f"blur {dose:g}", dose) for dose in FAULTS["blur"].doses},
        pool([(exchanged_colors(scene), facts) for scene, facts in clean], "exchanged colors"),
    )


def exchanged_colors(scene: Scene) -> Scene:
    """The first two things of different kinds exchange their colors; scenes without such stay as they are."""
    things = list(scene.things)
    for i, a in enumerate(things):
        for j in range(i + 1, len(things)):
            b = things[j]
            if a.kind != b.kind and a.colour != b.colour:
                things[i], things[j] = replace(a, colour=b.colour), replace(b, colour=a.colour)
                return replace(scene, things=tuple(things))
    return scene


def _pool(
    judge: Judge, network: FeatureNetwork, drawn: Sequence[tuple[Scene, Facts]], size: int, blur: float, what: str
) -> Pool:
    rows, kept = [], []
    reads_itself = network.identity == open_features("judge").identity  # then one look gives both
    for start in track(range(0, len(drawn), PIECE), what, transient=True):
        part = drawn[start : start + PIECE]
        pixels = np.stack([_blurred(render(scene, size, size), blur) for scene, _ in part])
        images = to_tensor(pixels)
        found = list(look(judge, images))
        rows.append(np.stack([f.features for f in found]) if reads_itself else network(images))
        for (_, facts), findings in zip(part, found):
            verdict = judge_picture(facts, findings.things, findings.surroundings)
            kept.append(verdict.present and verdict.colours is not False)
    return Pool(np.concatenate(rows), np.array(kept), [scene for scene, _ in drawn])


def _blurred(pixels: np.ndarray, radius: float) -> np.ndarray:
    if not radius:
        return pixels
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))
