"""Small networks on tensors in memory: what claims have in common that train their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.conditioning.conditioning import Conditioning
from darkroom.data.order import Order
from darkroom.data.picturebook import Scene, render, sample_scene
from darkroom.diffusion.draws import RowDraws, sample_seed
from darkroom.diffusion.guidance import classifier_free
from darkroom.diffusion.objective import DiffusionLossConfig, diffusion_loss
from darkroom.diffusion.process import DiffusionProcess
from darkroom.diffusion.samplers import SAMPLERS
from darkroom.diffusion.sigma_schedules import spaced
from darkroom.evaluation.drawn import look_at
from darkroom.evaluation.judging import load_judge
from darkroom.evaluation.metric import Measured, mean_of
from darkroom.evaluation.replications.shipped import rows
from darkroom.models.unet import UNet, UNetConfig
from darkroom.noise_schedule import NoiseSchedule
from darkroom.pixels import to_bytes, to_tensor
from darkroom.training.config import LoopConfig
from darkroom.training.ema import EMA, warmed
from darkroom.training.loop import row_draws
from darkroom.training.optimizers import Optimizers
from darkroom.training.world import World
from darkroom.types import Denoise, Size

__all__ = [
    "PROCESS",
    "Group",
    "drawn",
    "features_of",
    "learn",
    "learned_denoiser",
    "loop",
    "narrow_unet",
    "painted",
    "point",
    "scenes",
    "sharpness",
    "shown",
    "tiles",
]

STREAM = 9_000_011  # of scenes that claims train on and measure with
PROCESS = DiffusionProcess(NoiseSchedule("scaled_linear", 0.00085, 0.012, zero_terminal_snr=True), "v")
NOTHING = Conditioning()  # is told to a denoiser without conditions
SEEN_SIDE = 64  # pixels that the judge is shown at least along the shorter side
BATCH = 50  # pictures drawn at once


def scenes(seed: int, count: int, *, first: int = 0, aspect: float = 1.0, most: int = 1) -> list[Scene]:
    """`count` scenes from number `first` on: others than those of another number."""
    numbers = range(first, first + count)
    return [sample_scene(np.random.default_rng((seed, STREAM, i)), aspect, most=most, split="any") for i in numbers]


def painted(found: Sequence[Scene], width: int, height: int) -> Tensor:
    """Pictures (N, 3, height, width) in [−1, 1]."""
    return to_tensor(np.stack([render(s, width, height) for s in found]))


def narrow_unet(
    latent: int, *, channels: int = 32, told: int = 0, vector: int = 0, tokens: int = 0, mult: tuple[int, ...] = (1, 2)
) -> UNetConfig:
    """A UNet of few channels for latents of `latent` channels beside `told` that it is given; `vector` and `tokens`
    are the widths of these slots, 0 for none."""
    last = len(mult) - 1
    return UNetConfig(
        in_channels=latent + told, out_channels=latent, model_channels=channels, channel_mult=mult, num_res_blocks=1,
        attention="transformer", depth=tuple(int(bool(tokens) and i == last) for i in range(len(mult))),
        mid_depth=int(bool(tokens)), heads=2, head_dim=None, context_dim=tokens or None,
        vector="linear" if vector else "none", vector_dim=vector, linear_projections=True,
    )  # fmt: skip


def loop(steps: int, seed: int, *, batch: int = 16, lr: float = 2e-3) -> LoopConfig:
    """The usual settings: Muon, a rate that falls to zero, a running mean over a few dozen steps."""
    return LoopConfig(
        steps=steps, batch_size=batch, lr=lr, warmup_steps=max(1, steps // 20), lr_schedule="cosine",
        optimizer="muon", betas=(0.9, 0.99), ema_decay=0.97, precision="fp32", seed=seed,
    )  # fmt: skip


def learn(
    network: nn.Module,
    loss: Callable[[Tensor, RowDraws], Tensor],
    sizes: Mapping[Size, Sequence[int]],
    config: LoopConfig,
) -> dict[str, Tensor]:
    """Train `network` in memory; at the end it holds the running means. Returns the weights behind them.

    `sizes`: the numbers of the rows that may share a batch. `loss` is asked for that of the rows numbered (B,).
    """
    order = Order(sizes, config.batch_size, config.seed)
    optimizers = Optimizers({"network": list(network.parameters())}, network, config)
    ema = EMA({"network": network}, warmed(config.ema_decay))
    network.train()
    for step in range(config.steps):
        places = order.batch(step)
        draws = row_draws([p.number for p in places], config, step)
        loss(torch.tensor([p.index for p in places]), draws).backward()
        optimizers.limit_gradients(World())
        optimizers.step(step)
        ema.update()
    live = {name: t.clone() for name, t in network.state_dict().items()}
    ema.put_in_place()
    network.eval()
    return live


@dataclass(frozen=True)
class Group:
    """Clean latents (N, C, h, w) of one size, and what the denoiser is told of each."""

    latents: Tensor
    told: Conditioning = NOTHING


def learned_denoiser(
    config: UNetConfig,
    groups: Sequence[Group],
    how: LoopConfig,
    *,
    drop: float = 0.0,
    loss: DiffusionLossConfig | None = None,
    begin: UNet | None = None,
) -> UNet:
    """A denoiser of `groups`, trained with `PROCESS`; each batch is of one group. What it is told is zeros for the
    share `drop` of rows. `begin`: weights to begin with, which stay as they are."""
    torch.manual_seed(how.seed)
    unet = UNet(config)
    if begin is not None:
        unet.load_state_dict(begin.state_dict())
    counts = [len(g.latents) for g in groups]
    starts = np.cumsum([0, *counts])
    sizes = {Size(1 + k, 1): range(starts[k], starts[k + 1]) for k in range(len(groups))}

    def of_rows(numbers: Tensor, draws: RowDraws) -> Tensor:
        k = int(np.searchsorted(starts, int(numbers[0]), side="right")) - 1
        own = numbers - int(starts[k])
        told = groups[k].told[own]
        if drop:
            told = _kept(told, draws.uniform() >= drop)
        z0 = groups[k].latents[own]
        return diffusion_loss(PROCESS, _network(unet, told), z0, loss or DiffusionLossConfig(), draws)[0].mean()

    learn(unet, of_rows, sizes, how)
    return unet


def _kept(told: Conditioning, rows: Tensor) -> Conditioning:
    """Zeros where `rows` (B,) is false."""

    def masked(t: Tensor | None) -> Tensor | None:
        return None if t is None else t * rows.view(-1, *[1] * (t.ndim - 1))

    return Conditioning(masked(told.tokens), masked(told.channels), masked(told.vector))


def _network(unet: UNet, told: Conditioning) -> Callable[[Tensor, Tensor], Tensor]:
    def network(x: Tensor, t: Tensor) -> Tensor:
        given = x if told.channels is None else torch.cat([x, told.channels], dim=1)
        return unet(given, t, told.tokens, told.vector)

    return network


@torch.no_grad()
def drawn(
    unet: UNet,
    shape: tuple[int, int, int, int],
    told: Conditioning = NOTHING,
    *,
    seed: int,
    steps: int = 12,
    guidance: float = 1.0,
    late: tuple[UNet, float] | None = None,
) -> Tensor:
    """Latents of `shape` (N, C, h, w), row i under row i of `told`, from noise of their own seeds, by DPM++ 2M.

    `late`: another denoiser, which takes over at its level of noise and below.
    """
    sigmas = spaced("trailing", PROCESS, steps)
    found = []
    for start in range(0, shape[0], BATCH):
        numbers = range(start, min(start + BATCH, shape[0]))
        own = told[slice(numbers.start, numbers.stop)]
        denoise = _denoiser(unet, own, guidance)
        if late is not None:
            denoise = _handed_over(denoise, _denoiser(late[0], own, guidance), late[1])
        x = RowDraws([sample_seed(seed, i) for i in numbers]).normal(*shape[1:]) * sigmas[0]
        for step in SAMPLERS["DPM++ 2M"](denoise, x, sigmas, _no_noise):
            x = step.x
        found.append(x)
    return torch.cat(found)


def _denoiser(unet: UNet, told: Conditioning, guidance: float) -> Denoise:
    cond = PROCESS.denoiser(_network(unet, told))
    if guidance == 1:
        return cond
    uncond = PROCESS.denoiser(_network(unet, _kept(told, torch.zeros(told.batch))))
    return lambda x, sigma: classifier_free(cond(x, sigma), uncond(x, sigma), guidance)


def _handed_over(early: Denoise, late: Denoise, level: float) -> Denoise:
    return lambda x, sigma: (late if float(sigma) <= level else early)(x, sigma)


def _no_noise(sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """DPM++ 2M draws none."""
    return torch.zeros(())


def features_of(pictures: Tensor) -> np.ndarray:
    """The judge's features (N, D) of pictures (N, 3, H, W), small ones enlarged."""
    scale = max(1.0, SEEN_SIDE / min(pictures.shape[2:]))
    enlarged = F.interpolate(pictures, scale_factor=scale, mode="bicubic") if scale > 1 else pictures
    return rows(look_at(load_judge(), to_bytes(enlarged)))


def sharpness(pictures: Tensor) -> np.ndarray:
    """Mean absolute difference of neighbors in each of (N, 3, H, W): (N,)."""
    across, down = pictures.diff(dim=3).abs(), pictures.diff(dim=2).abs()
    return (across.mean(dim=(1, 2, 3)) + down.mean(dim=(1, 2, 3))).numpy()


def tiles(pictures: Tensor, side: int = 64) -> Sequence[np.ndarray]:
    """Pictures (N, 3, H, W) as bytes, enlarged to be looked at."""
    return to_bytes(F.interpolate(pictures, scale_factor=max(1.0, side / pictures.shape[2]), mode="nearest"))


def point(measured: Measured) -> tuple[float, tuple[float, float] | None]:
    """For a plot."""
    return measured.value, measured.interval


def shown(measured: Measured | np.ndarray, unit: float = 1) -> str:
    """For a table: the value, or the mean of many, and half its interval."""
    m = measured if isinstance(measured, Measured) else mean_of(measured)
    reach = "" if m.interval is None else f" ± {unit * (m.interval[1] - m.interval[0]) / 2:.2g}"
    return f"{unit * m.value:.3g}{reach}"
