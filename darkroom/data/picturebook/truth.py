"""All that is known about a picture: maps, boxes, depth, relations, masks with what is behind them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import skia

from darkroom.data.picturebook.render import draw_sign, draw_thing, render
from darkroom.data.picturebook.scene import Scene, relations
from darkroom.data.picturebook.things import KINDS

__all__ = ["SEMANTIC_CLASSES", "GroundTruth", "VisibleThing", "ground_truth"]

SEMANTIC_CLASSES: tuple[str, ...] = ("sky", "ground", "sign", *KINDS)


@dataclass(frozen=True)
class VisibleThing:
    kind: str
    colour: str
    box: tuple[int, int, int, int]  # top, left, bottom, right in pixels, of what can be seen; zeros if nothing can
    share: float  # of its own pixels, how many can be seen


@dataclass(frozen=True)
class GroundTruth:
    """For a rendering of `scene` at one size; maps are (H, W)."""

    scene: Scene
    instances: np.ndarray  # int32: 0 backdrop, i + 1 thing i, −1 the sign
    semantic: np.ndarray  # int32 index into SEMANTIC_CLASSES
    depth: np.ndarray  # float32 in 0 … 1, 1 nearest
    things: tuple[VisibleThing, ...]
    relations: tuple[tuple[int, str, int], ...]

    def object_mask(self, index: int) -> np.ndarray:
        """bool (H, W): the pixels that thing `index` takes, to be repainted."""
        return self.instances == index + 1

    def image_without(self, index: int) -> np.ndarray:
        """uint8 (H, W, 3): the true picture behind thing `index`."""
        height, width = self.instances.shape
        return render(self.scene.without(index), width, height)


def ground_truth(scene: Scene, width: int, height: int) -> GroundTruth:
    """The truth about `render(scene, width, height)`. Things are painted once more, alone, to see their outlines."""
    instances = np.zeros((height, width), np.int32)
    own = []
    for i, thing in enumerate(scene.things):
        surface = skia.Surface(width, height)
        draw_thing(surface.getCanvas(), thing, width, height)
        mask = _alpha(surface) > 127
        own.append(int(mask.sum()))
        instances[mask] = i + 1
    if scene.sign is not None:
        surface = skia.Surface(width, height)
        draw_sign(surface.getCanvas(), scene.sign, width, height)
        instances[_alpha(surface) > 127] = -1
    level = round(scene.horizon * height)
    semantic = np.zeros((height, width), np.int32)
    semantic[level:] = SEMANTIC_CLASSES.index("ground")
    rows = np.arange(height, dtype=np.float32)[:, None]
    # Flat ground: the sky is farthest, the lower edge nearest; a thing stands where its lower edge is.
    depth = np.broadcast_to(np.clip((rows - level) / max(1, height - level), 0, 1), (height, width)).copy()
    seen = []
    for i, thing in enumerate(scene.things):
        mask = instances == i + 1
        semantic[mask] = SEMANTIC_CLASSES.index(thing.kind)
        depth[mask] = (
            0.15 if thing.home == "sky" else np.clip((thing.box.bottom * height - level) / (height - level), 0, 1)
        )
        seen.append(VisibleThing(thing.kind, thing.colour, _box(mask), float(mask.sum() / max(1, own[i]))))
    semantic[instances == -1] = SEMANTIC_CLASSES.index("sign")
    depth[instances == -1] = 0.95
    found = tuple(
        (i, relation, j)
        for i, a in enumerate(scene.things)
        for j, b in enumerate(scene.things[i + 1 :], start=i + 1)
        for relation in relations(a, b)
    )
    return GroundTruth(scene, instances, semantic, depth, tuple(seen), found)


def _alpha(surface: skia.Surface) -> np.ndarray:
    return surface.makeImageSnapshot().toarray(colorType=skia.kRGBA_8888_ColorType)[..., 3]


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return (0, 0, 0, 0)
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
