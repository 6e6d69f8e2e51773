"""Work of training: one step of a UNet on latents in memory, from drawing noise to the running mean of the weights."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from benchmarks.measure import counted, timed
from benchmarks.networks import pair
from benchmarks.work import BASE, Contest, Settings, Work
from darkroom.data.order import Place
from darkroom.data.reader import Reader
from darkroom.data.source import PictureBook, PictureBookConfig
from darkroom.diffusion.objective import DiffusionLossConfig, diffusion_loss
from darkroom.diffusion.process import DiffusionProcess
from darkroom.errors import InputError
from darkroom.systems.system import SYSTEMS, System
from darkroom.training.config import LoopConfig
from darkroom.training.feed import Piece

# The loop's inner step, without its files and pictures.
from darkroom.training.loop import row_draws, training_step
from darkroom.training.objective import Loss, StepContext
from darkroom.training.state import TrainingState
from darkroom.training.world import World

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
        self.trained, self.frozen = nn.ModuleDict({"unet": unet}), nn.ModuleDict()
        self.reader = Reader(PictureBook(PictureBookConfig(64, len(latents))), None, len(latents), 0)
        self.process = DiffusionProcess(system.schedule, system.prediction)
        self.latents, self.tokens = latents, tokens

    def optimizers(self) -> dict[str, list[nn.Parameter]]:
        return {"diffusion": list(self.trained.parameters())}

    def batch(self, places: Sequence[Place]) -> tuple[Tensor, Tensor]:
        return self.latents, self.tokens

    def losses(self, batch: tuple[Tensor, Tensor], context: StepContext) -> Iterator[Loss]:
        latents, tokens = batch
        unet = self.trained["unet"]
        loss, _ = diffusion_loss(
            self.process, lambda x, t: unet(x, t, tokens), latents, DiffusionLossConfig(), context.draws
        )
        yield Loss("diffusion", loss.mean(), {})

    def samples(self) -> None:
        """None are drawn."""

    def export(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        """Nothing is kept."""


def train(system: System, side: int, batch_size: int) -> Work:
    """Forward, backward, clipping, AdamW and running mean, by our loop and by plain PyTorch around the peer's network.

    Compared are the loss and the norm of the gradients of the first step.
    """

    def prepare(settings: Settings) -> Contest:
        if settings.dtype == torch.float16:
            raise InputError("training computes in bf16 or fp32, expected is fp16")
        half, device = settings.dtype == torch.bfloat16, settings.device
        nets, g = pair(system, "unet", torch.float32, device), Generator().manual_seed(1)
        latents = torch.randn(batch_size, system.unet.in_channels, side, side, generator=g).to(device)
        tokens = torch.randn(batch_size, 77, system.unet.context_dim or 0, generator=g).to(device)
        config = LoopConfig(
            steps=10**6,
            batch_size=batch_size,
            lr=1e-4,
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
        places = objective.reader.order.batch(state.step)
        piece = Piece(places, objective.batch(places), ())
        numbers = training_step(objective, state, config, [piece], World())
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
    optimiser = torch.optim.AdamW(parameters, config.lr, config.betas, weight_decay=config.weight_decay, fused=True)
    ema = tools.EMAModel(parameters, config.ema_decay, foreach=True)
    call = torch.compile(unet) if compiled else unet
    assert config.max_grad_norm is not None, "gradients are clipped"
    clip, device, step = config.max_grad_norm, latents.device, 0

    def run() -> Tensor:
        nonlocal step
        draws = row_draws(range(step * len(latents), (step + 1) * len(latents)), config, step)
        t = DiffusionLossConfig().timesteps(draws).to(device)
        noise = draws.normal(*latents.shape[1:]).to(device)
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
