"""Mean and covariance of a set's features in a file: `mu` and `sigma` in an .npz, as pytorch-fid and ADM write them.

Our own files add `count` and `network`, so that what cannot be compared is refused.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from darkroom.errors import InputError
from darkroom.evaluation.moments import Moments
from darkroom.whole_file import whole_file

__all__ = ["Statistics", "read_statistics", "write_statistics"]

# What NumPy raises at files that are something else or damaged.
UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, LookupError, TypeError, AttributeError)


@dataclass(frozen=True)
class Statistics:
    mean: np.ndarray  # (D,)
    covariance: np.ndarray  # (D, D)
    count: int | None  # of pictures; None: the file does not say
    network: str | None  # the identity of the network whose features they are; None: the file does not say


def read_statistics(path: Path) -> Statistics:
    """`InputError` for a file that holds anything else, or numbers that no set of features has."""
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {name: file[name] for name in ("mu", "sigma", "count", "network") if name in file}
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except UNREADABLE as error:
        raise InputError(f"{path} cannot be read as statistics (.npz with mu and sigma): {error}") from None
    if not {"mu", "sigma"} <= set(held):
        raise InputError(f"{path} holds {', '.join(held) or 'nothing'} of mu and sigma, expected are both")
    mean, covariance = held["mu"], held["sigma"]
    for name, array, shape in (("mu", mean, (mean.size,)), ("sigma", covariance, (mean.size, mean.size))):
        if array.dtype.kind != "f" or array.shape != shape or not array.size or not np.isfinite(array).all():
            raise InputError(
                f"{path}: {name} is {list(array.shape)} of {array.dtype}, expected are finite {list(shape)}"
            )
    mean, covariance = mean.astype(np.float64), covariance.astype(np.float64)
    if np.abs(covariance - covariance.T).max() > 1e-4 * np.abs(covariance).max() or (np.diag(covariance) < 0).any():
        raise InputError(f"{path}: sigma is no covariance, expected is a symmetric matrix without negative variances")
    count = int(held["count"]) if "count" in held else None
    return Statistics(mean, covariance, count, str(held["network"]) if "network" in held else None)


def write_statistics(path: Path, moments: Moments, network: str) -> None:
    """Written whole or not at all; `network` is the identity of the feature network."""
    covariance = moments.covariance
    with whole_file(path) as file:
        np.savez(file, mu=moments.mean, sigma=covariance, count=moments.count, network=network)
