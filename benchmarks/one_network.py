"""Work of one network: a guided step, decoding, encoding, text encoding."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from benchmarks.measure import counted, timed
from benchmarks.networks import Pair, pair
from benchmarks.openvino import openvino
from benchmarks.work import BASE, Contest, Work
from darkroom.conditioning.clip_text import ClipTextEmbedderConfig
from darkroom.conditioning.size_and_crop import NumbersConfig
from darkroom.nn.embeddings import sinusoid
from darkroom.nn.layers import allow_minimal_filtering
from darkroom.systems.system import System

__all__ = ["Ready", "contest", "decode", "encode", "step", "text"]

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


def contest(ready: Ready, dtype: torch.dtype, *, compiled: bool = False) -> Contest:
    """All contenders on the networks and input of `ready`."""
    ours, peer, inputs = ready.networks.ours, ready.networks.peer, ready.inputs_in(dtype)
    with torch.inference_mode():
        exact, flop = _reference(ready)
    # As `tasks.model` loads it: not in inference mode, whose tensors keep no versions. The peer keeps its own layout.
    ours = copy.deepcopy(ours).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if dtype == torch.float32:
        allow_minimal_filtering(ours)
    found: dict[str, Callable[[], Tensor]] = {
        "darkroom": lambda: ready.ours(ours, *inputs),
        BASE: lambda: ready.peer(peer, *inputs),
    }
    if compiled:
        fast = torch.compile(copy.deepcopy(peer))
        found["diffusers compiled"] = lambda: ready.peer(fast, *inputs)
        with torch.inference_mode():
            found["diffusers compiled"]()  # compiling is no part of the first turn
    if find_spec("openvino") is not None and inputs[0].device.type == "cpu":
        module = _Called(copy.deepcopy(peer).float(), ready.peer)
        found["OpenVINO"] = openvino(module, ready.inputs, dtype)
    return Contest({name: timed(torch.inference_mode()(run)) for name, run in found.items()}, exact, flop)


def _reference(ready: Ready) -> tuple[Tensor, int]:
    """The exact answer and the operations that it takes; the copy in float32 is gone afterwards."""
    peer = copy.deepcopy(ready.networks.peer).float()
    return counted(lambda: ready.peer(peer, *ready.inputs))


class _Called(nn.Module):
    """A network as a module from inputs to output, for tracing."""

    def __init__(self, net: nn.Module, call: Call) -> None:
        super().__init__()
        self.net = net
        self.call = call

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.call(self.net, *inputs)


def _work(title: str, prepare: Callable[[torch.dtype, torch.device], Ready]) -> Work:
    return Work(title, lambda s: contest(prepare(s.dtype, s.device), s.dtype, compiled=s.compiled))


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

    return _work(f"guided step, {system.title}, {side} px", prepare)


def decode(system: System, side: int) -> Work:
    def prepare(dtype: torch.dtype, device: torch.device) -> Ready:
        z = torch.randn(1, system.autoencoder.latent_channels, side // 8, side // 8).to(device)
        return Ready(
            pair(system, "vae", dtype, device),
            (z,),
            lambda net, z: net.decode(z),
            lambda net, z: net.decode(z).sample,
        )

    return _work(f"decode, {side} px", prepare)


def encode(system: System, side: int) -> Work:
    def prepare(dtype: torch.dtype, device: torch.device) -> Ready:
        images = (torch.rand(1, 3, side, side) * 2 - 1).to(device)
        return Ready(
            pair(system, "vae", dtype, device),
            (images,),
            lambda net, images: net.encode(images),
            lambda net, images: net.encode(images).latent_dist.mode(),
        )

    return _work(f"encode, {side} px", prepare)


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

    return _work(f"text encoder, {system.title}, {component}", prepare)
