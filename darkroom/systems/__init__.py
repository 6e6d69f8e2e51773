"""The catalogue of systems, as data, and the one function that builds them."""

from darkroom.systems import autoencoders, ldm, picturebook, sd1, sd2, sdxl  # each module adds its rows to the tables
from darkroom.systems.system import EMBEDDERS, FIRST_STAGES, SYSTEMS, Defaults, FirstStage, System

__all__ = [
    "EMBEDDERS",
    "FIRST_STAGES",
    "SYSTEMS",
    "Defaults",
    "FirstStage",
    "System",
    "autoencoders",
    "ldm",
    "picturebook",
    "sd1",
    "sd2",
    "sdxl",
]
