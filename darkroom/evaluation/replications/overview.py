"""What was tried, kept as JSON beside each page, and the page that lists it all."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from darkroom.config import from_dict
from darkroom.errors import InputError, printable
from darkroom.evaluation.replications.catalog import CLAIMS
from darkroom.evaluation.replications.claim import Outcome, Verdict
from darkroom.evaluation.replications.trial import SCALES, Scale, Trial
from darkroom.json_file import read_json

__all__ = ["Record", "as_json", "machine", "overview", "record_of"]


@dataclass(frozen=True)
class Record:
    """How one claim went."""

    claim: str
    scale: Scale
    seed: int
    seconds: float  # of processor time
    machine: str
    verdicts: tuple[Verdict, ...]
    table: tuple[tuple[str, ...], ...] = ()  # as on the page, its heading first
    notes: str = ""


def record_of(name: str, outcome: Outcome, trial: Trial, seconds: float) -> Record:
    return Record(CLAIMS.name(name), trial.scale, trial.seed, round(seconds, 1), machine(), tuple(outcome.verdicts),
                  tuple(map(tuple, outcome.table)), outcome.notes)  # fmt: skip


def machine() -> str:
    """Of what sort this one is, in a few words."""
    return f"{os.cpu_count()} cores of {platform.machine()}"


def as_json(record: Record) -> bytes:
    return (json.dumps(asdict(record), indent=1) + "\n").encode()


def overview(folder: Path) -> str:
    """Markdown: all claims with the verdicts of the records in `folder` and in the folders within it, other files
    aside. `InputError` for records that are damaged, and where there is none."""
    records: dict[str, list[tuple[Record, str]]] = {}
    for path, record in _records(folder):
        page = path.with_suffix(".md").relative_to(folder).as_posix()
        records.setdefault(CLAIMS.name(record.claim), []).append((record, page))
    if not records:
        raise InputError(
            f"there is no record of a claim in {folder} or a folder in it: `darkroom replicate NAME -o "
            f"{folder / 'NAME.md'}` tries one and writes it"
        )
    lines = [
        "# Claims of the papers in miniature",
        "",
        "`darkroom replicate NAME` tries a claim, `darkroom replicate overview -o FILE` writes this page from the "
        "records beside it. At a tiny scale many a claim can be neither shown nor refuted; that is said then.",
        "",
        "| claim | source | scale | holds | does not hold | not decided | processor seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, claim in CLAIMS.items():
        if name not in records:
            lines.append(f"| {claim.title} (`{name}`) | {claim.source} | – | | | | |")
            continue
        for record, page in sorted(records[name], key=lambda found: list(SCALES).index(found[0].scale)):
            numbers = " | ".join(str(_count(record.verdicts, holds)) for holds in (True, False, None))
            lines.append(
                f"| [{claim.title}]({page}) | {claim.source} | {record.scale} | {numbers} | {record.seconds:.0f} |"
            )
    return "\n".join(lines) + "\n"


def _records(folder: Path) -> Iterator[tuple[Path, Record]]:
    """What is called as a claim or names one is a record; JSON of other programs is passed over."""
    for path in sorted([*folder.glob("*.json"), *folder.glob("*/*.json")]):
        try:
            found = read_json(path)
        except InputError:
            if path.stem in CLAIMS:
                raise
            continue
        if path.stem in CLAIMS or found.get("claim") in CLAIMS:
            record = from_dict(Record, found, str(path))
            if record.claim not in CLAIMS:
                raise InputError(
                    f"{path}: claim is {printable(record.claim)!r}, expected is {CLAIMS.name(path.stem)!r}"
                )
            yield path, record


def _count(verdicts: Sequence[Verdict], holds: bool | None) -> int:
    return sum(v.holds is holds for v in verdicts)
