"""The catalogue of systems, as data, and the one function that builds them."""

from darkroom.systems import picturebook
from darkroom.systems.system import SYSTEMS, Defaults, System

__all__ = ["SYSTEMS", "Defaults", "System", "picturebook"]
