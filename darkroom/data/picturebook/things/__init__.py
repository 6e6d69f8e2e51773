"""All kinds of things, by name."""

from __future__ import annotations

from darkroom.data.picturebook.kind import Kind
from darkroom.data.picturebook.things.animals import ANIMALS
from darkroom.data.picturebook.things.buildings import BUILDINGS
from darkroom.data.picturebook.things.objects import OBJECTS
from darkroom.data.picturebook.things.plants import PLANTS
from darkroom.data.picturebook.things.vehicles import VEHICLES
from darkroom.registry import Registry

__all__ = ["KINDS"]

KINDS: Registry[Kind] = Registry("kind of thing")
for _kind in (*BUILDINGS, *PLANTS, *ANIMALS, *VEHICLES, *OBJECTS):
    KINDS.add(_kind.name, _kind)
