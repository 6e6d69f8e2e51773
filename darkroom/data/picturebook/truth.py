"""All that is known about a picture: maps, boxes, depth, relations, masks with what is behind them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import skia

from darkroom.data.picturebook.backdrop import draw_backdrop
from darkroom.data.picturebook.relations import OPPOSITE, relations, silhouette
from darkroom.data.picturebook.render import draw_sign, render
from darkroom.data.picturebook.scene import Scene
from darkroom.data.picturebook.things import KINDS

__all__ = ["SEMANTIC_CLASSES", "GroundTruth", "VisibleThing", "ground_truth"]

# Clouds, stars, sun and moon belong to the sky; hills and mountains are the background.
SEMANTIC_CLASSES: tuple[str, ...] = ("sky", "background", "ground", "sign", *KINDS)
SKY, BACKGROUND, GROUND, SIGN = range(4)

# Depth from 0, farthest, to 1, nearest: what stands on the ground is as near as the ground at its foot.
BACKGROUND_DEPTH, HORIZON_DEPTH, FLYING_DEPTH = 0.05, 0.1, 0.15


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
    relations: tuple[tuple[int, str, int], ...]  # (i, relation, j): thing i stands in it to thing j; both ways round

    def object_mask(self, index: int) -> np.ndarray:
        """bool (H, W): the pixels that thing `index` takes."""
        return self.instances == index + 1

    def image_without(self, index: int) -> np.ndarray:
        """uint8 (H, W, 3): the true picture behind thing `index`."""
        height, width = self.instances.shape
        return render(self.scene.without(index), width, height)

    def trace_mask(self, index: int) -> np.ndarray:
        """bool (H, W): every pixel that changes when thing `index` is taken away, its soft edge and shadow included."""
        height, width = self.instances.shape
        return (render(self.scene, width, height) != self.image_without(index)).any(axis=2)


def ground_truth(scene: Scene, width: int, height: int) -> GroundTruth:
    """The truth about `render(scene, width, height)`. Things are painted once more, alone, to see their outlines."""
    instances = np.zeros((height, width), np.int32)
    own = []
    for i, thing in enumerate(scene.things):
        mask = silhouette(thing, width, height)
        own.append(int(mask.sum()))
        instances[mask] = i + 1
    if scene.sign is not None:
        surface = skia.Surface(width, height)
        draw_sign(surface.getCanvas(), scene.sign, width, height)
        instances[_pixels(surface)[..., 3] > 127] = -1
    semantic = _backdrop_classes(scene, width, height)
    depth = _backdrop_depth(scene, semantic)
    nearness = _nearness(scene)
    seen = []
    for i, thing in enumerate(scene.things):
        mask = instances == i + 1
        semantic[mask] = SEMANTIC_CLASSES.index(thing.kind)
        depth[mask] = nearness[i]
        seen.append(VisibleThing(thing.kind, thing.colour, _box(mask), float(mask.sum() / max(1, own[i]))))
    semantic[instances == -1] = SIGN
    depth[instances == -1] = 1.0  # in front of everything
    found = []
    for i, a in enumerate(scene.things):
        for j, b in enumerate(scene.things[i + 1 :], start=i + 1):
            for relation in relations(a, b):
                found += [(i, relation, j), (j, OPPOSITE[relation], i)]
    return GroundTruth(scene, instances, semantic, depth, tuple(seen), tuple(found))


def _backdrop_classes(scene: Scene, width: int, height: int) -> np.ndarray:
    semantic = np.full((height, width), SKY, np.int32)
    if scene.background != "none":
        # Sky, sun and clouds are painted before the ridge with the same random numbers: what differs is the ridge.
        ridge = np.abs(_backdrop(scene, width, height, scene.background) - _backdrop(scene, width, height, "none"))
        semantic[np.logical_or.accumulate(ridge.max(axis=2) > 8, axis=0)] = BACKGROUND
    semantic[_level(scene, height) :] = GROUND
    return semantic


def _backdrop(scene: Scene, width: int, height: int, background: str) -> np.ndarray:
    surface = skia.Surface(width, height)
    draw_backdrop(
        surface.getCanvas(),
        width,
        height,
        sky=scene.sky,
        ground=scene.ground,
        background=background,
        clouds=scene.clouds,
        celestial=scene.celestial,
        level=scene.horizon,
        rng=np.random.default_rng(scene.seed),
    )
    return _pixels(surface)[..., :3].astype(np.int16)


def _backdrop_depth(scene: Scene, semantic: np.ndarray) -> np.ndarray:
    height = len(semantic)
    rows = (np.arange(height, dtype=np.float32) + 0.5) / height
    depth = np.where(semantic == BACKGROUND, np.float32(BACKGROUND_DEPTH), np.float32(0))
    ground = np.broadcast_to(_ground_depth(scene, rows)[:, None], semantic.shape)
    return np.where(semantic == GROUND, ground, depth).astype(np.float32)


def _ground_depth(scene: Scene, y: np.ndarray | float) -> np.ndarray:
    """Of the ground at height `y`, a share of the picture's height."""
    return HORIZON_DEPTH + (1 - HORIZON_DEPTH) * np.clip((y - scene.horizon) / (1 - scene.horizon), 0, 1)


def _nearness(scene: Scene) -> list[float]:
    """Depth of each thing; where two boxes meet, what is painted later is not farther."""
    found: list[float] = []
    for i, thing in enumerate(scene.things):
        foot = float(_ground_depth(scene, thing.box.bottom))
        behind = [d for d, other in zip(found, scene.things[:i]) if other.box.overlap(thing.box) > 0]
        found.append(max(foot, FLYING_DEPTH if thing.home == "sky" else 0.0, *behind))
    return found


def _level(scene: Scene, height: int) -> int:
    """First row of the ground."""
    return round(scene.horizon * height)


def _pixels(surface: skia.Surface) -> np.ndarray:
    """uint8 (H, W, 4), RGBA."""
    return surface.makeImageSnapshot().toarray(colorType=skia.kRGBA_8888_ColorType)


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return (0, 0, 0, 0)
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
