"""Normal numbers as PyTorch draws them on a CUDA device, computed on the CPU.

Philox4x32-10 (Salmon et al. 2011) with one counter per element, then Box and Muller's transform in 32 bits as in
cuRAND. A device draws with as many threads as it has room for, and a thread's further numbers come from the same
counter; so the agreement holds for tensors of at most that many elements (over 200 thousand on large devices; an SDXL
latent of 1024² has 65,536), up to the last digits of the device's logarithm and sine.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["PhiloxGenerator", "philox"]

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (0x9E3779B9, 0xBB67AE85)  # added to the key after each round
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
TO_UNIT = np.float32(2.0**-32)


def philox(counter: np.ndarray, key: tuple[int, int], rounds: int = 10) -> np.ndarray:
    """Random words uint64 (4, n), below 2³², of the counters (4, n) under `key` (two 32-bit words)."""
    c0, c1, c2, c3 = (c.astype(np.uint64) for c in counter)
    k0, k1 = key
    for _ in range(rounds):
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ np.uint64(k0), p1 & LOW, (p0 >> HALF) ^ c3 ^ np.uint64(k1), p0 & LOW
        k0, k1 = (k0 + WEYL[0]) % 2**32, (k1 + WEYL[1]) % 2**32
    return np.stack([c0, c1, c2, c3])


class PhiloxGenerator:
    """The stream that `torch.Generator("cuda").manual_seed(seed)` gives; each draw moves the offset by one."""

    def __init__(self, seed: int) -> None:
        self.key = (seed % 2**32, (seed >> 32) % 2**32)
        self.offset = 0

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Unit normal float32 numbers of `shape`."""
        n = int(np.prod(shape))
        counter = np.zeros((4, n), dtype=np.uint64)
        counter[0], counter[2] = self.offset, np.arange(n)
        self.offset += 1
        words = philox(counter, self.key).astype(np.float32)
        u = words[0] * TO_UNIT + TO_UNIT / 2
        angle = words[1] * (TO_UNIT * np.float32(2 * np.pi)) + TO_UNIT * np.float32(np.pi)
        values = np.sqrt(-2 * np.log(u)) * np.sin(angle)
        return torch.from_numpy(values.astype(np.float32).reshape(tuple(shape)))
