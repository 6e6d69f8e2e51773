import math

import pytest
import torch
from scipy.stats import beta as peer_beta
from torch import Tensor

from darkroom.diffusion import guidance as g
from darkroom.diffusion.draws import RowDraws
from darkroom.diffusion.objective import DiffusionLossConfig, diffusion_loss
from darkroom.diffusion.process import DiffusionProcess
from darkroom.diffusion.samplers import SAMPLERS, options_of, with_options
from darkroom.diffusion.sigma_schedules import spaced
from darkroom.errors import InputError
from darkroom.noise_schedule import NoiseSchedule

PROCESS = DiffusionProcess(NoiseSchedule("scaled_linear", 0.00085, 0.012), "eps")
X = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))


def test_options_are_the_samplers_own() -> None:
    assert options_of("euler") == {"s_churn": 0.0, "s_tmin": 0.0, "s_tmax": math.inf, "s_noise": 1.0}
    assert options_of("DPM++ 2M") == {}
    for name in SAMPLERS:
        with_options(name, options_of(name))  # the defaults are allowed


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("Euler a", {"etta": 1.0}, "etta; known are: eta"),
        ("DPM++ 2M", {"eta": 1.0}, "has no options"),
        ("Euler a", {"eta": "much"}, 'eta is "much", expected is a number'),
        ("Euler a", {"eta": -1.0}, "eta is -1.0, expected is 0 or more"),
        ("Euler a", {"eta": float("nan")}, "eta is nan"),
        ("LMS", {"order": 9}, "order is 9, expected is 1 to 4"),
        ("Euler a", {"eta": float("inf")}, "eta is inf"),
        ("Euler", {"s_tmax": -1.0}, "s_tmax is -1.0, expected is 0 or more"),
        ("Restart", {"restarts": [[2.0, 0.1, 3, 1]]}, "a restart is 2, 0.1, 3, 1, expected are two rising levels"),
        ("UniPC", {"variant": "bh3"}, "bh1"),
        ("DPM++ SDE", {"r": 0.0}, "expected is 0.01 to 1"),
    ],
)
def test_options_that_cannot_be(name: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        with_options(name, options)


def test_an_option_reaches_its_sampler() -> None:
    def drawn(eta: float) -> int:
        calls = []

        def noise(sigma: Tensor, following: Tensor) -> Tensor:
            calls.append(sigma)
            return torch.zeros_like(X)

        list(
            with_options("euler_ancestral", {"eta": eta})(lambda x, s: 0.5 * x, X, spaced("karras", PROCESS, 5), noise)
        )
        return len(calls)

    assert drawn(0) == 0
    assert drawn(1) == 4


def test_restarts_of_a_user_are_run() -> None:
    sampler = with_options("Restart", {"restarts": [[0.1, 2.0, 3, 2]]})
    steps = list(sampler(lambda x, s: 0.5 * x, X, spaced("karras", PROCESS, 10), lambda a, b: torch.zeros_like(X)))
    assert len(steps) == 10 + 3 * 2
    assert steps[-1].total == 16


def test_restarts_by_default_are_those_of_a1111() -> None:
    """From 20 steps on: Karras's levels for the steps that are left, then nine from the level nearest to 2 again."""
    sampler = with_options("Restart", {})
    steps = list(sampler(lambda x, s: 0.5 * x, X, spaced("karras", PROCESS, 20), lambda a, b: torch.zeros_like(X)))
    levels = [s.sigma for s in steps]
    karras = spaced("karras", PROCESS, 11)
    at = int((karras - 0.1).abs().argmin())
    top = karras[(karras - 2).abs().argmin()]
    assert len(levels) == 20
    assert levels[:at] == pytest.approx(karras[:at].tolist(), rel=1e-5)
    assert levels[at] == pytest.approx(float(top), rel=1e-5)
    assert levels[at + 9 :] == pytest.approx(karras[at:-1].tolist(), rel=1e-5)


def test_restarts_do_not_go_above_the_start_of_a_run() -> None:
    """Image-to-image of little strength begins below the level that restarts go back to."""
    sigmas = spaced("karras", PROCESS, 40)[20:]
    steps = list(with_options("Restart", {})(lambda x, s: 0.5 * x, X, sigmas, lambda a, b: torch.zeros_like(X)))
    assert max(s.sigma for s in steps) == pytest.approx(float(sigmas[0]))


def test_beta_quantiles_agree_with_scipy() -> None:
    n = 23
    share = peer_beta.ppf(1 - torch.arange(n, dtype=torch.float64).numpy() / n, 0.6, 0.6)
    levels = PROCESS.t_to_sigma(torch.from_numpy(share) * 999)
    assert torch.allclose(spaced("beta", PROCESS, n)[:-1].double(), levels, rtol=1e-6)


def test_the_known_region_is_shown_with_its_own_noise() -> None:
    known, noise, mask = torch.ones_like(X), X.flip(0), torch.zeros(1, 1, 6, 6)
    mask[..., 3:] = 1
    seen = {}

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        seen["x"] = x
        return 0 * x

    estimate = g.known_region(denoise, known, mask, noise)(X, torch.tensor(2.0))
    assert torch.allclose(seen["x"][..., :3], (known + 2 * noise)[..., :3])
    assert torch.equal(seen["x"][..., 3:], X[..., 3:])
    assert estimate[..., :3].eq(1).all()
    assert estimate[..., 3:].eq(0).all()


def test_weights_of_samples_and_a_range_outside_the_process() -> None:
    def zero(x: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(x)

    config, weights = DiffusionLossConfig(offset_noise=0.05), torch.tensor([0.0, 2.0])
    plain, _ = diffusion_loss(PROCESS, zero, X, config, RowDraws([1, 2]))
    weighted, _ = diffusion_loss(PROCESS, zero, X, config, RowDraws([1, 2]), weights=weights)
    assert torch.equal(weighted, plain * weights)
    with pytest.raises(InputError, match="0 to 999"):
        diffusion_loss(PROCESS, zero, X, DiffusionLossConfig(max_timestep=1000), RowDraws([1, 2]))
