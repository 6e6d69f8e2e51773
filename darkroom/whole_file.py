"""Files and folders that are written whole or not at all.

What is not whole yet has a hidden name beside its place, which tells the process that writes it. What a killed process
left is swept by the next one that writes to the folder.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from darkroom.errors import InputError, cause
from darkroom.input_file import entries

__all__ = ["NewFile", "new_file", "sweep", "temporary_prefix", "whole_file", "whole_folder"]


def temporary_prefix() -> str:
    """What names of this process's temporaries begin with: hidden, with this machine and the process in it."""
    return f".darkroom-{_machine()}-{os.getpid()}-"


@functools.cache  # once a process: what others leave later is for the next one
def sweep(folder: Path) -> None:
    """Remove the temporaries in `folder` of processes of this machine that are gone."""
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except OSError:
        return
    for name in names:
        found = re.fullmatch(rf"\.darkroom-{_machine()}-(\d{{1,10}})-\w+", name)
        if found is None or _runs(int(found[1])):
            continue
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's
        return True
    return True


@functools.cache
def _machine() -> str:
    """Tells machines that share a folder apart; process numbers are theirs."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def made_folder(path: Path) -> Path:
    """The folder `path`, made with those above it where it is missing; `InputError` if it cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {path} cannot be made: {cause(error)}") from None
    return path


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when the block ends well and vanishes when it does not.

    Entered before the work, so that a path that cannot be written is an `InputError` before any time is spent.
    """
    target = Path(os.path.realpath(path))  # what a link points at is written, not the link
    if os.path.exists(target) and not os.path.isfile(target):
        raise InputError(f"{path} cannot be written: it is not a regular file")
    with _temporary(target, path) as (file, written):
        yield file
        file.close()
        written.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        os.replace(written, target)


@contextmanager
def whole_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """An empty folder to fill that takes the place of `path` when the block ends well and vanishes when it does not.

    Unless `replace` is said, only an empty folder may be there already. Folders above are made. Entered before the
    work, so that a path that cannot be written is an `InputError` before any time is spent.
    """
    target = Path(os.path.realpath(path))
    if os.path.exists(target) and (not os.path.isdir(target) or (not replace and entries(target))):
        raise InputError(f"{path} exists already and is not {'a' if replace else 'an empty'} folder")
    try:
        sweep(made_folder(target.parent))
        place = Path(tempfile.mkdtemp(prefix=temporary_prefix(), dir=target.parent))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {cause(error)}") from None
    fresh, former = place / "new", place / "old"
    try:
        fresh.mkdir()
        yield fresh
        if target.exists():
            os.replace(target, former)
        os.replace(fresh, target)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {cause(error)}") from None
    finally:
        if former.exists() and not target.exists():  # the second move failed
            os.replace(former, target)
        shutil.rmtree(place, ignore_errors=True)


class NewFile:
    """What `new_file` gives: the file to write, and once the block has ended the path that it got."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file = file
        self.path = path


@contextmanager
def new_file(names: Iterable[Path]) -> Iterator[NewFile]:
    """A file that gets the first of `names`, paths in one folder, that is free when the block ends well.

    Nothing is ever replaced, whatever other processes write to the folder at the same time, and nothing stands under
    a name before it is whole. `InputError` if the folder cannot be written to or every name is taken.
    """
    rest = iter(names)
    first = next(rest)
    with _temporary(first, first) as (file, written):
        new = NewFile(file, first)
        yield new
        file.close()
        written.chmod(0o666 & ~_umask())
        for path in chain([first], rest):
            if _takes_name(written, path):
                new.path = path
                return
    raise InputError(f"{first} cannot be written: a file of that name is there")


def _takes_name(written: Path, path: Path) -> bool:
    """Give `written` the name `path`, unless something has it."""
    try:
        os.link(written, path)
        return True
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links: an empty file holds the name until the next line
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return False
        os.replace(written, path)
        return True


@contextmanager
def _temporary(target: Path, path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A hidden file beside `target` and its path, gone at the end; errors of the system name `path`."""
    try:
        sweep(target.parent)
        descriptor, name = tempfile.mkstemp(prefix=temporary_prefix(), dir=target.parent)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {cause(error)}") from None
    written = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file, written
    except OSError as error:
        raise InputError(f"{path} cannot be written: {cause(error)}") from None
    finally:
        written.unlink(missing_ok=True)


def _umask() -> int:
    """What a plain `open` would leave out of a new file's rights; temporary files are for their owner only."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
