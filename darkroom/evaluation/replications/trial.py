"""One try of a claim, and the parts of it that outlive a process that is stopped."""

from __future__ import annotations

import hashlib
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from darkroom.registry import Registry
from darkroom.whole_file import made_folder, whole_file

__all__ = ["SCALES", "Scale", "Trial"]

Scale = Literal["tiny", "small", "full"]
SCALES: Registry[Scale] = Registry("scale")
SCALES.add("tiny", "tiny")
SCALES.add("small", "small")
SCALES.add("full", "full")


@dataclass
class Trial:
    """How large a claim is tried and with which seed; `parts`: a folder for what took long (None: nothing is kept)."""

    scale: Scale
    seed: int = 0
    parts: Path | None = None
    earlier: float = field(default=0.0, init=False)  # seconds of processor time that parts of former processes took

    def once(self, settings: object, make: Callable[[], Tensor]) -> Tensor:
        """What `make` gives, kept under `settings` (whose `repr` tells all that decides it), the scale and the seed."""
        key = hashlib.sha256(repr((self.scale, self.seed, settings)).encode()).hexdigest()[:40]
        place = None if self.parts is None else self.parts / f"{key}.npz"
        if place is not None and (found := _kept(place)) is not None:
            made, seconds = found
            self.earlier += seconds
            return made
        began = time.process_time()
        made = make()
        if place is not None:
            made_folder(place.parent)
            with whole_file(place) as file:
                np.savez(file, made=made.numpy(), seconds=time.process_time() - began)
        return made


def _kept(place: Path) -> tuple[Tensor, float] | None:
    """None for what is not there or damaged: it is made again then."""
    try:
        with np.load(place, allow_pickle=False) as file:
            return torch.from_numpy(file["made"]), float(file["seconds"])
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile):
        return None
