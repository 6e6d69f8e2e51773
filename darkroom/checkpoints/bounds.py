"""Bounds on what a description from outside may ask for: a few bytes can describe networks that never end."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from darkroom.errors import InputError, printable

__all__ = ["few_modules", "require_bounded"]

MAX_NUMBER = 1 << 20  # of channels, layers, codes, steps …; the widest of the catalogue has 50,000
MAX_LENGTH = 100_000  # of a text or a list; the longest of the catalogue is a vocabulary of some thousand words
MAX_MODULES = 10_000  # of a system; SDXL has 2,277


def require_bounded(value: object, where: str, key: str = "") -> None:
    """Raise `InputError` that begins with `where` and names the key of the first number in the configuration `value`
    that is not finite or out of all proportion, or of a text or list that is too long."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    elif isinstance(value, Mapping):
        items = [(str(name), item) for name, item in value.items()]
    elif isinstance(value, (list, tuple)):
        items = [(str(i), item) for i, item in enumerate(value)]
    else:
        items = []
    if isinstance(value, (str, list, tuple, Mapping)) and len(value) > MAX_LENGTH:
        raise InputError(f"{where}: {key} has {len(value)} parts, accepted are at most {MAX_LENGTH}")
    if isinstance(value, int) and abs(value) > MAX_NUMBER:
        raise InputError(f"{where}: {key} is {printable(value)}, accepted is at most {MAX_NUMBER}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{where}: {key} is {value}, expected is a finite number")
    for name, item in items:
        require_bounded(item, where, f"{key}.{name}".lstrip("."))


@contextmanager
def few_modules(where: str) -> Iterator[None]:
    """Raise `InputError` that begins with `where` once the networks that are built inside have too many parts."""
    count = 0

    def counted(parent: nn.Module, name: str, module: nn.Module | None) -> None:
        nonlocal count
        count += 1
        if count > MAX_MODULES:
            raise InputError(f"{where} describes networks of more than {MAX_MODULES} parts")

    handle = register_module_module_registration_hook(counted)
    try:
        yield
    finally:
        handle.remove()
