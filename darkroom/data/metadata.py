"""Tables that say something of each picture of a folder: `metadata.jsonl`, `.csv` or `.parquet`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from darkroom.errors import InputError, cause
from darkroom.input_file import read_text
from darkroom.json_file import parse_table
from darkroom.registry import nearest

__all__ = ["FILE_COLUMN", "is_table", "read_table"]

FILE_COLUMN = "file_name"  # Hugging Face's imagefolder
MAX_BYTES = 1 << 30  # of a table; a few hundred for a picture
TABLES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")


def is_table(path: Path) -> bool:
    """Whether the file at `path` is called as such tables are."""
    return path.name.lower() in TABLES


def read_table(path: Path) -> dict[str, Mapping[str, Any]]:
    """Rows by the file that they are about, relative to the table's folder, `/` between its parts."""
    rows = {".jsonl": _json_lines, ".csv": _csv, ".parquet": _parquet}[path.suffix.lower()](path)
    found: dict[str, Mapping[str, Any]] = {}
    for where, row in rows:
        file = row.get(FILE_COLUMN)
        if not isinstance(file, str) or not file:
            known = ", ".join(nearest(FILE_COLUMN, [str(k) for k in row])[:8])
            raise InputError(f"{path} {where} has no {FILE_COLUMN}; its columns are: {known}")
        file = Path(file).as_posix()
        if file in found:
            raise InputError(f"{path} {where}: {file} stands there twice")
        found[file] = row
    return found


Rows = Iterable[tuple[str, Mapping[str, Any]]]


def _json_lines(path: Path) -> Rows:
    for number, line in enumerate(read_text(path, MAX_BYTES).split("\n"), start=1):
        if not line.strip():
            continue
        yield f"line {number}", parse_table(line, f"{path} line {number}")


def _csv(path: Path) -> Rows:
    try:
        file = io.StringIO(read_text(path, MAX_BYTES), newline="")
        for number, row in enumerate(csv.DictReader(file, strict=True), start=2):
            if None in row or None in row.values():
                raise InputError(f"{path} line {number} has another number of columns than the first line")
            yield f"line {number}", row
    except csv.Error as error:
        raise InputError(f"{path} is not a table of comma-separated values: {cause(error)}") from None


def _parquet(path: Path) -> Rows:
    try:
        from pyarrow import ArrowException, parquet  # type: ignore[import-not-found]  # optional
    except ImportError:
        raise InputError(f"{path} needs the package pyarrow: pip install 'darkroom-diffusion[data]'") from None
    try:
        rows = parquet.read_table(path).to_pylist()
    except (ArrowException, OSError, ValueError, OverflowError) as error:  # also texts and times of columns
        raise InputError(f"{path} cannot be read as a parquet table: {cause(error)}") from None
    for number, row in enumerate(rows, start=1):
        yield f"row {number}", row
