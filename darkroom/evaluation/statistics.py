"""Mean and covariance of a set's features in a file: `mu` and `sigma` in an .npz, as pytorch-fid and ADM write them.

Our own files add `count` and `network`, so that what cannot be compared is refused.
"""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from darkroom.errors import InputError, cause
from darkroom.evaluation.moments import Moments
from darkroom.whole_file import whole_file

__all__ = ["Statistics", "read_statistics", "write_statistics"]

NAMES = ("mu", "sigma", "count", "network")
ROUNDING = 1e-4  # of the largest number
FEATURE = float(np.finfo(np.float32).max)  # the largest that a network gives
LARGEST = 4 << 30  # bytes of one array: a covariance of 20000 features
# What zip and NumPy raise at files that are something else or damaged.
UNREADABLE = (
    *(OSError, ValueError, EOFError, RuntimeError, LookupError, TypeError, SyntaxError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)  # NotImplementedError is a RuntimeError


@dataclass(frozen=True)
class Statistics:
    mean: np.ndarray  # (D,)
    covariance: np.ndarray  # (D, D)
    count: int | None  # of pictures; None: the file does not say
    network: str | None  # the identity of the network whose features they are; None: the file does not say


def read_statistics(path: Path) -> Statistics:
    """`InputError` for a file that holds anything else, or numbers that no set of features has."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {name.removesuffix(".npy"): name for name in archive.namelist()}
            held = {name: _array(archive, entries[name]) for name in NAMES if name in entries}
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except UNREADABLE as error:
        raise InputError(f"{path} cannot be read as statistics (.npz with mu and sigma): {cause(error)}") from None
    if not {"mu", "sigma"} <= set(held):
        raise InputError(f"{path} holds {', '.join(held) or 'nothing'} of mu and sigma, expected are both")
    mean, covariance = held["mu"], held["sigma"]
    if mean.ndim != 1 or not mean.size:
        raise InputError(f"{path}: mu is {list(mean.shape)} of {mean.dtype}, expected is one row of features")
    width = len(mean)
    for name, array, shape, most in (
        ("mu", mean, (width,), FEATURE),
        ("sigma", covariance, (width, width), FEATURE**2),
    ):
        if array.dtype.kind != "f" or array.shape != shape:
            raise InputError(
                f"{path}: {name} is {list(array.shape)} of {array.dtype}, expected is {list(shape)} of floating point"
            )
        if not np.isfinite(array).all():
            raise InputError(f"{path}: {name} holds NaN or infinity, expected are finite numbers")
        if (largest := float(np.abs(array).max())) > most:
            raise InputError(f"{path}: {name} holds {largest:.3g}, expected is at most {most:.3g} from any network")
    mean, covariance = mean.astype(np.float64), covariance.astype(np.float64)
    _require_covariance(covariance, path)
    count, network = held.get("count"), held.get("network")
    if count is not None and (count.shape != () or count.dtype.kind not in "iu" or count < 2):
        raise InputError(f"{path}: count is {count}, expected is a whole number of at least 2")
    named = None if network is None else _named(network, path)
    return Statistics(mean, covariance, None if count is None else int(count), named)


def _require_covariance(covariance: np.ndarray, path: Path) -> None:
    """`InputError` where no set of features has `covariance` (D, D); rounding to float32 is allowed."""
    if np.abs(covariance - covariance.T).max() > ROUNDING * np.abs(covariance).max():
        raise InputError(f"{path}: sigma is no covariance, expected is a symmetric matrix")
    variances = np.linalg.eigvalsh(covariance)
    if variances[0] < -ROUNDING * max(variances[-1], 0):
        raise InputError(
            f"{path}: sigma is no covariance, it has a variance of {variances[0]:.3g} in one direction; expected are "
            "none below 0"
        )


def _named(network: np.ndarray, path: Path) -> str:
    """The text in the array; NumPy takes any number for a character."""
    if network.shape == () and network.dtype.kind == "U":
        with suppress(SystemError, ValueError):
            return str(network)
    raise InputError(f"{path}: network is no text")


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """The array of the entry, once its header and its length agree: nothing larger is allocated."""
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{name} is of an unknown version of NumPy's format")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, in_columns, kind = read(file)
        length = math.prod(shape) * kind.itemsize
        if kind.hasobject or not 0 <= length <= LARGEST:
            raise ValueError(f"{name} is {list(shape)} of {kind}")
        content = file.read(length + 1)
    if len(content) != length:
        raise ValueError(f"{name} does not hold what it announces, {list(shape)} of {kind}")
    return np.frombuffer(content, kind).reshape(shape, order="F" if in_columns else "C")


def write_statistics(path: Path, moments: Moments, network: str) -> None:
    """Written whole or not at all; `network` is the identity of the feature network."""
    covariance = moments.covariance
    with whole_file(path) as file:
        np.savez(file, mu=moments.mean, sigma=covariance, count=moments.count, network=network)
