"""Seed modes: the noise that other tools draw for a seed, one source of noise per mode.

Every mode draws a picture's noise from its own seed, so that a picture never depends on the batch it is in.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from darkroom.diffusion.brownian_path import BrownianNoise, BrownianTree, philox_normal
from darkroom.diffusion.noise import SeededNoise, moved
from darkroom.diffusion.philox import PhiloxGenerator
from darkroom.registry import Registry
from darkroom.types import NoiseSource

__all__ = ["PATHS", "SEED_MODES", "ComfyNoise", "PathMode", "PhiloxNoise", "SeedMode", "StartingNoise", "slerp"]


class StartingNoise(Protocol):
    """A source of noise that also draws the starting latents; `draw` comes before the first step."""

    def draw(self) -> Tensor: ...

    def __call__(self, sigma: Tensor, sigma_next: Tensor, /) -> Tensor: ...


class SeedMode(Protocol):
    """Makes the noise of pictures with these seeds.

    `step_delta` is A1111's "eta noise seed delta" (ENSD): when not 0, the noise of steps comes from seed + step_delta.
    """

    def __call__(
        self,
        seeds: Sequence[int],
        shape: Sequence[int],
        device: torch.device | str = ...,
        *,
        step_delta: int = ...,
    ) -> StartingNoise: ...


SEED_MODES: Registry[SeedMode] = Registry("seed mode")

# (seeds, shape, lowest level, highest level, device) to the noise of SDE samplers, by the name of the seed mode. Modes
# without an entry draw it as all other noise of steps.
PathMode = Callable[[Sequence[int], Sequence[int], float, float, torch.device | str], NoiseSource]
PATHS: dict[str, PathMode] = {}


class PhiloxNoise:
    """A1111 with its noise from the GPU, which is its default, or from its "NV" source."""

    def __init__(
        self,
        seeds: Sequence[int],
        shape: Sequence[int],
        device: torch.device | str = "cpu",
        *,
        step_delta: int = 0,
    ) -> None:
        self.generators = [PhiloxGenerator(seed) for seed in seeds]
        # Without a delta, steps draw on from where the starting latents ended.
        self.steps = [PhiloxGenerator(moved(seed, step_delta)) for seed in seeds] if step_delta else self.generators
        self.shape, self.device = tuple(shape), device

    def draw(self) -> Tensor:
        """float32 (B, *shape)."""
        return torch.stack([g.normal(self.shape) for g in self.generators]).to(self.device)

    def __call__(self, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        return torch.stack([g.normal(self.shape) for g in self.steps]).to(self.device)


class ComfyNoise:
    """ComfyUI: one seed draws the whole batch on the CPU; steps draw from seed + 1 on the CPU, or from seed on CUDA.

    A picture is row `row` of the batch of `rows` pictures that ComfyUI drew with its seed; of a batch of one unless
    told otherwise.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        shape: Sequence[int],
        device: torch.device | str = "cpu",
        *,
        row: int = 0,
        rows: int = 1,
        steps_on: str = "cuda",  # where ComfyUI ran: "cuda" or "cpu"
        step_delta: int = 0,
    ) -> None:
        self.starts = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.steps = [
            PhiloxGenerator(moved(seed, step_delta))
            if steps_on == "cuda"
            else torch.Generator().manual_seed(moved(seed, 1 + step_delta))
            for seed in seeds
        ]
        self.shape, self.device = (rows, *shape), device
        self.row = row

    def draw(self) -> Tensor:
        """float32 (B, *shape)."""
        return torch.stack([torch.randn(self.shape, generator=g)[self.row] for g in self.starts]).to(self.device)

    def __call__(self, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        batches = [
            g.normal(self.shape) if isinstance(g, PhiloxGenerator) else torch.randn(self.shape, generator=g)
            for g in self.steps
        ]
        return torch.stack([batch[self.row] for batch in batches]).to(self.device)


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """From noise a (share 0) to noise b (share 1) along the sphere, each picture (axis 0) for itself.

    Keeps the spread of the noise, which a straight line would not: variation seeds and interpolation.
    """
    u, v = a.flatten(1).double(), b.flatten(1).double()
    cosine = torch.nn.functional.cosine_similarity(u, v, dim=1).clamp(-1, 1)
    angle = cosine.acos()[:, None]
    # Nearly parallel: the line is the arc.
    straight = angle.sin() < 1e-6
    sine = torch.where(straight, torch.ones_like(angle), angle.sin())
    arc = (((1 - share) * angle).sin() * u + (share * angle).sin() * v) / sine
    return torch.where(straight, torch.lerp(u, v, share), arc).view_as(a).to(a)


# Diffusers, given a list of CPU generators, draws as this project does.
SEED_MODES.add("darkroom", SeededNoise)
SEED_MODES.add("diffusers", SeededNoise)
SEED_MODES.add("a1111", PhiloxNoise, "a1111_nv", "nv")
SEED_MODES.add("a1111_cpu", SeededNoise)
SEED_MODES.add("comfy", ComfyNoise, "comfyui")

PATHS["darkroom"] = BrownianNoise
PATHS["a1111"] = functools.partial(BrownianTree, normal=philox_normal)
PATHS["a1111_cpu"] = BrownianTree
PATHS["comfy"] = BrownianTree  # on the CPU also where the other noise of steps is the device's
