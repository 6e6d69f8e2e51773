"""What lies in a folder of training pictures and below: pictures, texts beside them, tables about them."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkroom.data.metadata import is_table, read_table
from darkroom.errors import InputError, cause
from darkroom.pictures.reading import ENDINGS, UNREAD

__all__ = ["FolderFiles", "folder_files", "passed_over", "plain"]

RUN = {"recipe.json", "log.jsonl"}  # what the folder of a training run holds; its samples are nobody's data


@dataclass(frozen=True)
class FolderFiles:
    """Names are relative to the folder, with `/` between their parts; those of a key are `plain`."""

    folder: Path
    pictures: tuple[str, ...]  # in the order of their names
    texts: Mapping[str, tuple[str, ...]]  # texts by what they would be called if their ending were in small letters
    owners: Mapping[str, tuple[str, ...]]  # pictures by both names that a text beside them may have but for its ending
    tables: tuple[Path, ...]
    unread: Mapping[str, int]  # how many pictures have an ending whose format is not read
    runs: tuple[Path, ...]  # folders of training runs, which are not looked into

    def twin(self, picture: str, endings: Collection[str]) -> str | None:
        """The text that belongs to `picture`, `cat.txt` or `cat.jpg.txt` beside `cat.jpg`; None where there is none.
        `InputError` where there are two, or it belongs to another picture as well."""
        found = []
        for name in _names_of(picture):
            texts = [text for ending in endings for text in self.texts.get(f"{name}{ending.lower()}", ())]
            if texts and len(owners := self.owners[name]) > 1:
                raise InputError(f"{' and '.join(owners)} in {self.folder} share one caption file: rename one of them")
            found += texts
        if len(found) > 1:
            both = " and ".join(text.rpartition("/")[2] for text in found)
            unlike = len({text.rpartition(".")[2].lower() for text in found}) > 1
            cure = "; data.caption_extension says which counts" if unlike else ": one expected"
            raise InputError(f"{picture} has {len(found)} captions: {both}{cure}")
        return found[0] if found else None

    def rows(self) -> dict[str, Mapping[str, Any]]:
        """The rows of all tables by the picture that they are about; each names it relative to its own folder.
        `InputError` for files that are not in the folder, and for those with several rows."""
        found: dict[str, Mapping[str, Any]] = {}
        pictures = {plain(name) for name in self.pictures}
        for path in self.tables:
            own = {plain(self._named(path, name)): row for name, row in read_table(path).items()}
            absent = [name for name in own if name not in pictures and not self._holds(name)]
            if absent:
                raise InputError(
                    f"{path} names {len(absent)} files that are not in {self.folder}, the first is {absent[0]}"
                )
            for name in own.keys() & found.keys():
                raise InputError(f"{name} stands in {path} and in a table of a folder above it: one row expected")
            found |= own
        return found

    def _named(self, table: Path, name: str) -> str:
        """What the file that `table` calls `name` is called here."""
        if os.path.isabs(name):
            return Path(os.path.relpath(name, self.folder)).as_posix()
        return Path(os.path.normpath(table.parent.relative_to(self.folder) / name)).as_posix()

    def _holds(self, name: str) -> bool:
        return not name.startswith("../") and os.path.isfile(self.folder / name)


def passed_over(folders: Iterable[FolderFiles]) -> str | None:
    """In one line, what was passed over in `folders` though it looks like pictures; None where there is nothing."""
    each = {os.path.realpath(files.folder): files for files in folders}.values()  # kohya may name a folder twice
    unread = sum((Counter(files.unread) for files in each), Counter[str]())
    runs = [run for files in each for run in files.runs]
    told = []
    if count := unread.total():
        by_ending = ", ".join(f"{ending} {n}" for ending, n in sorted(unread.items(), key=lambda item: -item[1]))
        told.append(f"{count} file{'s' * (count != 1)} ({by_ending})")
    if runs:
        told.append(
            f"{len(runs)} folder{'s' * (len(runs) != 1)} of training runs ({', '.join(map(str, runs[:3]))}"
            f"{' …' * (len(runs) > 3)})"
        )
    return f"passed over: {', '.join(told)}" if told else None


def folder_files(folder: Path, endings: Collection[str], without: Collection[str]) -> FolderFiles:
    """Of the folder and those below it, but for hidden ones, folders of training runs, and those `without`, real paths.
    Texts are files with one of `endings`. `InputError` for what is no folder or cannot be read."""
    if not os.path.isdir(folder):
        raise InputError(f"there is no folder {folder}")
    pictures: list[str] = []
    texts: dict[str, tuple[str, ...]] = {}
    tables: list[Path] = []
    unread: Counter[str] = Counter()
    runs: list[Path] = []
    small = {ending.lower() for ending in endings}
    for path in _walk(folder, without, runs):
        name, ending = path.relative_to(folder).as_posix(), path.suffix.lower()
        if ending in ENDINGS:
            pictures.append(name)
        elif is_table(path):
            tables.append(path)
        elif ending in UNREAD and ending not in small:
            unread[ending] += 1
        for text in small:
            if path.name.lower().endswith(text):
                key = plain(name[: len(name) - len(text)]) + text
                texts[key] = (*texts.get(key, ()), name)
    for path in tables:
        if len(beside := [p.name for p in tables if p.parent == path.parent]) > 1:
            raise InputError(f"{path.parent} holds {' and '.join(sorted(beside))}: one table expected")
    pictures.sort()
    owners: dict[str, tuple[str, ...]] = {}
    for picture in pictures:
        for name in _names_of(picture):
            owners[name] = (*owners.get(name, ()), picture)
    return FolderFiles(folder, tuple(pictures), texts, owners, tuple(sorted(tables)), unread, tuple(sorted(runs)))


def _names_of(picture: str) -> tuple[str, str]:
    """What a text beside `picture` may be called, but for its ending: as the picture without its own, or with it."""
    name = plain(picture)
    return name.rpartition(".")[0], name


def plain(name: str) -> str:
    """`name` with accents as one character each: some systems write them apart, and texts and tables otherwise."""
    return unicodedata.normalize("NFC", name)


def _walk(folder: Path, without: Collection[str], runs: list[Path]) -> Iterator[Path]:
    """Files, those of linked folders too; a folder that several links lead to is walked once. Folders of training runs
    below are noted in `runs`."""
    walked = {*without, os.path.realpath(folder)}
    for root, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        here, below = Path(root), sorted(f for f in folders if not f.startswith("."))
        folders.clear()
        if here != folder and set(files) >= RUN:
            runs.append(here)
            continue
        for name in sorted(below, key=lambda f: os.path.islink(here / f)):  # a folder itself before links to it
            if (real := os.path.realpath(here / name)) not in walked:
                walked.add(real)
                folders.append(name)
        yield from (here / file for file in files if not file.startswith("."))


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename} cannot be read: {cause(error)}") from None
