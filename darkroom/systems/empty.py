"""Modules without storage, built without the time that random weights would take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["empty_modules"]


class _NoInit(TorchFunctionMode):
    """Functions of `torch.nn.init` give back their tensor untouched.

    On "meta" they have nothing to fill, yet `normal_` there imports torch's compiler, which takes seconds.
    """

    def __torch_function__(
        self, func: Any, types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


@contextmanager
def empty_modules() -> Iterator[None]:
    """Modules that are made in this block have shapes and no numbers; weights are to be assigned to them."""
    with torch.device("meta"), _NoInit():
        yield
