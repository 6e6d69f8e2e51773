"""Darkroom trains, distils, evaluates, runs and serves latent diffusion models.

    import darkroom

    picture = darkroom.load("picturebook").draw("a snowman with a green hat", seed=3)
    picture.save("snowman.png")

What is named here is imported when it is first used: PyTorch is not, before something needs it.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from darkroom.engine.engine import Engine
    from darkroom.errors import InputError
    from darkroom.library import Drawn, Model, load, sampler_names, schedule_names, system_names
    from darkroom.types import ControlUnit, Guidance, HighResolution, Region, Request, Size

__all__ = [
    "ControlUnit",
    "Drawn",
    "Engine",
    "Guidance",
    "HighResolution",
    "InputError",
    "Model",
    "Region",
    "Request",
    "Size",
    "load",
    "sampler_names",
    "schedule_names",
    "system_names",
]

__version__ = "0.1.0"

# Both are read when PyTorch starts; docs/performance.md has what they are worth. Large feature maps in huge pages cost
# a fraction of the page faults, and threads that wait for others sleep instead of keeping them from the processor.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

_HOMES = {
    **dict.fromkeys(("ControlUnit", "Guidance", "HighResolution", "Region", "Request", "Size"), "types"),
    **dict.fromkeys(("Drawn", "Model", "load", "sampler_names", "schedule_names", "system_names"), "library"),
    "InputError": "errors",
    "Engine": "engine.engine",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
