"""How programs of the same user find a server that runs: a file that only this user can read. No torch, no fastapi."""

from __future__ import annotations

import json
import logging
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from darkroom import __version__
from darkroom.config import from_dict
from darkroom.errors import InputError, cause
from darkroom.json_file import read_json
from darkroom.whole_file import whole_file

__all__ = ["Announcement", "announced", "find_server", "named", "same_folders"]

log = logging.getLogger("darkroom.serve")


@dataclass(frozen=True)
class Announcement:
    """A server: where it listens, who may ask, and what it draws with. `models`: what each was given as → its name."""

    address: str
    token: str
    process: int
    models: Mapping[str, str]
    lora_folders: tuple[str, ...]
    embedding_folders: tuple[str, ...]
    control_folders: tuple[str, ...]
    device: str
    dtype: str
    version: str = __version__


def named(model: str | Path) -> str:
    """What stands for a model, or a folder, in any folder that a command is called from."""
    path = os.path.expanduser(model)
    return os.path.realpath(path) if os.path.exists(path) else str(model)


@contextmanager
def announced(server: Announcement) -> Iterator[None]:
    """Let the user's programs find `server` while this is open. The first of several servers is the one found; one
    whose file cannot be written serves all the same, and its log says why it is not found."""
    if find_server() is not None:
        yield
        return
    path = _path()
    try:
        _write(path, server)
    except (OSError, InputError) as error:
        log.warning("other programs of this user do not find the server: %s cannot be written: %s", path, cause(error))
        yield
        return
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _write(path: Path, server: Announcement) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.touch(0o600)  # rights first: what is written next keeps them
    with whole_file(path) as file:
        file.write(json.dumps(asdict(server)).encode())


def find_server() -> Announcement | None:
    """The user's server that runs, of this version; None if there is none, or the file could be another user's."""
    path = _path()
    with suppress(OSError, InputError):
        for place in (path.parent, path):
            status = place.lstat()
            if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077 or stat.S_ISLNK(status.st_mode):
                return None
        server = from_dict(Announcement, read_json(path), str(path))
        os.kill(server.process, 0)
        return server if server.version == __version__ else None
    return None


def same_folders(ours: Sequence[Path], theirs: Sequence[str]) -> bool:
    """Whether names mean the same files."""
    return [named(folder) for folder in ours] == list(theirs)


def _path() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime) / "darkroom" if runtime else Path(tempfile.gettempdir()) / f"darkroom-{os.getuid()}"
    return folder / "server.json"
