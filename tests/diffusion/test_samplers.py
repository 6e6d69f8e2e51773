"""The Gaussian with a known answer: data ~ N(0, v) gives D = x v / (v + sigma²) and an exact flow (papers C.4)."""

import itertools
import math
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
)
from scipy.integrate import quad
from torch import Tensor

from darkroom.diffusion.noise import SeededNoise
from darkroom.diffusion.process import DiffusionProcess
from darkroom.diffusion.samplers import SAMPLERS, with_options
from darkroom.diffusion.sigma_schedules import SCHEDULES, spaced
from darkroom.diffusion.stepping import stepping
from darkroom.errors import InputError
from darkroom.names import split_name
from darkroom.noise_schedule import NoiseSchedule
from darkroom.types import Sampler

V = 1.69
PROCESS = DiffusionProcess(NoiseSchedule("scaled_linear", 0.00085, 0.012), "eps")
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def gaussian(x: Tensor, sigma: Tensor) -> Tensor:
    return x * V / (V + sigma**2)


class Both:
    """The same without a prompt."""

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return gaussian(x, sigma)

    def both(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return gaussian(x, sigma), gaussian(x, sigma)


def curved(x: Tensor, sigma: Tensor) -> Tensor:
    """A denoiser without symmetry, to compare trajectories with."""
    return torch.tanh(x / (1 + sigma)) + 0.1 * x / (1 + sigma**2)


def still(sigma: Tensor, following: Tensor) -> Tensor:
    return torch.zeros(1, dtype=torch.float64)


def run(sampler: Sampler, denoise: object, x: Tensor, sigmas: Tensor) -> Tensor:
    for step in sampler(denoise, x, sigmas, still):  # type: ignore[arg-type]
        x = step.x
    return x


@pytest.mark.parametrize(
    ("name", "options", "order"),
    [
        ("Euler", {}, 1),
        ("DDIM", {}, 1),
        ("Euler a", {"eta": 0.0}, 1),
        ("Heun", {}, 2),
        ("DPM2", {}, 2),
        ("DPM2 a", {"eta": 0.0}, 2),
        ("DPM++ 2S a", {"eta": 0.0}, 2),
        ("DPM++ SDE", {"eta": 0.0}, 2),
        ("DPM++ 2M", {}, 2),
        ("DPM++ 2M v2", {}, 2),
        ("DPM++ 2S", {}, 2),
        ("DPM++ 2M SDE", {"eta": 0.0}, 2),
        ("DPM++ 2M SDE Heun", {"eta": 0.0}, 2),
        ("DPM++ 3M SDE", {"eta": 0.0}, 2),  # held down by its start
        ("PLMS", {}, 2),
        ("DEIS", {}, 2),  # likewise
        ("UniPC", {"order": 2, "lower_order_final": False}, 3),
        ("UniPC", {"order": 2, "variant": "bh2", "lower_order_final": False}, 3),
        ("UniPC", {"order": 3, "variant": "bh2", "lower_order_final": False}, 3.8),
        ("UniPC", {"order": 3, "variant": "bh2", "lower_order_final": False, "corrector": False}, 2),
        ("iPNDM", {}, 2),  # its weights are those of even steps
        ("iPNDM v", {"order": 2}, 2),
        ("LMS", {"order": 2}, 2),
        ("Heun++ 2", {}, 1),
        ("RES multistep", {}, 2),
        ("RES multistep a", {"eta": 0.0}, 2),
        ("RES multistep CFG++", {}, 2),
        ("Gradient estimation", {}, 1),
        ("Gradient estimation CFG++", {}, 1),
        ("SEEDS 2", {"eta": 0.0}, 2),
        ("SEEDS 2", {"eta": 0.0, "r": 0.3, "solver": "phi_2"}, 2),
        ("SEEDS 3", {"eta": 0.0}, 3),
        ("Exp Heun 2 x0", {}, 2),
        ("Exp Heun 2 x0", {"solver": "phi_1"}, 2),
        ("SA-Solver", {"eta": 0.0, "corrector_order": 0}, 2),  # held down by its start
        ("SA-Solver", {"eta": 0.0, "predictor_order": 1, "corrector_order": 2}, 2),
        ("Euler CFG++", {}, 1),
        ("Euler a CFG++", {"eta": 0.0}, 1),
        ("DPM++ 2S a CFG++", {"eta": 0.0}, 2),
        ("DPM++ 2M CFG++", {}, 2),
        ("DDIM CFG++", {}, 1),
        ("TCD", {"eta": 0.0}, 1),
    ],
)
def test_order_of_convergence(name: str, options: dict[str, object], order: float) -> None:
    errors = []
    for n in (80, 160, 320):
        sigmas = torch.logspace(1, math.log10(0.05), n + 1, dtype=torch.float64)
        sampler = with_options(name, options)
        x = run(sampler, Both(), torch.full((1, 1, 1, 1), 5.0, dtype=torch.float64), sigmas)
        exact = 5 * ((V + sigmas[-1] ** 2) / (V + sigmas[0] ** 2)).sqrt()
        errors.append(float((x - exact).abs()))
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


def test_order_of_dpm_fast() -> None:
    """Of its steps the last two are of orders 2 and 1, and their errors remain when those of order 3 are gone."""
    errors = []
    for n in (192, 384, 768):
        sigmas = torch.logspace(1, math.log10(0.05), n + 1, dtype=torch.float64)
        x = run(SAMPLERS["DPM fast"], gaussian, torch.full((1, 1, 1, 1), 5.0, dtype=torch.float64), sigmas)
        errors.append(abs(float(x) - 5 * math.sqrt((V + 0.05**2) / (V + 10**2))))
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_steps_are_counted_and_the_last_estimate_is_the_result(name: str) -> None:
    sigmas = spaced("karras", PROCESS, 7)
    x = torch.full((1, 1, 1, 1), 3.0)
    steps = list(SAMPLERS[name](Both(), x, sigmas, SeededNoise([0], (1, 1, 1))))
    assert [s.index for s in steps] == list(range(len(steps)))
    assert steps[-1].total == len(steps)
    if name not in ("DPM fast", "DPM adaptive"):  # these have steps of their own, and end above zero
        assert {s.total for s in steps} == {7}
        if name not in ("LMS", "PLMS"):  # these extrapolate from former slopes to the very end
            assert torch.allclose(steps[-1].x, steps[-1].x0, atol=1e-5)


@pytest.mark.parametrize(
    "levels",
    [
        [14.6, 0.0],
        [14.6, 3.0, 0.0],
        [5.0, 3.0],
        [5.0, 3.0, 1.0, 0.5],
        [1e4, 1.0, 1e-3, 0.0],
        [900.0, 400.0, 1e-3, 1e-4, 0.0],
    ],
)
def test_few_and_extreme_levels_and_parts_that_end_above_zero(levels: list[float]) -> None:
    """In float32, as pictures are drawn."""
    for name, entry in SAMPLERS.items():
        *_, last = entry(Both(), torch.full((1, 1, 1, 1), levels[0]), torch.tensor(levels), SeededNoise([0], (1, 1, 1)))
        assert torch.isfinite(last.x).all(), name
        assert levels[0] > 20 or float(last.x.abs().max()) < 20, name


def test_ancestral_with_eta_zero_is_euler_and_ddim_with_eta_zero_too() -> None:
    sigmas, x = spaced("karras", PROCESS, 9).double(), torch.full((1, 1, 1, 1), 9.0, dtype=torch.float64)
    plain = run(SAMPLERS["Euler"], curved, x, sigmas)

    assert torch.allclose(run(with_options("Euler a", {"eta": 0.0}), curved, x, sigmas), plain)
    assert torch.allclose(run(with_options("DDIM", {"eta": 0.0}), curved, x, sigmas), plain)


@pytest.mark.parametrize(("stages", "order"), [(1, 1), (2, 1.85), (3, 1.8)])  # its sums of 200 terms hold it down
def test_order_of_the_mean_of_er_sde(stages: int, order: float) -> None:
    """Without its noise it follows m' = (phi' / phi) (m − D(m)), which a quadrature solves."""

    def rate(s: float) -> float:
        growing = math.exp(s**0.3)
        return (1 / s + 0.3 * s**-0.7 * growing / (growing + 10)) * s**2 / (V + s**2)

    errors = []
    for n in (40, 80, 160):
        sigmas = torch.logspace(1, math.log10(0.05), n + 1, dtype=torch.float64)
        sampler = with_options("ER SDE", {"s_noise": 0.0, "max_stage": stages})
        x = run(sampler, gaussian, torch.full((1, 1, 1, 1), 5.0, dtype=torch.float64), sigmas)
        errors.append(abs(float(x) - 5 * math.exp(-quad(rate, 0.05, 10)[0])))
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize(
    ("name", "options", "n"),
    [
        ("DDIM", {"eta": 0.5}, 400),
        ("DDIM", {"eta": 1.0}, 400),
        ("Euler a", {"eta": 0.5}, 400),
        ("Euler a", {}, 400),
        ("Euler", {"s_churn": 20.0}, 400),
        ("Heun", {"s_churn": 20.0}, 100),
        ("DPM2", {"s_churn": 20.0}, 100),
        ("DPM2 a", {}, 100),
        ("DPM++ 2S a", {}, 100),
        ("DPM++ SDE", {}, 400),
        ("DPM++ 2M SDE", {}, 100),
        ("DPM++ 2M SDE Heun", {}, 100),
        ("DPM++ 3M SDE", {}, 100),
        ("DPM fast", {"eta": 0.5}, 100),
        ("RES multistep a", {}, 100),
        ("ER SDE", {}, 100),
        ("SEEDS 2", {"r": 0.3}, 100),
        ("SEEDS 3", {}, 100),
        ("Exp Heun 2 x0 SDE", {}, 100),
        ("SA-Solver", {}, 100),
        ("SA-Solver PECE", {}, 100),
        ("Restart", {}, 100),
    ],
)
def test_stochastic_samplers_keep_the_variance_of_the_data(name: str, options: dict[str, object], n: int) -> None:
    """Of 10,000 numbers, whose variance is known to 1.4 %; the rest is for the steps' being finite."""
    generator = torch.Generator().manual_seed(1)

    def noise(sigma: Tensor, sigma_next: Tensor) -> Tensor:
        return torch.randn((10000, 1, 1, 1), generator=generator)

    sigmas = spaced("karras", PROCESS, n)
    x = noise(sigmas[0], sigmas[0]) * (V + sigmas[0] ** 2).sqrt()
    *_, last = with_options(name, options)(gaussian, x, sigmas, noise)
    assert float(last.x.var()) == pytest.approx(V, rel=0.05)


@pytest.mark.parametrize(
    ("name", "schedule", "peer"),
    [
        ("Euler", "linspace", EulerDiscreteScheduler(**BETAS, timestep_spacing="linspace")),
        ("Euler", "karras", EulerDiscreteScheduler(**BETAS, use_karras_sigmas=True)),
        ("Euler", "trailing", EulerDiscreteScheduler(**BETAS, timestep_spacing="trailing")),
        ("Euler", "leading", EulerDiscreteScheduler(**BETAS, timestep_spacing="leading", steps_offset=1)),
        ("DPM++ 2M", "karras", DPMSolverMultistepScheduler(**BETAS, use_karras_sigmas=True, final_sigmas_type="zero")),
    ],
)
def test_trajectories_agree_with_diffusers(name: str, schedule: str, peer: object) -> None:
    """Sigma for sigma and step for step; 1e-4 relative, the peer's tables being 32 bits."""
    n = 11
    sigmas = spaced(schedule, PROCESS, n)
    peer.set_timesteps(n)  # type: ignore[attr-defined]
    assert torch.allclose(sigmas, peer.sigmas.float(), rtol=1e-4, atol=1e-6)  # type: ignore[attr-defined]
    vp = isinstance(peer, DPMSolverMultistepScheduler)  # its samples are VP latents
    x = torch.linspace(-20, 20, 8).view(1, 2, 2, 2)
    z = x / (1 + sigmas[0] ** 2).sqrt() if vp else x
    for step, t in zip(SAMPLERS[name](curved, x, sigmas, still), peer.timesteps):  # type: ignore[attr-defined]
        sigma = sigmas[step.index]
        seen = z * (1 + sigma**2).sqrt() if vp else z
        eps = (seen - curved(seen, sigma)) / sigma
        z = peer.step(eps, t, z).prev_sample  # type: ignore[attr-defined]
        theirs = z * (1 + sigmas[step.index + 1] ** 2).sqrt() if vp else z
        assert torch.allclose(step.x, theirs, rtol=1e-4, atol=1e-4)


def test_ddim_agrees_with_diffusers_on_the_first_steps() -> None:
    """Up to the last step, where the peer may keep a_0 (papers C.3)."""
    n = 10
    peer = DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=True, steps_offset=1, timestep_spacing="leading")
    peer.set_timesteps(n)
    sigmas = spaced("leading", PROCESS, n)
    assert peer.timesteps[0] == 901
    x = torch.linspace(-10, 10, 8).view(1, 2, 2, 2)
    z = x / (1 + sigmas[0] ** 2).sqrt()
    for step, t in zip(SAMPLERS["DDIM"](curved, x, sigmas, still), peer.timesteps):
        sigma = sigmas[step.index]
        seen = z * (1 + sigma**2).sqrt()
        z = peer.step((seen - curved(seen, sigma)) / sigma, t, z).prev_sample
        assert torch.allclose(step.x, z * (1 + sigmas[step.index + 1] ** 2).sqrt(), rtol=2e-4, atol=1e-4)


def test_noise_of_a_picture_does_not_depend_on_its_batch() -> None:
    alone, among = SeededNoise([5], (2, 3, 3)), SeededNoise([1, 5, 9], (2, 3, 3))
    for _ in range(3):
        assert torch.equal(alone.draw()[0], among.draw()[1])


def test_names_carry_schedules() -> None:
    assert split_name("DPM++ 2M Karras") == ("DPM++ 2M", "karras")
    assert split_name("Euler a") == ("Euler a", None)
    assert split_name("DPM++ SDE Trailing") == ("DPM++ SDE", "trailing")
    assert split_name("Euler A AYS") == ("Euler A", "align_your_steps")
    assert split_name("dpmpp_2m_sgm_uniform") == ("dpmpp_2m", "sgm_uniform")
    assert stepping("DPM++ 2M SDE", "Automatic").schedule == "exponential"
    assert stepping("Euler", "automatic").schedule == "linspace"
    assert stepping("Euler", "SGM Uniform").schedule == "sgm_uniform"


COMFY = """euler euler_cfg_pp euler_ancestral euler_ancestral_cfg_pp heun heunpp2 exp_heun_2_x0 exp_heun_2_x0_sde dpm_2
dpm_2_ancestral lms dpm_fast dpm_adaptive dpmpp_2s_ancestral dpmpp_2s_ancestral_cfg_pp dpmpp_sde dpmpp_sde_gpu dpmpp_2m
dpmpp_2m_cfg_pp dpmpp_2m_sde dpmpp_2m_sde_gpu dpmpp_2m_sde_heun dpmpp_2m_sde_heun_gpu dpmpp_3m_sde dpmpp_3m_sde_gpu ddpm
lcm ipndm ipndm_v deis res_multistep res_multistep_cfg_pp res_multistep_ancestral res_multistep_ancestral_cfg_pp
gradient_estimation gradient_estimation_cfg_pp er_sde seeds_2 seeds_3 sa_solver sa_solver_pece ddim uni_pc uni_pc_bh2"""
A1111 = """DPM++ 2M, DPM++ SDE, DPM++ 2M SDE, DPM++ 2M SDE Heun, DPM++ 2S a, DPM++ 3M SDE, Euler a, Euler, LMS, Heun,
DPM2, DPM2 a, DPM fast, DPM adaptive, Restart, DDIM, DDIM CFG++, PLMS, UniPC, LCM, k_dpm_fast, k_dpm_ad,
k_dpm_2_a, unipc"""
OTHERS = """EulerAncestralDiscreteScheduler: Euler a, KDPM2AncestralDiscreteScheduler: DPM2 a, PNDMScheduler: PLMS,
DPMSolverMultistepScheduler: DPM++ 2M, DPMSolverSinglestepScheduler: DPM++ 2S, DPMSolverSDEScheduler: DPM++ SDE,
HeunDiscreteScheduler: Heun, UniPCMultistepScheduler: UniPC, DEISMultistepScheduler: DEIS, SASolverScheduler: SA-Solver,
euler_a: Euler a, dpm++2s_a: DPM++ 2S a, dpm++2m: DPM++ 2M, dpm++2mv2: DPM++ 2M v2, euler_a_cfg_pp: Euler a CFG++,
kdpm_2_a: DPM2 a, dpmpp_2s: DPM++ 2S, k_dpmpp_2s_a: DPM++ 2S a, KDPM2 a: DPM2 a, Euler Ancestral: Euler a, LMSD: LMS"""
SPACED = """simple, sgm_uniform, karras, exponential, ddim_uniform, beta, normal, linear_quadratic, kl_optimal,
Uniform, Karras, Polyexponential, SGM Uniform, KL Optimal, Align Your Steps, Simple, Normal, DDIM, Beta, Turbo"""


def test_names_of_other_tools_are_known() -> None:
    assert [name for name in [*COMFY.split(), *A1111.replace("\n", " ").split(", ")] if name not in SAMPLERS] == []
    pairs = [pair.split(": ") for pair in OTHERS.replace("\n", " ").split(", ")]
    assert {name: SAMPLERS.name(name) for name, _ in pairs} == dict(map(tuple, pairs))
    assert [name for name in SPACED.replace("\n", " ").split(", ") if name not in SCHEDULES] == []


@pytest.mark.parametrize(
    ("name", "peer", "tolerance"),
    [
        ("Heun", HeunDiscreteScheduler(**BETAS, use_karras_sigmas=True), 1e-4),
        ("LMS", LMSDiscreteScheduler(**BETAS, use_karras_sigmas=True), 2e-3),  # the peer integrates numerically
    ],
)
def test_more_trajectories_agree_with_diffusers(name: str, peer: object, tolerance: float) -> None:
    n = 9
    sigmas = spaced("karras", PROCESS, n)
    peer.set_timesteps(n)  # type: ignore[attr-defined]
    x = torch.linspace(-20, 20, 8).view(1, 2, 2, 2)
    z = x
    for t in peer.timesteps:  # type: ignore[attr-defined]
        level = peer.sigmas[peer.step_index if peer.step_index is not None else 0]  # type: ignore[attr-defined]
        z = peer.step((z - curved(z, level)) / level, t, z).prev_sample  # type: ignore[attr-defined]
    ours = run(SAMPLERS[name], curved, x, sigmas)
    assert torch.allclose(ours, z, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "kind"), [("DDIM", DDIMScheduler), ("PLMS", PNDMScheduler)])
def test_runs_end_at_the_first_level_as_the_original_code_does(name: str, kind: Any) -> None:
    """`set_alpha_to_one` False is CompVis's last previous alpha-bar."""
    extra = {"skip_prk_steps": True} if kind is PNDMScheduler else {"clip_sample": False}
    peer = kind(**BETAS, set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading", **extra)
    peer.set_timesteps(10)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, 4, 6, 6, generator=generator)
    centre = torch.randn(1, 4, 6, 6, generator=generator)

    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return 0.4 * x - 0.3 * centre

    sigmas = spaced("leading", PROCESS, 10)
    run = with_options(name, {"end": float(PROCESS.sigmas[0])})
    for step in run(PROCESS.denoiser(network), z * (1 + sigmas[0] ** 2).sqrt(), sigmas, lambda a, b: torch.zeros(())):
        x = step.x
    for t in peer.timesteps:
        z = peer.step(network(z, t), t, z).prev_sample
    assert torch.allclose(x, z, atol=1e-4)
    with pytest.raises(InputError, match="the last level is"):
        next(iter(with_options(name, {"end": 50.0})(PROCESS.denoiser(network), z, sigmas, lambda a, b: z)))
