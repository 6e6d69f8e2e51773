"""Steps on a device: nothing is read back, for which the processor would wait, and nothing of two devices meets.

The device "meta" stands for every other than the CPU: it holds no values that could be read, and mixes as little.
"""

import pytest
import torch
from torch import Tensor

from darkroom.diffusion import guidance as g
from darkroom.diffusion.process import DiffusionProcess
from darkroom.diffusion.samplers import SAMPLERS
from darkroom.noise_schedule import NoiseSchedule
from darkroom.types import Denoise

PROCESS = DiffusionProcess(NoiseSchedule("scaled_linear", 0.00085, 0.012), "v")
X = torch.empty(2, 4, 8, 8, device="meta")


def denoiser() -> Denoise:
    return PROCESS.denoiser(lambda x, t: x * 0.5 * t.view(-1, 1, 1, 1))


def noise(sigma: Tensor, following: Tensor) -> Tensor:
    return torch.empty_like(X)


class Guided:
    def __init__(self) -> None:
        self.denoise = denoiser()

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.denoise(x, sigma)

    def both(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return self.denoise(x, sigma), 0.5 * x


@pytest.mark.parametrize("name", [n for n in SAMPLERS if n != "DPM adaptive"])  # that one must read its error
def test_samplers(name: str) -> None:
    sigmas = torch.cat([torch.linspace(10, 0.1, 21, dtype=torch.float64), torch.zeros(1)])
    steps = list(SAMPLERS[name](Guided(), X, sigmas, noise))
    assert {(step.x.device.type, step.x.shape) for step in steps} == {("meta", X.shape)}


def test_guidance() -> None:
    sigma = torch.tensor(3.0, dtype=torch.float64)
    cond, uncond = denoiser()(X, sigma), 0.5 * X
    guided = g.classifier_free(cond, uncond, 5.0)
    guided = g.rescaled(guided, cond, X, sigma, 0.7)
    guided = g.dynamic_threshold(guided, 0.99, like=cond)
    guided = g.composed(uncond, [(guided, 1.0)])
    assert guided.device == X.device
    assert g.AdaptiveProjected()(cond, uncond, 4.0).device == X.device
    assert g.known_region(denoiser(), X, X[:, :1], X)(X, sigma).device == X.device
