"""Work of training: one step of a UNet on latents in memory, from drawing noise to the running mean of the weights."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from benchmarks.measure import counted, timed
from benchmarks.networks import pair
from benchmarks.work import BASE, Contest, Settings, Work
from darkroom.diffusion.objective import DiffusionLossConfig, diffusion_loss
from darkroom.diffusion.process import DiffusionProcess
from darkroom.errors import InputError
from darkroom.systems.system import SYSTEMS, System
from darkroom.training.config import LoopConfig

# The loop's inner step, without its files and pictures.
from darkroom.training.loop import TrainingState, training_step
from darkroom.training.objective import Loss

__all__ = ["SMALL", "train"]

SD1 = SYSTEMS["sd-v1-5"]
# 108 million parameters: Stable Diffusion 1 with half of its channels and three levels.
SMALL = replace(
    SD1, unet=replace(SD1.unet, model_channels=160, channel_mult=(1, 2, 3), depth=(1, 1, 1), num_res_blocks=2)
)


class LatentsInMemory:
    """The plain objective of diffusion, always on the same batch: latents (B, C, h, w) and tokens (B, L, D)."""

    ema: tuple[str, ...] = ("unet",)

    def __init__(self, system: System, unet: nn.Module, latents: Tensor, tokens: Tensor) -> None:
        self.networks = nn.ModuleDict({"unet": unet})
        self.process = DiffusionProcess(system.schedule, system.prediction)
        self.latents, self.tokens = latents, tokens

    def optimisers(self) -> dict[str, list[nn.Parameter]]:
        return {"diffusion": list(self.networks.parameters())}

    def batch(self, index: int, size: int) -> tuple[Tensor, Tensor]:
        return self.latents, self.tokens

    def losses(self, batch: tuple[Tensor, Tensor], step: int, generator: Generator) -> Iterator[Loss]:
        latents, tokens = batch
        unet = self.networks["unet"]
        loss, _ = diffusion_loss(
            self.process, lambda x, t: unet(x, t, tokens), latents, DiffusionLossConfig(), generator
        )
        yield Loss("diffusion", loss.mean(), {})

    def pictures(self, generator: Generator) -> None:
        """None are drawn."""

    def export(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Nothing is kept."""


def train(system: System, side: int, batch_size: int) -> Work:
    """Forward, backward, clipping, AdamW and running mean, by our loop and by plain PyTorch around the peer's network.

    Compared are the loss and the norm of the gradients of the first step.
    """

    def prepare(settings: Settings) -> Contest:
        if settings.dtype == torch.float16:
            raise InputError("training computes in bf16 or fp32, wanted is fp16")
        half, device = settings.dtype == torch.bfloat16, settings.device
        nets, g = pair(system, "unet", torch.float32, device), Generator().manual_seed(1)
        latents = torch.randn(batch_size, system.unet.in_channels, side, side, generator=g).to(device)
        tokens = torch.randn(batch_size, 77, system.unet.context_dim or 0, generator=g).to(device)
        config = LoopConfig(
            steps=10**6,
            batch_size=batch_size,
            learning_rate=1e-4,
            weight_decay=0.01,
            precision="bf16" if half else "fp32",
            device=str(device),
        )

        def plain(*, half: bool, compiled: bool = False) -> Callable[[], Tensor]:
            unet = copy.deepcopy(nets.peer).train().requires_grad_(True)
            return peer_step(unet, system, latents, tokens, config, half=half, compiled=compiled)

        exact, flop = counted(plain(half=False))
        unet = copy.deepcopy(nets.ours).requires_grad_(True)
        unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as the loop does
        runs = {"darkroom": our_step(LatentsInMemory(system, unet, latents, tokens), config), BASE: plain(half=half)}
        if settings.compiled:
            runs["diffusers compiled"] = plain(half=half, compiled=True)
        return Contest({name: timed(run) for name, run in runs.items()}, exact, flop)

    c = system.unet
    shape = f"{c.in_channels} × {side} × {side}"
    return Work(f"training step, {c.model_channels} channels at {shape}, batch of {batch_size}", prepare)


def our_step(objective: LatentsInMemory, config: LoopConfig) -> Callable[[], Tensor]:
    """A step of the loop: the loss and the norm of the gradients."""
    state = TrainingState(objective, config)

    def run() -> Tensor:
        numbers = training_step(objective, state, config)
        state.step += 1
        return torch.tensor([numbers["loss/diffusion"], numbers["gradient/diffusion"]])

    return run


def peer_step(
    unet: Any, system: System, latents: Tensor, tokens: Tensor, config: LoopConfig, *, half: bool, compiled: bool
) -> Callable[[], Tensor]:
    """The same around the peer's network, with the peer's schedule and running mean, on the same noise."""
    diffusers, tools = (importlib.import_module(name) for name in ("diffusers", "diffusers.training_utils"))
    s, parameters = system.schedule, list(unet.parameters())
    scheduler = diffusers.DDPMScheduler(s.steps, s.beta_start, s.beta_end, s.kind)
    optimiser = torch.optim.AdamW(
        parameters, config.learning_rate, config.betas, weight_decay=config.weight_decay, fused=True
    )
    ema = tools.EMAModel(parameters, config.ema_decay, foreach=True)
    call = torch.compile(unet) if compiled else unet
    assert config.clip is not None, "gradients are clipped"
    clip, device, step = config.clip, latents.device, 0

    def run() -> Tensor:
        nonlocal step
        g = Generator().manual_seed(step)  # as the loop draws
        t = torch.randint(0, s.steps, (len(latents),), generator=g).to(device)
        noise = torch.randn(latents.shape, generator=g).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            output = call(scheduler.add_noise(latents, noise, t), t, tokens).sample
            loss = F.mse_loss(output.float(), noise)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, clip)
        optimiser.step()
        optimiser.zero_grad()
        ema.step(parameters)
        step += 1
        return torch.stack([loss.detach(), norm.detach()]).cpu()

    return run
