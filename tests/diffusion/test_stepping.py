"""Schedules and first latents of the tools whose seeds are followed."""

from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from darkroom.diffusion.process import DiffusionProcess
from darkroom.diffusion.samplers import SAMPLERS
from darkroom.diffusion.sigma_schedules import SCHEDULES, spaced
from darkroom.diffusion.stepping import Stepping, stepping
from darkroom.errors import InputError
from darkroom.noise_schedule import NoiseSchedule

PROCESS = DiffusionProcess(NoiseSchedule("scaled_linear", 0.00085, 0.012), "eps")
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def timesteps(name: str, n: int) -> list[float]:
    return [round(float(t), 2) for t in PROCESS.sigma_to_t(spaced(name, PROCESS, n)[:-1])]


EXPLODING = ["Euler", "Euler a", "Heun", "LMS"]  # those that Diffusers writes as x = x0 + sigma noise


@pytest.mark.parametrize("name", [*EXPLODING, "DPM++ 2M", "UniPC", "DEIS", "DPM++ 2M SDE", "SA-Solver", "DDIM"])
@pytest.mark.parametrize("spacing", [None, "leading", "linspace", "trailing"])
@pytest.mark.parametrize("karras", [False, True])
def test_levels_and_first_latents_of_diffusers(name: str, spacing: str | None, karras: bool) -> None:
    """For every spacing that a system's configuration may name, plain and under Karras's levels."""
    if name == "DDIM" and (karras or spacing == "linspace"):
        pytest.skip("no Karras levels there; and its linspace is rounded")
    if karras and name == "Euler a":
        pytest.skip("no Karras levels there")
    kind: Any = getattr(diffusers, str(SAMPLERS[name].diffusers))
    said: dict[str, Any] = {} if spacing is None else {"timestep_spacing": spacing}
    if spacing == "leading" or name == "DDIM":
        said["steps_offset"] = 1
    if karras:
        said["use_karras_sigmas"] = True
    ours = stepping(name, "karras" if karras else "automatic", "diffusers", spacing)
    for n in (7, 30):
        peer = kind(**BETAS, **said)
        peer.set_timesteps(n)
        sigmas = ours.levels(PROCESS, n)
        if name == "DDIM":
            expected = PROCESS.sigmas[peer.timesteps].float()
        else:
            # That of two evaluations a step names its levels twice, the first once.
            expected = torch.as_tensor(peer.sigmas).float()
            expected = (torch.cat([expected[:1], expected[1::2]]) if name == "Heun" else expected)[:n]
        assert torch.allclose(sigmas[:-1], expected, rtol=2e-4)
        scale = peer.init_noise_sigma if name in EXPLODING else (1 + sigmas[0] ** 2).sqrt()  # or of unit variance
        assert float(ours.starting_scale(sigmas[0])) == pytest.approx(float(scale), rel=2e-4)


def test_ddim_of_compvis_takes_as_many_steps_as_divide() -> None:
    for name in ("DDIM", "PLMS", "DDIM CFG++"):
        for mode in ("a1111", "a1111_cpu", "NV", "comfy"):
            assert stepping(name, seed_mode=mode).schedule == "ddim_uniform"
            assert stepping(name, "leading", mode).schedule == "ddim_uniform"  # the system's own default
        assert stepping(name).schedule == "leading"
    assert timesteps("compvis", 30) == list(range(991, 0, -33))
    assert len(timesteps("ddim_uniform", 30)) == 31
    assert timesteps("ddim_uniform", 20) == timesteps("leading", 20)
    for n in range(1, 1000, 7):
        compvis = np.asarray(list(range(0, 1000, 1000 // n))) + 1
        levels = spaced("ddim_uniform", PROCESS, n)
        assert len(levels) - 1 == (compvis < 1000).sum()
        assert float(levels[0]) == pytest.approx(float(PROCESS.sigmas[compvis[compvis < 1000].max()]))


def test_levels_left_out_and_first_latents_of_the_others() -> None:
    assert stepping("DPM2", seed_mode="a1111") == Stepping("karras", True, None, True)
    assert stepping("dpm_2_ancestral", "simple", "comfy") == Stepping("simple", discard_penultimate=True)
    assert stepping("uni_pc", "normal", "comfy") == Stepping("linspace", discard_penultimate=True)
    assert stepping("Euler") == Stepping("linspace")
    assert stepping("LCM", seed_mode="diffusers").schedule == "lcm"
    sigma = torch.tensor(3.0)
    assert float(stepping("Euler a", seed_mode="a1111").starting_scale(sigma)) == 3
    for name, mode in (("Euler", "darkroom"), ("Euler", "comfy"), ("DDIM", "a1111"), ("UniPC BH2", "a1111")):
        assert float(stepping(name, seed_mode=mode).starting_scale(sigma)) == pytest.approx(10**0.5)


def test_options_of_schedules() -> None:
    whole = spaced("karras", PROCESS, 9)
    assert torch.equal(spaced("karras", PROCESS, 9, {"rho": 7, "sigma_min": None}), whole)
    old = spaced("karras", PROCESS, 9, {"sigma_min": 0.1, "sigma_max": 10, "rho": 5.0})
    ramp = torch.linspace(0, 1, 9, dtype=torch.float64)
    assert torch.allclose(old[:-1].double(), (10**0.2 + ramp * (0.1**0.2 - 10**0.2)) ** 5, rtol=1e-6)
    less = spaced("exponential", PROCESS, 9, {"discard_penultimate": True})
    assert torch.equal(less[:-1], spaced("exponential", PROCESS, 10)[:9])
    assert less[-1] == 0
    assert not torch.equal(spaced("beta", PROCESS, 9, {"alpha": 1.0, "beta": 1.0}), spaced("beta", PROCESS, 9))
    assert torch.equal(spaced("polyexponential", PROCESS, 9), spaced("exponential", PROCESS, 9))
    assert not torch.equal(spaced("polyexponential", PROCESS, 9, {"rho": 2}), spaced("exponential", PROCESS, 9))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("karras", {"roh": 5}, "the schedule karras: unknown key roh; known are: rho"),
        ("linspace", {"rho": 5}, "unknown key rho; known are: discard_penultimate"),
        ("karras", {"rho": 0}, "rho is 0.0, expected is 0.1 to 100"),
        ("karras", {"sigma_min": 20.0}, "sigma_min is 20, sigma_max 14.6146; the first must be lower"),
        ("exponential", {"sigma_max": -1.0}, "sigma_max is -1.0, expected is a level above 0"),
        ("exponential", {"sigma_max": float("inf")}, "sigma_max is inf"),
        ("beta", {"alpha": 0.0}, "alpha is 0.0, expected is 0.1 to 10"),
        ("vp", {"eps_s": 0.0}, "eps_s is 0.0, expected is above 0"),
    ],
)
def test_options_that_cannot_be(name: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as error:
        spaced(name, PROCESS, 9, options)
    assert words in str(error.value)


def test_discarding_needs_a_level_more() -> None:
    with pytest.raises(InputError, match="1 to 999"):
        spaced("simple", PROCESS, 1000, {"discard_penultimate": True})
    for n in (1, 50):
        for name in SCHEDULES:
            if name not in ("turbo", "lcm"):
                sigmas = spaced(name, PROCESS, n, {"discard_penultimate": True})
                assert (sigmas.diff() < 0).all()


def test_linear_quadratic_as_comfyui_computes_it() -> None:
    """Known answers as shares of the highest level: half of the steps linear over 2.5 %, then a parabola."""
    for known in (
        [1.0, 0.9875, 0.975, 0.8583333, 0.5333333, 0.0],
        [1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0.0],
    ):
        shares = spaced("linear_quadratic", PROCESS, len(known) - 1).double() / PROCESS.sigmas[-1]
        assert shares.tolist() == pytest.approx(known, abs=1e-6)


def test_vp_as_k_diffusion_computes_it() -> None:
    t = np.linspace(1, 1e-3, 8)
    expected = np.sqrt(np.exp(19.9 * t**2 / 2 + 0.1 * t) - 1)
    assert spaced("vp", PROCESS, 8)[:-1].tolist() == pytest.approx(expected.tolist(), rel=1e-6)
