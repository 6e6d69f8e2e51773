"""Small networks on tensors in memory: what claims have in common that train their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.conditioning.conditioning import Conditioning
from darkroom.data.order import Order
from darkroom.data.picturebook import Scene, render, sample_scene
from darkroom.diffusion.draws import RowDraws, sample_seed
from darkroom.diffusion.objective import DiffusionLossConfig, diffusion_loss
from darkroom.diffusion.process import DiffusionProcess
from darkroom.diffusion.samplers import SAMPLERS
from darkroom.diffusion.sigma_schedules import spaced
from darkroom.evaluation.drawn import look_at
from darkroom.evaluation.judging import load_judge
from darkroom.evaluation.metric import Measured, mean_of
from darkroom.evaluation.replications.claim import Verdict
from darkroom.evaluation.replications.shipped import rows
from darkroom.models.unet import UNet, UNetConfig
from darkroom.nn.precision import fast_half
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
    "Narrow",
    "NarrowDenoiser",
    "NarrowNetwork",
    "drawn",
    "enlarged",
    "features_of",
    "learn",
    "learn_together",
    "learned_denoiser",
    "loop",
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
NOISE = 1.5  # times as sharp as true pictures


def scenes(seed: int, count: int, *, first: int = 0, aspect: float = 1.0, most: int = 1) -> list[Scene]:
    """`count` scenes from number `first` on: others than those of another number."""
    numbers = range(first, first + count)
    return [sample_scene(np.random.default_rng((seed, STREAM, i)), aspect, most=most, split="any") for i in numbers]


def painted(found: Sequence[Scene], width: int, height: int) -> Tensor:
    """Pictures (N, 3, height, width) in [−1, 1]."""
    return to_tensor(np.stack([render(s, width, height) for s in found]))


@dataclass(frozen=True)
class Narrow:
    """A UNet of few channels for latents (N, `latent`, h, w) beside `told` channels that it is given; `vector` and
    `tokens` are the widths of these slots, 0 for none.

    It works on squares of `fold` × `fold` places as channels, which loses nothing and is cheaper. `width`: a multiple
    of 64, since the network normalizes 32 groups of channels: in groups of one the noise level and the vector, which
    are added to whole channels, would be lost.
    """

    latent: int = 3
    told: int = 0
    vector: int = 0
    tokens: int = 0
    fold: int = 2
    width: int = 64

    @property
    def places(self) -> int:
        """Channels of latents in squares."""
        return self.latent * self.fold**2

    @property
    def unet(self) -> UNetConfig:
        return UNetConfig(
            in_channels=self.places + self.told * self.fold**2,
            out_channels=self.places,
            model_channels=self.width,
            channel_mult=(1,),
            num_res_blocks=2,
            attention="transformer",
            depth=(int(bool(self.tokens)),),
            mid_depth=int(bool(self.tokens)),
            heads=2,
            head_dim=None,
            context_dim=self.tokens or None,
            vector="linear" if self.vector else "none",
            vector_dim=self.vector,
            linear_projections=True,
        )


class NarrowNetwork(nn.Module):
    """The network of a `Narrow`: latents (B, C, h, w), timesteps (B,) and what it is told, to as much in squares,
    (B, C · fold², h / fold, w / fold). In half precision where the processor is fast in it."""

    def __init__(self, config: Narrow) -> None:
        super().__init__()
        self.fold, self.unet = config.fold, UNet(config.unet)
        self.in_half = fast_half("cpu") is not None

    def forward(self, folded: Tensor, t: Tensor, told: Conditioning) -> Tensor:
        given = folded
        if told.channels is not None:
            given = torch.cat([given, F.pixel_unshuffle(told.channels, self.fold)], dim=1)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.in_half):
            return self.unet(given, t, told.tokens, told.vector).float()


class NarrowDenoiser(nn.Module):
    """Latents under noise (B, C, h, w), timesteps (B,) and what it is told, to v for `PROCESS`.

    It knows the mean and the covariance of the squares of clean latents, so that before any training it is the best
    denoiser of Gaussian squares of that covariance (Wiener's filter), and the network learns what that one lacks, in
    deviations of what is lacking: for each component what EDM's scalings (arXiv:2206.00364, table 1) are for a whole
    picture. A small network that has to learn to let noise pass as it is draws noise for long.
    """

    mean: Tensor  # (components,)
    basis: Tensor  # (components, components), a column each
    variances: Tensor  # (components,)

    def __init__(self, config: Narrow, clean: Sequence[Tensor]) -> None:
        """`clean`: latents (N, C, h, w) of any number of sizes."""
        super().__init__()
        self.fold, self.network = config.fold, NarrowNetwork(config)
        squares = torch.cat([F.pixel_unshuffle(x, config.fold).movedim(1, 3).flatten(0, 2) for x in clean]).double()
        mean = squares.mean(dim=0)
        variances, basis = torch.linalg.eigh((squares - mean).T @ (squares - mean) / len(squares))
        self.register_buffer("mean", mean.float())
        self.register_buffer("basis", basis.float())
        self.register_buffer("variances", variances.clamp(min=1e-5).float())

    def forward(self, x: Tensor, t: Tensor, told: Conditioning) -> Tensor:
        sigma = PROCESS.t_to_sigma(t).float()[:, None, None, None]  # (B, 1, 1, 1)
        signal = (1 + sigma.square()).rsqrt()
        noise = sigma * signal
        mean, variances = self.mean.view(1, 1, 1, -1), self.variances.view(1, 1, 1, -1)
        y = (F.pixel_unshuffle(x, self.fold).movedim(1, 3) - signal * mean) @ self.basis  # (B, h, w, components)
        total = signal.square() * variances + noise.square()
        lacking = self.network((y * total.rsqrt()).movedim(3, 1).contiguous(), t, told).movedim(1, 3)
        v = signal * noise * (1 - variances) / total * y - (variances / total).sqrt() * lacking
        return F.pixel_shuffle((v @ self.basis.T - noise * mean).movedim(3, 1), self.fold)


def loop(steps: int, seed: int, *, batch: int = 64, lr: float = 2e-3) -> LoopConfig:
    """The usual settings: a rate that falls to zero, a running mean over a few dozen steps."""
    return LoopConfig(
        steps=steps, batch_size=batch, lr=lr, warmup_steps=max(1, steps // 20), lr_schedule="cosine",
        betas=(0.9, 0.99), ema_decay=0.97, precision="fp32", seed=seed,
    )  # fmt: skip


def learn_together(
    networks: Mapping[str, nn.Module],
    losses: Callable[[Tensor, RowDraws], Iterator[Tensor]],
    sizes: Mapping[Size, Sequence[int]],
    config: LoopConfig,
) -> dict[str, dict[str, Tensor]]:
    """Train `networks` in memory, each with an optimizer of its name; at the end they hold the running means. Returns
    the weights behind them.

    `sizes`: the numbers of the rows that may share a batch. `losses` is asked for those of the rows numbered (B,); each
    is differentiated before the next is asked for.
    """
    together = nn.ModuleDict(networks)
    order = Order(sizes, config.batch_size, config.seed)
    optimizers = Optimizers({name: list(n.parameters()) for name, n in networks.items()}, together, config)
    ema = EMA(networks, warmed(config.ema_decay))
    together.train()
    for step in range(config.steps):
        places = order.batch(step)
        draws = row_draws([p.number for p in places], config, step)
        for loss in losses(torch.tensor([p.index for p in places]), draws):
            loss.backward()
        optimizers.limit_gradients(World())
        optimizers.step(step)
        ema.update()
    live = {name: {k: t.clone() for k, t in n.state_dict().items()} for name, n in networks.items()}
    ema.put_in_place()
    together.eval()
    return live


def learn(
    network: nn.Module,
    loss: Callable[[Tensor, RowDraws], Tensor],
    sizes: Mapping[Size, Sequence[int]],
    config: LoopConfig,
) -> dict[str, Tensor]:
    """One network and one loss, as `learn_together`."""
    return learn_together({"network": network}, lambda rows, draws: iter([loss(rows, draws)]), sizes, config)["network"]


@dataclass(frozen=True)
class Group:
    """Clean latents (N, C, h, w) of one size, and what the denoiser is told of each."""

    latents: Tensor
    told: Conditioning = NOTHING


def learned_denoiser(
    config: Narrow,
    groups: Sequence[Group],
    how: LoopConfig,
    *,
    loss: DiffusionLossConfig | None = None,
    begin: NarrowDenoiser | None = None,
) -> NarrowDenoiser:
    """A denoiser of `groups`, trained with `PROCESS`; each batch is of one group. `begin`: weights to begin with,
    which stay as they are."""
    torch.manual_seed(how.seed)
    network = NarrowDenoiser(config, [g.latents for g in groups])
    if begin is not None:
        network.load_state_dict(begin.state_dict())
    counts = [len(g.latents) for g in groups]
    starts = np.cumsum([0, *counts])
    sizes = {Size(1 + k, 1): range(starts[k], starts[k + 1]) for k in range(len(groups))}

    def of_rows(numbers: Tensor, draws: RowDraws) -> Tensor:
        k = int(np.searchsorted(starts, int(numbers[0]), side="right")) - 1
        own = numbers - int(starts[k])
        told, z0 = groups[k].told[own], groups[k].latents[own]
        settings = loss or DiffusionLossConfig()
        return diffusion_loss(PROCESS, lambda x, t: network(x, t, told), z0, settings, draws)[0].mean()

    learn(network, of_rows, sizes, how)
    return network


@torch.no_grad()
def drawn(
    network: NarrowDenoiser,
    shape: Sequence[int],
    told: Conditioning = NOTHING,
    *,
    seed: int,
    steps: int = 16,
    late: tuple[NarrowDenoiser, float] | None = None,
) -> Tensor:
    """Latents of `shape` (N, C, h, w), row i under row i of `told`, from noise of their own seeds, by DPM++ 2M.

    `late`: another denoiser, which takes over at its level of noise and below.
    """
    sigmas = spaced("trailing", PROCESS, steps)
    found = []
    for start in range(0, shape[0], BATCH):
        numbers = range(start, min(start + BATCH, shape[0]))
        own = told[slice(numbers.start, numbers.stop)]
        denoise = _denoiser(network, own)
        if late is not None:
            denoise = _handed_over(denoise, _denoiser(late[0], own), late[1])
        x = RowDraws([sample_seed(seed, i) for i in numbers]).normal(*shape[1:]) * sigmas[0]
        for step in SAMPLERS["DPM++ 2M"](denoise, x, sigmas, _no_noise):
            x = step.x
        found.append(x)
    return torch.cat(found)


def _denoiser(network: NarrowDenoiser, told: Conditioning) -> Denoise:
    return PROCESS.denoiser(lambda x, t: network(x, t, told))


def _handed_over(early: Denoise, late: Denoise, level: float) -> Denoise:
    return lambda x, sigma: (late if float(sigma) <= level else early)(x, sigma)


def _no_noise(sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """DPM++ 2M draws none."""
    return torch.zeros(())


def enlarged(pictures: Tensor) -> Tensor:
    """Pictures (N, 3, H, W) as large as the judge is to see them."""
    scale = SEEN_SIDE / min(pictures.shape[2:])
    return F.interpolate(pictures, scale_factor=scale, mode="bicubic") if scale > 1 else pictures


def features_of(pictures: Tensor) -> np.ndarray:
    """The judge's features (N, D) of pictures (N, 3, H, W), small ones enlarged."""
    return rows(look_at(load_judge(), to_bytes(enlarged(pictures))))


def sharpness(pictures: Tensor) -> np.ndarray:
    """Mean absolute difference of neighbors in each of (N, 3, H, W): (N,)."""
    across, down = pictures.diff(dim=3).abs(), pictures.diff(dim=2).abs()
    return (across.mean(dim=(1, 2, 3)) + down.mean(dim=(1, 2, 3))).numpy()


def decided(verdicts: Sequence[Verdict], true: Tensor, *drawn: Tensor) -> list[Verdict]:
    """`verdicts`, and none of them where some of what was `drawn` is still noise, which is far sharper than `true`
    pictures of its size: numbers of that tell how short the training was and nothing of the claim."""
    limit = NOISE * sharpness(true).mean()
    if all(sharpness(x.clamp(-1, 1)).mean() <= limit for x in drawn):
        return list(verdicts)
    return [Verdict(f"{v.said} (what is drawn is still noise)", None) for v in verdicts]


def tiles(pictures: Tensor, side: int = 64) -> list[np.ndarray]:
    """Pictures (N, 3, H, W) as bytes, enlarged to be looked at."""
    return list(to_bytes(F.interpolate(pictures, scale_factor=max(1.0, side / pictures.shape[2]), mode="nearest")))


def point(measured: Measured) -> tuple[float, tuple[float, float] | None]:
    """For a plot."""
    return measured.value, measured.interval


def shown(measured: Measured | np.ndarray, unit: float = 1) -> str:
    """For a table: the value, or the mean of many, and half its interval."""
    m = measured if isinstance(measured, Measured) else mean_of(measured)
    reach = "" if m.interval is None else f" ± {unit * (m.interval[1] - m.interval[0]) / 2:.2g}"
    return f"{unit * m.value:.3g}{reach}"
