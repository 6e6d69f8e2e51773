"""Files beside the model that requests name: read once, and kept as long as they are used and stay the same."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from darkroom.systems.build import LatentDiffusion

__all__ = ["Shelf"]

T = TypeVar("T")


class Shelf(Generic[T]):
    """What `read` makes of files for a model; the `most` that were used last stay read. Any thread may call it."""

    def __init__(self, read: Callable[[Path, LatentDiffusion], T], most: int) -> None:
        self._make, self._most = read, most
        self._read: OrderedDict[tuple[object, ...], T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: Path, model: LatentDiffusion) -> T:
        """`InputError` for a file that is damaged or does not fit the model."""
        file = path.stat()
        key = (path, file.st_mtime_ns, file.st_size, model.system.name, model.dtype, model.device)
        with self._lock:
            if key not in self._read:
                self._read[key] = self._make(path, model)
                while len(self._read) > self._most:
                    self._read.popitem(last=False)
            self._read.move_to_end(key)
            return self._read[key]
