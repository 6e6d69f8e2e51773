"""The picture-book world: a procedural illustrator that draws storybook scenes and knows everything about them."""

from darkroom.data.picturebook.caption import Facts, Group, Relation, describe, vocabulary
from darkroom.data.picturebook.colours import COLOURS
from darkroom.data.picturebook.render import render
from darkroom.data.picturebook.scene import Scene, Thing, held_out_pairs, sample_scene
from darkroom.data.picturebook.things import KINDS

__all__ = [
    "COLOURS",
    "KINDS",
    "Facts",
    "Group",
    "Relation",
    "Scene",
    "Thing",
    "describe",
    "held_out_pairs",
    "render",
    "sample_scene",
    "vocabulary",
]
