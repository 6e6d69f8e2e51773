"""Systems of the catalogue with all their parts and few channels, by name."""

from darkroom.systems import SYSTEMS, System
from darkroom.systems.narrow import WIDTH, narrowed

__all__ = ["WIDTH", "narrow"]


def narrow(name: str) -> System:
    return narrowed(SYSTEMS[name])
