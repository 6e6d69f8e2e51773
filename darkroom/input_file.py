"""The one door to files and folders that others made: only files are opened, and read whole only up to a stated size.

A pipe would be waited for, a device may have no end, and a file of any size would fill the memory.
"""

from __future__ import annotations

import os
import stat
import sys
import zlib
from io import BufferedReader
from pathlib import Path

from darkroom.errors import InputError, cause

__all__ = ["entries", "open_input", "read_bytes", "read_lines", "read_stdin", "read_text", "version_of"]

MAX_TEXT = 64 << 20  # bytes; a million prompts
END = 4096  # bytes at the end of a file that tell it from others of its size


def open_input(path: Path | str) -> BufferedReader:
    """The file at `path`, open for reading. `InputError` if it is not there, cannot be read or is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe is opened without waiting
    except FileNotFoundError:
        raise InputError(f"there is no file {str(path)!r}") from None
    except (OSError, ValueError) as error:  # a ValueError is a name that no file can have
        raise InputError(f"{path} cannot be read: {cause(error)}") from None
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or os.path.samefile(descriptor, os.devnull):  # which stands for an empty file
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise InputError(f"{path} is {'a folder' if stat.S_ISDIR(mode) else 'a pipe or a device'}, expected is a file")


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """The content of the file at `path`. `InputError` also if it has more than `max_bytes`, or changes meanwhile."""
    with open_input(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise InputError(f"{path} has {size} bytes, accepted are at most {max_bytes}")
        try:
            content = file.read(size + 1)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {cause(error)}") from None
    if len(content) != size:
        raise InputError(f"{path} changes while it is read")
    return content


def read_text(path: Path, max_bytes: int = MAX_TEXT) -> str:
    """The same as text in UTF-8, without a byte order mark; lines end in `\\n`, however the file ends them."""
    return _decoded(read_bytes(path, max_bytes), str(path))


def read_lines(path: Path) -> list[str]:
    """The lines of a text of any size; what is not UTF-8 in it is replaced."""
    with open_input(path) as file:
        try:
            return file.read().decode("utf-8", "replace").split("\n")
        except OSError as error:
            raise InputError(f"{path} cannot be read: {cause(error)}") from None


def version_of(path: Path) -> str:
    """Size and end of the file at `path`, which change with it, copies and dates aside; empty if it cannot be read."""
    try:
        with open_input(path) as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - END))
            return f"{size} {zlib.crc32(file.read(END)):x}"
    except (InputError, OSError):
        return ""


def read_stdin(max_bytes: int = MAX_TEXT) -> str:
    """What standard input holds, as `read_text` gives a file."""
    content = sys.stdin.buffer.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise InputError(f"standard input has more than {max_bytes} bytes")
    return _decoded(content, "standard input")


def _decoded(content: bytes, where: str) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not UTF-8 text (byte {error.start})") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")  # as files that are opened as text have them


def entries(folder: Path) -> list[Path]:
    """What lies in the folder, in the order of names. `InputError` if it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} cannot be read: {cause(error)}") from None
