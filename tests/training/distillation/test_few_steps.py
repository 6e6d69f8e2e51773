"""The student's levels: what it is given there, and how its outputs are read."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from darkroom.diffusion.draws import RowDraws
from darkroom.diffusion.prediction import Prediction
from darkroom.diffusion.process import DiffusionProcess
from darkroom.noise_schedule import NoiseSchedule
from darkroom.systems import SYSTEMS
from darkroom.training.distillation.few_steps import FewSteps, few_step_system

TIMES = (249, 499, 749, 999)
PLAIN = NoiseSchedule("scaled_linear", 0.00085, 0.012)
ZERO = replace(PLAIN, zero_terminal_snr=True)
PROCESSES = {
    "eps": DiffusionProcess(PLAIN, "eps"),
    "v": DiffusionProcess(ZERO, "v"),
    "x0": DiffusionProcess(ZERO, "x0"),
}


@pytest.mark.parametrize("name", PROCESSES)
def test_the_last_level_holds_no_trace_of_the_picture(name: str) -> None:
    steps = FewSteps(PROCESSES[name], TIMES)
    noise = torch.randn(2, 4, 8, 8)
    t = torch.tensor([999, 749])
    one, other = (steps.noised(z0, noise, t) for z0 in (torch.zeros_like(noise), 7 * torch.randn_like(noise)))
    assert torch.equal(one[0], other[0])
    assert not torch.equal(one[1], other[1])
    given = []
    steps.estimate(lambda x, t: given.append(x) or x, one, t)
    assert torch.allclose(given[0][0], noise[0], atol=1e-5)  # of unit variance: sampling begins with the same


@pytest.mark.parametrize("name", PROCESSES)
def test_a_perfect_network_s_output_is_read_as_the_picture(name: str) -> None:
    process = PROCESSES[name]
    steps = FewSteps(process, TIMES)
    z0, noise = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
    t = torch.tensor(TIMES[:3])
    found = steps.estimate(lambda x, t: process.target(z0, noise, t.long()), steps.noised(z0, noise, t), t)
    assert torch.allclose(found, z0, atol=1e-5)


def test_a_student_of_noise_is_read_with_the_ordinary_coefficients() -> None:
    """At the last level x0 = (noise − sqrt(1 − a) F) / sqrt(a) with a = 0.00466, not with a = 0."""
    process = PROCESSES["eps"]
    noise = torch.randn(1, 4, 8, 8)
    output = 0.9 * noise
    steps, t = FewSteps(process, TIMES), torch.tensor([999])
    found = steps.estimate(lambda x, t: output, steps.noised(torch.zeros_like(noise), noise, t), t)
    a = 0.0046601
    assert torch.allclose(found, (noise - (1 - a) ** 0.5 * output) / a**0.5, rtol=1e-4)


def test_times_have_their_shares_of_a_step() -> None:
    seeds = list(range(40))
    strata = (torch.arange(40) + 0.5) / 40
    steps = FewSteps(PROCESSES["v"], TIMES, (0.1, 0.1, 0.1, 0.7))
    drawn = steps.draw(RowDraws(seeds, strata)).tolist()
    assert [drawn.count(t) for t in TIMES] == [4, 4, 4, 28]


def test_simulated_inputs_come_from_the_student_s_own_steps() -> None:
    process = PROCESSES["v"]
    steps = FewSteps(process, TIMES)
    mine = torch.full((4, 1, 2, 2), 3.0)

    def always(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """A network that sees `mine` whatever it is given."""
        sigma = process.sigmas[t.long()].view(-1, 1, 1, 1).float()
        c_skip, c_out, c_in = process.scalings(sigma)
        return (mine - c_skip * x / c_in) / c_out

    t = torch.tensor([999, 749, 499, 249])
    noise = torch.randn(4, 1, 2, 2)
    x = steps.simulated(always, noise, t, RowDraws([0, 1, 2, 3]))
    sigma = steps.sigma(t, x)
    assert torch.allclose(x[:1], (sigma.square() + 1).sqrt()[:1] * noise[:1])
    for i in (1, 2, 3):
        assert abs(float((x[i] - 3).mean() / sigma[i])) < 2.5  # noise about what the student saw


def test_students_are_used_with_few_steps_and_without_guidance() -> None:
    turbo = few_step_system(SYSTEMS["sdxl-base"], 4)
    assert turbo.schedule == SYSTEMS["sdxl-base"].schedule  # it predicts noise
    assert (turbo.defaults.steps, turbo.defaults.guidance_scale, turbo.defaults.schedule) == (4, 1.0, "trailing")
    velocity = few_step_system(replace(SYSTEMS["sdxl-base"], prediction=Prediction.V), 4)
    assert velocity.schedule.zero_terminal_snr
