"""The pieces of work: a network, its input, and how each side is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.networks import Pair, pair
from darkroom.conditioning.clip_text import ClipTextEmbedderConfig
from darkroom.conditioning.size import NumbersConfig
from darkroom.nn.embeddings import sinusoid
from darkroom.registry import Registry
from darkroom.systems.system import SYSTEMS, System

__all__ = ["WORKS", "Ready", "Work"]


Call = Callable[..., Tensor]  # of a network and the inputs


@dataclass(frozen=True)
class Ready:
    """Networks, their input in float32, and how each side is called with both."""

    networks: Pair
    inputs: tuple[Tensor, ...]
    ours: Call
    peer: Call

    def inputs_in(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Timesteps and whole numbers stay as they are."""
        return tuple(i.to(dtype) if i.dim() > 1 and i.is_floating_point() else i for i in self.inputs)


@dataclass(frozen=True)
class Work:
    title: str
    prepare: Callable[[torch.dtype, torch.device], Ready]


WORKS: Registry[Work] = Registry("work")


def step(system: System, side: int) -> Work:
    """One guided step: the network on both halves of a batch of two."""

    def prepare(dtype: torch.dtype, device: torch.device) -> Ready:
        g, c = torch.Generator().manual_seed(1), system.unet
        x = torch.randn(2, c.in_channels, side // 8, side // 8, generator=g).to(device)
        t = torch.tensor([500.0, 500.0], device=device)
        tokens = torch.randn(2, 77, c.context_dim or 0, generator=g).to(device)
        inputs = [x, t, tokens]
        sizes = [e for e in system.embedders if isinstance(e, NumbersConfig)]
        if sizes:
            pooled = torch.randn(2, c.vector_dim - 6 * sizes[0].width, generator=g).to(device)
            inputs += [pooled, torch.tensor([[side, side, 0, 0, side, side]] * 2, device=device)]

        def ours(net: nn.Module, x: Tensor, t: Tensor, tokens: Tensor, *rest: Tensor) -> Tensor:
            if not rest:
                return net(x, t, tokens)
            pooled, numbers = rest
            return net(x, t, tokens, torch.cat([pooled, sinusoid(numbers, sizes[0].width).flatten(1)], dim=1))

        def peer(net: nn.Module, x: Tensor, t: Tensor, tokens: Tensor, *rest: Tensor) -> Tensor:
            extra = {"text_embeds": rest[0], "time_ids": rest[1]} if rest else None
            return net(x, t, tokens, added_cond_kwargs=extra).sample

        return Ready(pair(system, "unet", dtype, device), tuple(inputs), ours, peer)

    return Work(f"guided step, {system.title}, {side} px", prepare)


def decode(system: System, side: int) -> Work:
    def prepare(dtype: torch.dtype, device: torch.device) -> Ready:
        z = torch.randn(1, system.autoencoder.latent_channels, side // 8, side // 8).to(device)
        return Ready(
            pair(system, "vae", dtype, device),
            (z,),
            lambda net, z: net.decode(z),
            lambda net, z: net.decode(z).sample,
        )

    return Work(f"decode, {side} px", prepare)


def encode(system: System, side: int) -> Work:
    def prepare(dtype: torch.dtype, device: torch.device) -> Ready:
        images = (torch.rand(1, 3, side, side) * 2 - 1).to(device)
        return Ready(
            pair(system, "vae", dtype, device),
            (images,),
            lambda net, images: net.encode(images),
            lambda net, images: net.encode(images).latent_dist.mode(),
        )

    return Work(f"encode, {side} px", prepare)


def text(system: System, component: str) -> Work:
    """The last layer's features of two prompts of full length."""

    def prepare(dtype: torch.dtype, device: torch.device) -> Ready:
        towers = next(e for e in system.embedders if isinstance(e, ClipTextEmbedderConfig)).towers
        smallest = min(t.tower.vocabulary for t in towers)
        tokens = torch.randint(0, smallest, (2, towers[0].tower.length)).to(device)
        return Ready(
            pair(system, component, dtype, device),
            (tokens,),
            lambda net, tokens: net(tokens).tokens,
            lambda net, tokens: net(tokens).last_hidden_state,
        )

    return Work(f"text encoder, {system.title}, {component}", prepare)


for name, system, side in (
    ("step-sd1-512", "sd-v1-5", 512),
    ("step-sd2-768", "sd-v2-1-768-v", 768),
    ("step-sdxl-512", "sdxl-base", 512),
    ("step-sdxl-1024", "sdxl-base", 1024),
):
    WORKS.add(name, step(SYSTEMS[system], side))
for side in (512, 1024):
    WORKS.add(f"decode-{side}", decode(SYSTEMS["sd-v1-5"], side))
    WORKS.add(f"encode-{side}", encode(SYSTEMS["sd-v1-5"], side))
WORKS.add("text-sd1", text(SYSTEMS["sd-v1-5"], "text_encoder"))
WORKS.add("text-sd2", text(SYSTEMS["sd-v2-1-768-v"], "text_encoder"))
WORKS.add("text-sdxl", text(SYSTEMS["sdxl-base"], "text_encoder_2"))
