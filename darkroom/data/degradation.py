"""Small pictures for super-resolution, made from large ones: bicubic, or BSRGAN's chain of faults (arXiv:2103.14006).

"bsr_light" is the milder chain that latent diffusion's own super-resolution models were trained on (papers D.3).
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from darkroom.errors import require

__all__ = ["DegradationConfig", "degrade"]

HOWS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.BOX)


@dataclass(frozen=True)
class DegradationConfig:
    kind: Literal["bicubic", "bsr_light", "bsr"] = "bicubic"
    noise: tuple[float, float] | None = None  # of 255; 1 to 2, of "bsr" 2 to 25, when not given
    jpeg: tuple[int, int] | None = None  # quality; 80 to 95, of "bsr" 30 to 95, when not given

    def __post_init__(self) -> None:
        for name, least, most in (("noise", 0, 255), ("jpeg", 1, 100)):
            if (given := getattr(self, name)) is not None:
                fits = least <= given[0] <= given[1] <= most
                require(fits, name, list(given), f"two rising numbers from {least} to {most}")


@dataclass
class _Chain:
    """What one picture goes through; every fault takes float32 (h, w, 3) in 0 … 1 and gives the same."""

    factor: int
    noise: tuple[float, float]
    jpeg: tuple[int, int]
    light: bool
    final: tuple[int, int]  # width and height in the end
    rng: np.random.Generator

    def blur(self, x: np.ndarray) -> np.ndarray:
        spread = (4 + self.factor) / (4 if self.light else 1)
        rng = self.rng
        if rng.random() < 0.5:
            side = int(rng.integers(2, 3, endpoint=True)) if self.light else int(rng.integers(2, 11, endpoint=True))
            width = (spread * rng.uniform(0, 1)) ** 2
            return _filtered(x, _gaussian(2 * side + 1, (width, width), 0.0))
        side = int(rng.integers(2, 6 if self.light else 11, endpoint=True))
        widths = (spread * rng.uniform(0, 1), spread * rng.uniform(0, 1))
        return _filtered(x, _gaussian(2 * side + 1, widths, rng.uniform(0, math.pi)))

    def shrink_somehow(self, x: np.ndarray) -> np.ndarray:
        """By a random factor, or every f-th pixel of a blurred picture."""
        rng = self.rng
        if rng.random() < 0.8:
            by = rng.uniform(1, 2 * self.factor)
            return _resized(x, (round(x.shape[1] / by), round(x.shape[0] / by)), HOWS[int(rng.integers(3))])
        width = rng.uniform(0.1, 0.6 * self.factor) ** 2
        shift = (self.factor - 1) / 2  # the kept pixel stands for the middle of its block
        blurred = _filtered(x, _gaussian(25, (width, width), 0.0, shift))
        return blurred[:: self.factor, :: self.factor]

    def shrink(self, x: np.ndarray) -> np.ndarray:
        return _resized(x, self.final, HOWS[int(self.rng.integers(3))])

    def add_noise(self, x: np.ndarray) -> np.ndarray:
        """Colored, gray, or with colors that go together."""
        rng = self.rng
        level, kind = rng.uniform(*self.noise) / 255, rng.random()
        noise = rng.standard_normal(x.shape).astype(np.float32)
        if 0.4 <= kind < 0.8:
            noise = noise[..., :1]
        elif kind >= 0.8:
            mix = rng.standard_normal((3, 3)).astype(np.float32)
            noise = noise @ (mix / np.linalg.norm(mix, axis=0))
        return np.clip(x + level * noise, 0, 1)

    def compress(self, x: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        quality = int(self.rng.integers(self.jpeg[0], self.jpeg[1], endpoint=True))
        Image.fromarray(_bytes(x)).save(buffer, format="JPEG", quality=quality)
        return np.asarray(Image.open(buffer), np.float32) / 255

    def compress_often(self, x: np.ndarray) -> np.ndarray:
        return self.compress(x) if self.rng.random() < 0.9 else x


def degrade(image: np.ndarray, factor: int, config: DegradationConfig, rng: np.random.Generator) -> np.ndarray:
    """uint8 (H, W, 3) to uint8 (H / factor, W / factor, 3); sides are multiples of `factor`."""
    height, width = image.shape[0] // factor, image.shape[1] // factor
    if config.kind == "bicubic":
        return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
    light = config.kind == "bsr_light"
    noise = config.noise or ((1, 2) if light else (2, 25))
    jpeg = config.jpeg or ((80, 95) if light else (30, 95))
    x = image.astype(np.float32) / 255
    rest = factor
    if factor % 2 == 0 and factor > 2 and rng.random() < 0.25:
        x = _resized(x, (image.shape[1] // 2, image.shape[0] // 2), HOWS[int(rng.integers(3))])
        rest = factor // 2
    chain = _Chain(rest, noise, jpeg, light, (width, height), rng)
    shrinking = [chain.shrink_somehow, chain.shrink]  # stay in this order
    faults: list[Callable[[np.ndarray], np.ndarray]] = [chain.blur, *shrinking, chain.add_noise, chain.compress_often]
    faults += [] if light else [chain.blur]
    for i in rng.permutation(len(faults)):
        fault = faults[i]
        x = (shrinking.pop(0) if fault in (chain.shrink_somehow, chain.shrink) else fault)(x)
    return _bytes(chain.compress(x))


def _gaussian(side: int, variances: tuple[float, float], angle: float, shift: float = 0.0) -> np.ndarray:
    """(side, side), of sum 1: variances along two axes that are turned by `angle`, moved by `shift` pixels."""
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    inverse = turn @ np.diag(1 / np.maximum(variances, 1e-4)) @ turn.T
    at = np.arange(side) - (side - 1) / 2 - shift
    x, y = np.meshgrid(at, at)
    kernel = np.exp(-0.5 * (inverse[0, 0] * x * x + 2 * inverse[0, 1] * x * y + inverse[1, 1] * y * y))
    return kernel / kernel.sum()


def _filtered(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The correlation of (h, w, 3) with `kernel`, edges mirrored, by Fourier transforms."""
    before = kernel.shape[0] // 2
    padded = np.pad(x, ((before, before), (before, before), (0, 0)), mode="symmetric")
    shape = padded.shape[:2]
    spectrum = np.fft.rfft2(padded, axes=(0, 1)) * np.conj(np.fft.rfft2(kernel, shape))[..., None]
    return np.fft.irfft2(spectrum, shape, axes=(0, 1))[: x.shape[0], : x.shape[1]].astype(np.float32)


def _resized(x: np.ndarray, size: tuple[int, int], how: Image.Resampling) -> np.ndarray:
    to = (max(1, size[0]), max(1, size[1]))
    channels = [np.asarray(Image.fromarray(x[..., i]).resize(to, how)) for i in range(x.shape[2])]
    return np.clip(np.stack(channels, axis=-1), 0, 1)


def _bytes(x: np.ndarray) -> np.ndarray:
    return (np.clip(x, 0, 1) * 255).round().astype(np.uint8)
