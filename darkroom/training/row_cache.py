"""What is computed once for each sample of a source and kept on disk: latents, maps."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from darkroom.errors import InputError

__all__ = ["RowCache"]


class RowCache:
    """Rows of numbers in a memory-mapped file, each computed when it is first asked for.

    `compute` gives the rows (n, *shape) of the sample numbers in a list. The file's name must tell everything that
    they depend on.
    """

    def __init__(
        self,
        path: Path,
        count: int,
        shape: tuple[int, ...],
        dtype: type[np.number],
        compute: Callable[[list[int]], np.ndarray],
    ) -> None:
        self.path, self.count, self.shape, self.dtype, self.compute = path, count, shape, dtype, compute
        above = next(p for p in (path.parent, *path.absolute().parents) if p.exists())
        if not (above.is_dir() and os.access(above, os.W_OK)):
            raise InputError(
                f"{path.name} cannot be kept in {path.parent}: {above} is no folder that can be written to"
            )

    @functools.cached_property
    def rows(self) -> np.memmap:
        """(samples, numbers of a row + 1); the last number is 0, as in a fresh file, until the row is there.

        Opened when first needed: a run that cannot begin leaves no file.
        """
        shape = (self.count, math.prod(self.shape) + 1)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return np.memmap(self.path, self.dtype, "r+" if self.path.exists() else "w+", shape=shape)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path} cannot be opened: {error}") from None

    def get(self, numbers: list[int]) -> np.ndarray:
        """The rows (len(numbers), *shape) of samples `numbers`."""
        missing = sorted({i for i in numbers if self.rows[i, -1] == 0})
        if missing:
            self.rows[missing, :-1] = self.compute(missing).reshape(len(missing), -1)
            self.rows[missing, -1] = 1
        return self.rows[numbers, :-1].reshape(len(numbers), *self.shape)
