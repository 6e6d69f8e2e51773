"""Whole trajectories beside Diffusers' schedulers, on a denoiser without symmetry."""

from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    KDPM2DiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    SASolverScheduler,
    TCDScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from darkroom.diffusion.noise import SeededNoise
from darkroom.diffusion.process import DiffusionProcess
from darkroom.diffusion.samplers import SAMPLERS, with_options
from darkroom.diffusion.seeds import PATHS
from darkroom.diffusion.sigma_schedules import spaced
from darkroom.noise_schedule import NoiseSchedule

PROCESS = DiffusionProcess(NoiseSchedule("scaled_linear", 0.00085, 0.012), "eps")
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
LEADING = {"timestep_spacing": "leading", "steps_offset": 1}
START = torch.linspace(-20, 20, 8).view(1, 2, 2, 2)
SHAPE = START.shape[1:]


def curved(x: Tensor, sigma: Tensor) -> Tensor:
    return torch.tanh(x / (1 + sigma)) + 0.1 * x / (1 + sigma**2)


def still(sigma: Tensor, following: Tensor) -> Tensor:
    return torch.zeros(1)


def level(t: Tensor) -> Tensor:
    return PROCESS.t_to_sigma(torch.as_tensor(t)).float()


@pytest.mark.parametrize(
    ("name", "options", "schedule", "peer"),
    [
        ("DDIM", {"eta": 0.7}, "leading", DDIMScheduler(**BETAS, **LEADING, clip_sample=False, set_alpha_to_one=True)),
        ("DDPM", {}, "leading", DDPMScheduler(**BETAS, **LEADING, clip_sample=False)),
        ("PLMS", {}, "leading", PNDMScheduler(**BETAS, **LEADING, skip_prk_steps=True, set_alpha_to_one=True)),
        ("LCM", {}, "lcm", LCMScheduler(**BETAS, original_inference_steps=50)),
        ("TCD", {"eta": 0.3, "end": float(PROCESS.sigmas[0])}, "lcm", TCDScheduler(**BETAS)),
    ],
)
def test_samplers_on_the_preserving_form(name: str, options: dict[str, object], schedule: str, peer: object) -> None:
    """Latents of unit variance, noise from equal generators; 1e-3, the peer's tables being 32 bits."""
    n = 8
    sigmas = spaced(schedule, PROCESS, n)
    peer.set_timesteps(n)  # type: ignore[attr-defined]
    z, generator = START / (1 + sigmas[0] ** 2).sqrt(), torch.Generator().manual_seed(4)
    takes_noise: dict[str, Any] = {"generator": generator} if name != "PLMS" else {}
    if "eta" in options:
        takes_noise["eta"] = options["eta"]
    for t in peer.timesteps:  # type: ignore[attr-defined]
        sigma = level(t)
        seen = z * (1 + sigma**2).sqrt()
        z = peer.step((seen - curved(seen, sigma)) / sigma, t, z, **takes_noise).prev_sample  # type: ignore[attr-defined]
    for step in with_options(name, options)(curved, START, sigmas, SeededNoise([4], SHAPE)):
        x = step.x
    assert torch.allclose(x, z, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("Euler a", EulerAncestralDiscreteScheduler(**BETAS)),
        ("DPM2", KDPM2DiscreteScheduler(**BETAS)),
        ("DPM2 a", KDPM2AncestralDiscreteScheduler(**BETAS)),
    ],
)
def test_samplers_on_the_exploding_form(name: str, peer: object) -> None:
    n = 9
    sigmas = spaced("linspace", PROCESS, n)
    peer.set_timesteps(n)  # type: ignore[attr-defined]
    z, generator = START, torch.Generator().manual_seed(4)
    noise = SeededNoise([4], SHAPE)
    middles = peer.sigmas_interpol if "DPM2" in name else None  # type: ignore[attr-defined]
    for i, t in enumerate(peer.timesteps):  # type: ignore[attr-defined]
        # The peer's own levels: every other evaluation of a two-stage step is in the middle.
        if middles is None:
            sigma = peer.sigmas[i]  # type: ignore[attr-defined]
        else:
            middle = middles[i - 1] if "a" in name else middles[i]
            sigma = peer.sigmas[i] if i % 2 == 0 else middle  # type: ignore[attr-defined]
        takes_noise = {} if name == "DPM2" else {"generator": generator}
        z = peer.step((z - curved(z, sigma)) / sigma, t, z, **takes_noise).prev_sample  # type: ignore[attr-defined]
    for step in SAMPLERS[name](curved, START, sigmas, noise):
        x = step.x
    assert torch.allclose(x, z, rtol=1e-3, atol=1e-3)


KARRAS = {"use_karras_sigmas": True, "final_sigmas_type": "zero"}
# The peer's bh1 cannot end in zero; its last step is left out.
BH1 = {"use_karras_sigmas": True, "final_sigmas_type": "sigma_min", "solver_type": "bh1"}
SDE = {"algorithm_type": "sde-dpmsolver++"}


@pytest.mark.parametrize(
    ("name", "options", "peer"),
    [
        ("DPM++ 2M", {}, DPMSolverMultistepScheduler(**BETAS, **KARRAS)),
        ("DPM++ 2M SDE", {}, DPMSolverMultistepScheduler(**BETAS, **KARRAS, **SDE)),
        ("DPM++ 2M SDE Heun", {}, DPMSolverMultistepScheduler(**BETAS, **KARRAS, **SDE, solver_type="heun")),
        ("UniPC", {"order": 2}, UniPCMultistepScheduler(**BETAS, **BH1, solver_order=2)),
        ("UniPC", {"order": 3}, UniPCMultistepScheduler(**BETAS, **BH1, solver_order=3)),
        ("UniPC BH2", {"order": 2}, UniPCMultistepScheduler(**BETAS, **KARRAS, solver_order=2)),
        ("UniPC BH2", {"order": 3}, UniPCMultistepScheduler(**BETAS, **KARRAS, solver_order=3)),
    ],
)
def test_multistep_samplers(name: str, options: dict[str, object], peer: object) -> None:
    """Step for step with the noise of the SDE left out: 2e-3, the peer's levels being 32 bits."""
    n = 10
    sigmas = spaced("karras", PROCESS, n)
    peer.set_timesteps(n)  # type: ignore[attr-defined]
    z = START / (1 + sigmas[0] ** 2).sqrt()
    silent = {"variance_noise": torch.zeros(1)} if "SDE" in name else {}
    for step, t in zip(with_options(name, options)(curved, START, sigmas, still), peer.timesteps):  # type: ignore[attr-defined]
        sigma = sigmas[step.index]
        seen = z * (1 + sigma**2).sqrt()
        z = peer.step((seen - curved(seen, sigma)) / sigma, t, z, **silent).prev_sample  # type: ignore[attr-defined]
        if step.index < n - 1 or name != "UniPC":
            assert torch.allclose(step.x, z * (1 + sigmas[step.index + 1] ** 2).sqrt(), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("order", [3, 4])
def test_sa_solver(order: int) -> None:
    """Without noise, which the peer puts in elsewhere, and up to the last step, which it may take at the first level
    instead of zero.
    """
    n = 10
    peer: Any = SASolverScheduler(
        **BETAS,
        use_karras_sigmas=True,
        predictor_order=order,
        corrector_order=order,
        lower_order_final=False,
        tau_func=lambda t: 0,
    )
    peer.set_timesteps(n)
    sigmas = spaced("karras", PROCESS, n)
    options = {"eta": 0.0, "predictor_order": order, "corrector_order": order}
    z = START / (1 + sigmas[0] ** 2).sqrt()
    ours = with_options("SA-Solver", options)(curved, START, sigmas[:-1], still)
    for step, t in zip(ours, peer.timesteps[:-1]):
        sigma = sigmas[step.index]
        seen = z * (1 + sigma**2).sqrt()
        z = peer.step((seen - curved(seen, sigma)) / sigma, t, z).prev_sample
        assert torch.allclose(step.x, z * (1 + sigmas[step.index + 1] ** 2).sqrt(), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_deis(order: int) -> None:
    """Up to the last step, which the peer may take at the first level instead of zero."""
    n = 10
    peer = DEISMultistepScheduler(**BETAS, use_karras_sigmas=True, solver_order=order, lower_order_final=False)
    peer.set_timesteps(n)
    sigmas = spaced("karras", PROCESS, n)
    z = START / (1 + sigmas[0] ** 2).sqrt()
    for step, t in zip(with_options("DEIS", {"order": order})(curved, START, sigmas, still), peer.timesteps[:-1]):
        sigma = sigmas[step.index]
        seen = z * (1 + sigma**2).sqrt()
        z = peer.step((seen - curved(seen, sigma)) / sigma, t, z).prev_sample
        assert torch.allclose(step.x, z * (1 + sigmas[step.index + 1] ** 2).sqrt(), rtol=2e-3, atol=2e-3)


def test_noise_of_sde_solvers_in_the_seed_mode_of_diffusers() -> None:
    """The peer draws one picture's noise step by step from its generator."""
    n = 10
    sigmas = spaced("karras", PROCESS, n)
    peer: Any = DPMSolverMultistepScheduler.from_config({**BETAS, **KARRAS, **SDE})
    peer.set_timesteps(n)
    assert "diffusers" not in PATHS
    generator = torch.Generator().manual_seed(4)
    z = START / (1 + sigmas[0] ** 2).sqrt()
    for step, t in zip(SAMPLERS["DPM++ 2M SDE"](curved, START, sigmas, SeededNoise([4], SHAPE)), peer.timesteps):
        sigma = sigmas[step.index]
        seen = z * (1 + sigma**2).sqrt()
        z = peer.step((seen - curved(seen, sigma)) / sigma, t, z, generator=generator).prev_sample
        assert torch.allclose(step.x, z * (1 + sigmas[step.index + 1] ** 2).sqrt(), rtol=2e-3, atol=2e-3)
