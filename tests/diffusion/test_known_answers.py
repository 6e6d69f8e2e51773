"""Where other tools' samplers end: k-diffusion 0.1.1 and ComfyUI's additions to it, run once in float64.

(DPM++ 2S a CFG++ was worked out by hand from its text.) All were given the same denoisers, levels and noise;
k-diffusion's DPM-Solvers compute their levels in 32 bits, and the adaptive one decides by them.
"""

import itertools

import pytest
import torch
from torch import Tensor

from darkroom.diffusion.samplers import SAMPLERS, with_options
from darkroom.errors import InputError

START = torch.linspace(-20, 20, 8, dtype=torch.float64).view(1, 2, 2, 2)
SIGMAS = torch.tensor([14.6, 9.0, 5.5, 3.2, 1.7, 0.8, 0.35, 0.1, 0.03, 0.0], dtype=torch.float64)


def curved(x: Tensor, sigma: Tensor) -> Tensor:
    return torch.tanh(x / (1 + sigma)) + 0.1 * x / (1 + sigma**2)


class Guided:
    """At a scale of 1.4, with the unconditional estimate beside."""

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.both(x, sigma)[0]

    def both(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        uncond = 0.8 * torch.tanh(x / (2 + sigma))
        return torch.lerp(uncond, curved(x, sigma), 1.4), uncond


class Noise:
    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(3)

    def __call__(self, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        return torch.randn(START.shape, generator=self.generator, dtype=torch.float64)


def end(name: str, options: dict[str, object], start: Tensor = START, sigmas: Tensor = SIGMAS) -> Tensor:
    denoise = Guided() if SAMPLERS[name].needs_uncond else curved
    *_, last = with_options(name, options)(denoise, start, sigmas, Noise())
    assert last.index == last.total - 1
    return last.x


@pytest.mark.parametrize(
    ("name", "options", "known"),
    [
        ("Euler", {"s_churn": 3.0, "s_tmin": 0.2, "s_tmax": 6.0, "s_noise": 1.01}, [-0.5488305, 0.6031126, -0.6751305]),
        ("Heun", {"s_churn": 3.0, "s_tmin": 0.2, "s_tmax": 6.0, "s_noise": 1.01}, [-0.5715616, 0.5993461, -0.6506493]),
        ("DPM2", {"s_churn": 3.0, "s_tmin": 0.2, "s_tmax": 6.0, "s_noise": 1.01}, [-0.5675675, 0.6058722, -0.6630341]),
        (
            "Heun++ 2",
            {"s_churn": 3.0, "s_tmin": 0.2, "s_tmax": 6.0, "s_noise": 1.01},
            [-0.5501441, 0.6029545, -0.6748976],
        ),
        ("DPM fast", {}, [-0.8717296, -0.2446233, 0.7670022]),
        ("DPM fast", {"eta": 0.6}, [-0.7375496, -0.1683509, 0.8050842]),
        ("DPM adaptive", {}, [-0.8290892, -0.2639248, 0.7376001]),
        ("DPM adaptive", {"eta": 0.6, "order": 2}, [-0.7159473, 0.6508859, 0.3863977]),
        ("DPM adaptive", {"pcoeff": 0.2, "icoeff": 0.7, "dcoeff": 0.1}, [-0.8182085, -0.2645814, 0.7291624]),
        ("iPNDM", {}, [-0.7564576, -0.2637093, 0.6955674]),
        ("iPNDM v", {}, [-0.7679221, -0.2570314, 0.7027990]),
        ("iPNDM v", {"order": 3}, [-0.7689812, -0.2560796, 0.7034085]),
        ("RES multistep", {}, [-0.7663211, -0.2649975, 0.7048912]),
        ("RES multistep a", {"eta": 0.8}, [-0.5689168, 0.7539674, -0.7645898]),
        ("RES multistep CFG++", {}, [-0.7383981, -0.2231590, 0.6610309]),
        ("RES multistep a CFG++", {"eta": 0.8}, [-0.2575366, 0.3661512, -0.3698798]),
        ("Gradient estimation", {}, [-0.7600485, -0.2642969, 0.6990476]),
        ("Gradient estimation CFG++", {}, [-1.0709559, -0.5456350, 1.0275559]),
        ("ER SDE", {}, [-0.7098649, 0.5048026, 0.5575804]),
        ("ER SDE", {"max_stage": 2, "s_noise": 0.5}, [-0.7005530, 0.2036741, 0.5882342]),
        ("SEEDS 2", {"eta": 0.7}, [-0.6160468, 0.1368906, -0.6590350]),
        ("SEEDS 3", {}, [-0.6951567, -0.3059823, -0.5361603]),
        ("Exp Heun 2 x0", {}, [-0.7645808, -0.2584609, 0.6995696]),
        ("Exp Heun 2 x0 SDE", {}, [0.1950620, -0.5116989, -0.6519605]),
        ("SA-Solver", {}, [-0.2960003, 0.4719353, 0.7378390]),
        ("SA-Solver", {"eta": 0.5, "predictor_order": 2, "corrector_order": 3}, [-0.6544155, 0.1088220, 0.7706412]),
        ("SA-Solver PECE", {}, [-0.3525699, 0.4381171, 0.7082714]),
        ("Euler CFG++", {}, [-1.3119909, -0.9484485, 1.2930803]),
        ("Euler a CFG++", {"eta": 0.8}, [-1.1562220, 1.1989308, 0.4765040]),
        ("DPM++ 2M CFG++", {}, [-1.4141687, -1.2900468, 1.4077282]),
        ("DPM++ 2S a CFG++", {"eta": 0.8}, [-1.0540194, 1.1112738, 0.2704957]),
    ],
)
def test_known_answers(name: str, options: dict[str, object], known: list[float]) -> None:
    tolerance = 1e-3 if name == "DPM adaptive" else 1e-6
    assert end(name, options).flatten()[[0, 3, 6]].tolist() == pytest.approx(known, rel=tolerance, abs=tolerance)


def test_ddim_cfg_pp_counts_the_guidance_scale_by_a_share() -> None:
    """A1111's step: towards u + (c − u) scale / 12.5, away along the unconditional noise."""
    x = START
    for sigma, sigma_next in itertools.pairwise(SIGMAS):
        guided, uncond = Guided().both(x, sigma)
        x = uncond + (guided - uncond) / 12.5 + sigma_next * (x - uncond) / sigma
    assert torch.allclose(end("DDIM CFG++", {}), x)


@pytest.mark.parametrize("name", [n for n, entry in SAMPLERS.items() if entry.needs_uncond])
def test_cfg_pp_needs_the_unconditional_estimate(name: str) -> None:
    with pytest.raises(InputError, match="unconditional estimate"):
        next(iter(SAMPLERS[name](curved, START, SIGMAS, Noise())))


@pytest.mark.parametrize("name", ["DPM fast", "DPM adaptive"])
def test_steps_of_their_own_over_little(name: str) -> None:
    """One level: the estimate there. A part that does not reach zero: to its end."""
    assert torch.equal(end(name, {}, sigmas=SIGMAS[-2:]), curved(START, SIGMAS[-2]))
    exact = end("DPM++ 3M SDE", {"eta": 0.0}, sigmas=torch.logspace(1, 0, 200, dtype=torch.float64))
    assert torch.allclose(end(name, {}, sigmas=torch.tensor([10.0, 5.0, 2.0, 1.0]).double()), exact, atol=0.05)


@pytest.mark.parametrize("evaluations", [1, 2, 3, 4, 5, 6, 7, 9])
def test_dpm_fast_spends_what_it_is_given(evaluations: int) -> None:
    calls = []

    def counted(x: Tensor, sigma: Tensor) -> Tensor:
        calls.append(float(sigma))
        return curved(x, sigma)

    sigmas = torch.cat(
        [torch.logspace(1, -1, evaluations + 1)[1:] if evaluations > 1 else torch.ones(1), torch.zeros(1)]
    )
    list(SAMPLERS["DPM fast"](counted, START, sigmas.double(), Noise()))
    assert len(calls) == evaluations


def test_dpm_adaptive_keeps_to_its_tolerance_and_says_when_it_cannot() -> None:
    tried = {}
    for rtol in (0.1, 0.001):
        steps = list(with_options("DPM adaptive", {"rtol": rtol, "atol": rtol})(curved, START, SIGMAS, Noise()))
        assert [s.index for s in steps] == list(range(len(steps)))
        tried[rtol] = len(steps)
    assert tried[0.1] < tried[0.001]

    def rough(x: Tensor, sigma: Tensor) -> Tensor:
        return torch.sin(1e6 * x)

    with pytest.raises(InputError, match="raise its options rtol or atol"):
        list(with_options("DPM adaptive", {"rtol": 1e-6, "atol": 1e-6})(rough, START, SIGMAS, Noise()))

    def broken(x: Tensor, sigma: Tensor) -> Tensor:
        return x * float("nan")

    (step,) = SAMPLERS["DPM adaptive"](broken, START, SIGMAS, Noise())
    assert step.x.isnan().all()  # for the caller to say


def test_tcd_between_its_ends() -> None:
    """eta 0 is DDIM; eta 1 is LCM up to the first level, timestep 0, which stands for no noise."""
    assert torch.allclose(end("TCD", {"eta": 0.0}), end("DDIM", {}))
    assert torch.allclose(end("TCD", {"eta": 1.0}), end("LCM", {}), atol=0.05)
