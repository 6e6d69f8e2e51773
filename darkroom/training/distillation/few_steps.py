"""The student's side: the few noise levels at which it works, and what it is given and says there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from darkroom.diffusion.draws import RowDraws
from darkroom.diffusion.prediction import Prediction
from darkroom.diffusion.process import DiffusionProcess
from darkroom.systems.system import System
from darkroom.types import Network

__all__ = ["FewSteps", "few_step_system"]


def few_step_system(system: System, steps: int, *, from_pure_noise: bool = True, sampler: str = "Euler a") -> System:
    """`system` as its student is used: few steps of `sampler` on trailing times, no guidance.

    Trained from pure noise, a student that predicts v or x0 gets a schedule of zero terminal SNR. One that predicts
    noise keeps its own: at the last level it is given pure noise, and its estimate is read with the ordinary
    coefficients, as released models of this kind are sampled (papers F.1, step 3).
    """
    schedule = system.schedule
    if from_pure_noise and system.prediction is not Prediction.EPS:
        schedule = replace(schedule, zero_terminal_snr=True)
    defaults = replace(
        system.defaults, steps=steps, sampler=sampler, schedule="trailing", guidance_scale=1.0, guidance_interval=None
    )
    name = system.name if system.name.endswith("turbo") else f"{system.name}-turbo"
    return replace(system, name=name, title=f"{system.title}, in {steps} steps", schedule=schedule, defaults=defaults)


class FewSteps:
    """`times`: rising timesteps, the last one that of the process, where nothing of the picture is left.

    `shares`: how often each is drawn; equally where empty. Latents here are variance-exploding, z0 + sigma · noise.
    """

    def __init__(self, process: DiffusionProcess, times: Sequence[int], shares: Sequence[float] = ()) -> None:
        self.process = process
        self.times = torch.tensor(times)
        whole = torch.tensor(shares or [1.0] * len(times), dtype=torch.float64)
        self.bounds = (whole / whole.sum()).cumsum(0)[:-1]

    def draw(self, draws: RowDraws) -> Tensor:
        """(B,) of the times, each with its share of every step."""
        return self.times[torch.bucketize(draws.stratified().double(), self.bounds, right=True)]

    def noised(self, z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x (B, C, h, w) at times t (B,); at the last one noise alone."""
        sigma = self.sigma(t, z0)
        pure = (sigma.square() + 1).sqrt() * noise  # of the variance that the network's input scaling expects
        return torch.where(self.is_last(t, z0), pure, z0 + sigma * noise)

    def estimate(self, network: Network, x: Tensor, t: Tensor) -> Tensor:
        """The clean latents that `network` sees in x."""
        c_skip, c_out, c_in = self.process.scalings(self.sigma(t, x))
        output = network(c_in * x, t.to(x.device, torch.float32))
        return c_skip * x + c_out * output.to(x.dtype)

    @torch.no_grad()
    def simulated(self, network: Network, noise: Tensor, t: Tensor, draws: RowDraws) -> Tensor:
        """x at times t (B,) as sampling with `network` comes to it from pure noise (DMD2, arXiv:2405.14867, 4.5)."""
        level = torch.full_like(t, int(self.times[-1]))
        x = self.noised(torch.zeros_like(noise), noise, level)
        found = x
        for time in reversed(self.times[:-1].tolist()):
            if time < int(t.min()):
                break
            z0 = self.estimate(network, x, level)
            level = torch.full_like(t, time)
            x = self.noised(z0, draws.normal(*noise.shape[1:]).to(noise), level)
            found = torch.where((t <= time).view(-1, 1, 1, 1).to(noise.device), x, found)
        return found

    def sigma(self, t: Tensor, like: Tensor) -> Tensor:
        """(B, 1, 1, 1)."""
        return self.process.sigmas[t.cpu()].view(-1, 1, 1, 1).to(like)

    def is_last(self, t: Tensor, like: Tensor) -> Tensor:
        """(B, 1, 1, 1), bool."""
        return (t == self.times[-1]).view(-1, 1, 1, 1).to(like.device)
