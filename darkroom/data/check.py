"""What is wrong with a data set, found before time is spent on it. Nothing of the user's is ever changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from darkroom.data.buckets import Bucketing
from darkroom.data.dataset import Dataset
from darkroom.errors import InputError, printable
from darkroom.types import Size

__all__ = ["Finding", "Report", "check_dataset", "contact_sheet", "near_duplicates", "thumbnail"]

# Two pictures are near-duplicates if their thumbnails of PLACES x PLACES differ by at most this much of 255. Measured
# on 1,463 drawings on white: scaled up and saved as JPEG of quality 60 all are found; 6 pairs of others are as near.
PLACES = 20
MEAN_APART = 8  # root of the mean square
MOST_APART = 28  # at any place, in any channel
LONGEST_NAME = 1000  # characters of it that are shown
ROOM = 4_000_000  # pairs that are compared at a time
# For which a picture leaves the clean list.
FAULTS = ("unreadable", "too small", "near-duplicate", "no caption", "unreadable caption", "name")


@dataclass(frozen=True)
class Finding:
    name: str
    fault: str  # one of FAULTS, or "caption"
    detail: str


@dataclass
class Report:
    """What a check found. `clean` are the names of all pictures without a fault, in order."""

    findings: list[Finding] = field(default_factory=list)
    clean: list[str] = field(default_factory=list)
    buckets: Counter[Size] = field(default_factory=Counter)
    lost: dict[Size, float] = field(default_factory=dict)  # share of the pixels that is cut away, mean of the bucket
    enlarged: int = 0  # pictures that are smaller than their bucket
    remarks: list[str] = field(default_factory=list)  # on the whole, a sentence each

    def lines(self) -> Iterator[str]:
        """The report as text."""
        total = len(self.clean) + len({f.name for f in self.findings if f.fault in FAULTS})
        yield f"{total} picture{'s' * (total != 1)}, {len(self.clean)} without a fault"
        yield from self.remarks
        for fault, count in Counter(f.fault for f in self.findings).items():
            yield f"\n{fault}: {count}"
            yield from (f"  {printable(f.name, LONGEST_NAME)}: {f.detail}" for f in self.findings if f.fault == fault)
        yield f"\nbuckets: {len(self.buckets)}; {self.enlarged} pictures are enlarged to fill theirs"
        widest = max(self.buckets.values(), default=1)
        for size, count in sorted(self.buckets.items()):
            bar = "#" * max(1, round(30 * count / widest))
            yield f"  {size!s:>9} {count:6d}  {bar:<30}  {100 * self.lost[size]:4.1f} % cut away"


def check_dataset(
    dataset: Dataset,
    texts: Sequence[str | InputError | None],
    bucketing: Bucketing,
    *,
    least: int,
    caption_fault: Callable[[str], str | None] = lambda text: None,
    progress: Callable[[int], None] = lambda done: None,
) -> Report:
    """Read every picture once.

    `texts`: the caption of each picture, None where it has none, an error where it cannot be read. `least`: pixels that
    the shorter side must have.
    `caption_fault` says what is wrong with a caption, by a model's tokenizer say.
    """
    report, thumbnails, names = Report(), [], []
    lost: dict[Size, list[float]] = {}
    faulty: set[str] = set()

    def note(name: str, fault: str, detail: str) -> None:
        report.findings.append(Finding(name, fault, detail))
        if fault in FAULTS:
            faulty.add(name)

    rng = np.random.default_rng(0)
    for index, text in enumerate(texts):
        name = dataset.name(index)
        progress(index)
        if "\n" in name or "\r" in name:
            note(name, "name", "a list of names, one a line, cannot hold it: rename it")
        try:
            image = dataset.sample(index, rng).image
        except InputError as error:
            note(name, "unreadable", str(error))
            continue
        size = Size(*image.shape[:2])
        if min(size.height, size.width) < least:
            note(name, "too small", f"{size} pixels, at least {least} a side expected")
        if isinstance(text, InputError):
            note(name, "unreadable caption", str(text))
        elif not text or not text.strip():
            missing = "neither a text file beside it nor a caption in a table"
            note(name, "no caption", missing if text is None else "its caption is empty")
        elif (fault := caption_fault(text)) is not None:
            note(name, "caption", fault)
        bucket = bucketing.size(size)
        report.buckets[bucket] += 1
        lost.setdefault(bucket, []).append(_lost(size, bucket))
        report.enlarged += size.height < bucket.height or size.width < bucket.width
        thumbnails.append(thumbnail(image))
        names.append(name)
    for first, second, apart in near_duplicates(thumbnails):
        note(names[second], "near-duplicate", f"of {names[first]} (colors differ by at most {apart} of 255)")
    report.lost = {size: float(np.mean(shares)) for size, shares in lost.items()}
    report.clean = [n for i in range(len(texts)) if (n := dataset.name(i)) not in faulty]
    return report


def _lost(size: Size, bucket: Size) -> float:
    """Share of the pixels of a picture that are cut away when it is brought to `bucket`."""
    scale = max(bucket.height / size.height, bucket.width / size.width)
    return 1 - bucket.height * bucket.width / (size.height * size.width * scale**2)


def thumbnail(image: np.ndarray) -> np.ndarray:
    """uint8 (PLACES, PLACES, 3) of a picture (H, W, 3): nearly the same when it is scaled or saved anew."""
    small = Image.fromarray(image).resize((PLACES, PLACES), Image.Resampling.BILINEAR)
    return np.asarray(small.convert("RGB"))


def near_duplicates(thumbnails: Sequence[np.ndarray]) -> Iterator[tuple[int, int, int]]:
    """(first, second, largest difference) for each picture that nearly equals an earlier one, its nearest."""
    if not thumbnails:
        return
    fine = np.stack(thumbnails).astype(np.int16)
    count, coarse = len(fine), PLACES // 4
    means = fine.reshape(count, coarse, 4, coarse, 4, 3).mean(axis=(2, 4), dtype=np.float32).reshape(count, -1)
    squares = np.square(means).sum(axis=1)
    rows = max(1, ROOM // count)
    for start in range(0, count, rows):
        block = slice(start, min(start + rows, count))
        # Means over 4 x 4 places differ by no more than the places do: few pairs are left to look at.
        apart = squares[block, None] + squares[: block.stop] - 2 * means[block] @ means[: block.stop].T
        close = apart <= means.shape[1] * (MEAN_APART**2 + 1)  # rounding
        for row in np.flatnonzero(close.any(axis=1)):
            second = start + int(row)
            earlier = np.flatnonzero(close[row, :second])
            difference = np.abs(fine[earlier] - fine[second])
            most = difference.max(axis=(1, 2, 3), initial=0)
            near = (np.square(difference, dtype=np.int32).mean(axis=(1, 2, 3)) <= MEAN_APART**2) & (most <= MOST_APART)
            if near.any():
                best = np.where(near, most, 256).argmin()
                yield int(earlier[best]), second, int(most[best])


def contact_sheet(
    dataset: Dataset, names: Sequence[str], side: int = 128, columns: int = 10, most: int = 200
) -> Image.Image:
    """Thumbnails of the first `most` of `names`, each whole within its square of `side` pixels."""
    shown = set(names[:most])
    indices = [i for i in range(len(dataset)) if dataset.name(i) in shown]
    rows = max(1, -(-len(indices) // columns))
    sheet = Image.new("RGB", (columns * side, rows * side), "white")
    rng = np.random.default_rng(0)
    for place, index in enumerate(indices):
        thumbnail = Image.fromarray(dataset.sample(index, rng).image)
        thumbnail.thumbnail((side - 4, side - 4))
        y, x = divmod(place, columns)
        sheet.paste(thumbnail, (x * side + 2, y * side + 2))
    return sheet
