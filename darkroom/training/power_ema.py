"""Means of the weights of any length, rebuilt after the run (Karras et al. 2023, arXiv:2312.02696, section 3).

A mean with the weight τ^γ on the parameters of time τ is as long, relative to the training time t, as its weight's
standard deviation σ_rel. A run tracks a few lengths and keeps snapshots of them; any other length is their weighted sum
whose weight over time comes nearest to its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from darkroom.checkpoints.open_file import open_weights
from darkroom.checkpoints.safetensors_file import write_safetensors
from darkroom.checkpoints.stored import Weights
from darkroom.errors import InputError, require
from darkroom.training.config import LENGTHS
from darkroom.training.sharding import local, whole
from darkroom.training.world import World
from darkroom.whole_file import made_folder

__all__ = ["Rebuilt", "Snapshots", "exponent", "inner_products", "power_decay", "weights_for", "width"]


def width(gamma: float) -> float:
    """σ_rel of the exponent γ: the standard deviation of τ / t under the density (γ + 1) τ^γ (equation 123)."""
    return ((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))) ** 0.5


def exponent(length: float) -> float:
    """γ > 0 of which `length` is σ_rel: a root of (γ + 2)² (γ + 3) σ² = γ + 1. `InputError` for one out of reach."""
    require(LENGTHS[0] <= length <= LENGTHS[1], "length", length, f"a number from {LENGTHS[0]} to {LENGTHS[1]}")
    # With x = γ + 2: x³ + x² − x / σ² + 1 / σ² = 0.
    inverse = length**-2
    roots = np.roots([1.0, 1.0, -inverse, inverse])
    return float(max(roots[abs(roots.imag) < 1e-6].real)) - 2


def power_decay(gamma: float, update: int) -> float:
    """What stays of the mean at `update` (1-based): (1 − 1/t)^(γ + 1), by which the parameters of time τ weigh exactly
    ∫ (γ + 1) τ^γ / t^(γ + 1) from τ − 1 to τ (equation 127)."""
    return (1 - 1 / update) ** (gamma + 1)


def inner_products(
    times: Sequence[float], gammas: Sequence[float], others: Sequence[float], of: Sequence[float]
) -> np.ndarray:
    """(n, m) in float64: ∫ p q over time of the densities p at `times` with `gammas` and q at `others` with `of`."""
    t, g = np.asarray(times, np.float64)[:, None], np.asarray(gammas, np.float64)[:, None]
    u, h = np.asarray(others, np.float64)[None, :], np.asarray(of, np.float64)[None, :]
    # The density that ends later is cut where the other ends: its power there, relative to its own end.
    ratio = np.where(t < u, (t / u) ** h, (u / t) ** g)
    return (g + 1) * (h + 1) / (g + h + 1) * ratio / np.maximum(t, u)


def weights_for(times: Sequence[float], gammas: Sequence[float], time: float, gamma: float) -> tuple[np.ndarray, float]:
    """(n,): what each snapshot weighs in the mean at `time` with `gamma`, by least squares over densities; and how far
    their sum is from that mean's density, as a share of its norm.

    The weights sum to 1, so that parameters which never change stay as they are (the paper's need not, as its networks
    normalize theirs).
    """
    matrix = inner_products(times, gammas, times, gammas)
    target = inner_products(times, gammas, [time], [gamma])[:, 0]
    free, even = np.linalg.lstsq(matrix, np.stack([target, np.ones(len(times))], axis=1), rcond=1e-12)[0].T
    weights = free + (1 - free.sum()) / even.sum() * even
    own = float(inner_products([time], [gamma], [time], [gamma])[0, 0])
    square = weights @ matrix @ weights - 2 * weights @ target + own
    return weights, float(max(square, 0.0) / own) ** 0.5


@dataclass(frozen=True)
class Rebuilt:
    step: int
    means: Mapping[str, Tensor]  # by the parameter's name, float32
    error: float  # of the weight over time, as a share of its norm


class Snapshots:
    """The folder `ema` of a run: one file a step, with the tracked means in half precision."""

    def __init__(self, run: Path) -> None:
        self.folder = run / "ema"

    def steps(self) -> list[int]:
        return sorted(int(p.stem) for p in self.folder.glob("*.safetensors") if re.fullmatch(r"\d{8,}", p.stem))

    def write(self, step: int, means: Mapping[float, Mapping[str, Tensor]], world: World) -> None:
        """Keep `means`, by length and name, as those of `step`. All processes call it, the first one writes."""
        tensors = {}
        for number, found in enumerate(means.values()):
            for name, t in found.items():
                gathered = whole(t, local(t))
                if world.first:
                    tensors[f"{number}.{name}"] = _halved(gathered)
        world.decided(lambda: self._write(step, tensors, list(means)))

    def _write(self, step: int, tensors: Mapping[str, Tensor], lengths: list[float]) -> None:
        made_folder(self.folder)
        write_safetensors(self._path(step), tensors, {"lengths": json.dumps(lengths)})

    def forget_after(self, step: int) -> None:
        """Remove what a killed run will write again."""
        for later in self.steps():
            if later > step:
                self._path(later).unlink(missing_ok=True)

    def rebuilt(self, length: float, at: int | None = None) -> Rebuilt:
        """The means of `length` at step `at`, the last one when not given."""
        steps = self.steps()
        if not steps:
            raise InputError(f"{self.folder} holds no snapshots: a run keeps them with loop.ema_lengths")
        at = steps[-1] if at is None else at
        require(at in steps, "at", at, f"a step with a snapshot: {', '.join(map(str, steps[:20]))}")
        gamma, used = exponent(length), [step for step in steps if step <= at]
        files = [open_weights(self._path(step)) for step in used]
        lengths = [self._lengths(file) for file in files]
        times = [step for step, found in zip(used, lengths) for _ in found]
        gammas = [exponent(each) for found in lengths for each in found]
        found, error = weights_for(times, gammas, at, gamma)
        weights = iter(found.tolist())
        total: dict[str, Tensor] = {}
        for file, tracked in zip(files, lengths):
            shares = {str(number): next(weights) for number in range(len(tracked))}
            for key, stored in file.items():
                number, _, name = key.partition(".")
                t = stored.load()
                if t.is_floating_point():
                    sums = total.setdefault(name, torch.zeros(t.shape, dtype=torch.float64))
                    sums.add_(t.double(), alpha=shares[number])
                else:
                    total[name] = t.clone()  # counts are as they are at the end
        means = {name: t.float() if t.is_floating_point() else t for name, t in total.items()}
        return Rebuilt(at, means, error)

    def _path(self, step: int) -> Path:
        return self.folder / f"{step:08d}.safetensors"

    def _lengths(self, file: Weights) -> list[float]:
        try:
            return [float(length) for length in json.loads(file.metadata["lengths"])]
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
            raise InputError(f"{file.path} is no snapshot of running means: it does not name their lengths") from None


def _halved(tensor: Tensor) -> Tensor:
    """In half precision where that can hold it."""
    t = tensor.detach().cpu().contiguous()
    if t.is_floating_point() and bool((t.abs() < torch.finfo(torch.float16).max).all()):
        return t.half()
    return t
