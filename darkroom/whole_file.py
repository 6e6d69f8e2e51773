"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from darkroom.errors import InputError

__all__ = ["whole_file"]


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when the block ends well and vanishes when it does not.

    Entered before the work, so that a path that cannot be written is an `InputError` before any time is spent.
    """
    target = path.resolve()  # what a link points at is written, not the link
    if target.exists() and not target.is_file():
        raise InputError(f"{path} cannot be written: it is not a regular file")
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from None
    fresh = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        fresh.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        os.replace(fresh, target)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        fresh.unlink(missing_ok=True)


def _umask() -> int:
    """What a plain `open` would leave out of a new file's rights; temporary files are for their owner only."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
