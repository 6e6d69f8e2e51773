"""The colours of the picture-book world: eleven names that nobody mixes up."""

from __future__ import annotations

import colorsys

import numpy as np

from darkroom.data.picturebook.kind import RGB

__all__ = ["COLOURS", "ink", "mix", "shade", "vary"]

COLOURS: dict[str, RGB] = {
    "red": (0.86, 0.16, 0.15),
    "orange": (0.97, 0.54, 0.10),
    "yellow": (0.98, 0.84, 0.20),
    "green": (0.22, 0.62, 0.25),
    "blue": (0.16, 0.36, 0.82),
    "purple": (0.52, 0.22, 0.68),
    "pink": (0.97, 0.55, 0.72),
    "brown": (0.47, 0.28, 0.14),
    "black": (0.13, 0.13, 0.15),
    "white": (0.96, 0.96, 0.94),
    "grey": (0.55, 0.56, 0.58),
}


def vary(rgb: RGB, rng: np.random.Generator) -> RGB:
    """A neighbour of `rgb`: the same name, another pot of paint."""
    h, s, v = colorsys.rgb_to_hsv(*rgb)
    h = (h + rng.uniform(-0.012, 0.012)) % 1.0
    s = float(np.clip(s * rng.uniform(0.92, 1.06), 0, 1))
    v = float(np.clip(v * rng.uniform(0.94, 1.05), 0, 1))
    return colorsys.hsv_to_rgb(h, s, v)


def mix(a: RGB, b: RGB, share: float) -> RGB:
    """`share` of b in a."""
    return (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share)


def shade(rgb: RGB, amount: float) -> RGB:
    """Lighter for positive, darker for negative amounts, in −1 … 1."""
    return mix(rgb, (1.0, 1.0, 0.96), amount) if amount > 0 else mix(rgb, (0.08, 0.04, 0.10), -amount)


def ink(rgb: RGB) -> RGB:
    """The outline of a fill: its own hue, warm and dark."""
    return mix(rgb, (0.13, 0.07, 0.08), 0.72)
