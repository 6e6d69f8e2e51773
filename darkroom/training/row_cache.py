"""What is computed once for each sample of a data set and kept on disk: latents, maps."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from darkroom.errors import InputError, cause

__all__ = ["RowCache", "require_same", "weights_digest"]


class RowCache:
    """Rows of numbers in a memory-mapped file. A row counts only with the key of its sample.

    `key` names the content of a sample and changes with it, so an edited picture's row is computed anew. The file's
    name must tell everything else that rows depend on: settings and weights.
    """

    def __init__(
        self, path: Path, count: int, shape: tuple[int, ...], dtype: type[np.number], key: Callable[[int], str]
    ) -> None:
        self.path, self.count, self.shape, self.key = path, count, shape, key
        self.dtype = np.dtype([("key", np.uint64), ("row", dtype, shape)])
        above = next(p for p in (path.parent, *path.absolute().parents) if os.path.exists(p))
        if not (above.is_dir() and os.access(above, os.W_OK)):
            raise InputError(
                f"{path.name} cannot be kept in {path.parent}: {above} is no folder that can be written to"
            )

    @functools.cached_property
    def rows(self) -> np.memmap:
        """(samples,) of key and row; keys are 0 in a fresh file. Opened when first needed: a run that cannot begin
        leaves no file."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            whole = self.path.exists() and self.path.stat().st_size == self.count * self.dtype.itemsize
            return np.memmap(self.path, self.dtype, "r+" if whole else "w+", shape=(self.count,))
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path} cannot be opened: {cause(error)}") from None

    def absent(self, numbers: Sequence[int]) -> list[int]:
        """Those of `numbers`, in order and once each, whose rows must be computed."""
        return [n for n in dict.fromkeys(numbers) if int(self.rows["key"][n]) != self._digest(n)]

    def put(self, numbers: Sequence[int], rows: np.ndarray) -> None:
        """Keep the rows (n, *shape) of samples `numbers`."""
        for number, row in zip(numbers, rows, strict=True):
            self.rows["row"][number] = row
            self.rows["key"][number] = self._digest(number)  # last: a row is there whole or not at all

    def get(self, numbers: Sequence[int]) -> np.ndarray:
        """The rows (len(numbers), *shape) of samples `numbers`, which must be there."""
        return np.array(self.rows["row"][list(numbers)])

    def check(self, compute: Callable[[list[int]], np.ndarray], name: Callable[[int], str], most: int = 3) -> None:
        """Compute up to `most` rows that are there once more; `InputError` if one is not what it was."""
        there = np.flatnonzero(self.rows["key"]) if self.path.exists() else []
        numbers = [int(n) for n in there[:: max(1, len(there) // most)]][:most]
        numbers = [n for n in numbers if not self.absent([n])]
        if not numbers:
            return
        for number, kept, fresh in zip(numbers, self.get(numbers), compute(numbers), strict=True):
            require_same(kept, fresh, self.path, name(number))

    def _digest(self, number: int) -> int:
        digest = hashlib.blake2b(self.key(number).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") | 1  # never 0


def require_same(kept: np.ndarray, fresh: np.ndarray, path: Path, name: str) -> None:
    """`InputError` if what `path` holds for `name` is not what is computed now, but for rounding."""
    kept, fresh = kept.astype(np.float32), fresh.astype(np.float32)
    if kept.shape != fresh.shape or float(np.abs(kept - fresh).mean()) > 0.1 * float(fresh.std()) + 1e-3:
        raise InputError(f"{path} holds something else for {name} than is computed now: remove it")


def weights_digest(networks: Iterable[nn.Module]) -> hashlib._Hash:
    """A digest of the parameters of `networks`, to go on with settings."""
    digest = hashlib.sha256()
    for network in networks:
        for p in network.parameters():
            digest.update(p.detach().float().cpu().numpy().tobytes())
    return digest
