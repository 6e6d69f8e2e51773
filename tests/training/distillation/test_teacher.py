"""What the teacher makes the student's aim, against the gradients that the papers name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from darkroom.conditioning.conditioning import Conditioning
from darkroom.diffusion.draws import RowDraws
from darkroom.diffusion.process import DiffusionProcess
from darkroom.errors import InputError
from darkroom.noise_schedule import NoiseSchedule
from darkroom.training.distillation.teacher import Teacher, TeacherConfig, Told, aim

PLAIN = NoiseSchedule("scaled_linear", 0.00085, 0.012)
PROMPT, NOTHING, NEGATIVE = (Conditioning(vector=torch.full((4, 1), v)) for v in (1.0, 0.0, -1.0))
SEEDS = [3, 1, 4, 5]


def predicted(x: Tensor, t: Tensor, vector: Tensor) -> Tensor:
    """Noise as this teacher sees it: of the scaled input, the time and the condition."""
    return torch.tanh(0.7 * x) + 0.1 * vector.view(-1, 1, 1, 1).double() + (t / 1000).view(-1, 1, 1, 1).double()


def teacher(prediction: str = "eps", guided_from: int = 0, guided_to: int | None = None) -> Teacher:
    model: Any = SimpleNamespace(
        process=DiffusionProcess(PLAIN, prediction),
        dtype=torch.float64,
        network=lambda x, t, conditioning: predicted(x, t, conditioning.vector),
    )
    return Teacher(model, guided_from, guided_to)


def drawn() -> tuple[Tensor, Tensor, Tensor]:
    """(t, noise, sigma) that `aim` draws for SEEDS."""
    draws = RowDraws(SEEDS)
    t = (draws.uniform() * 1000).long()
    noise = draws.normal(2, 4, 4).double()
    return t, noise, DiffusionProcess(PLAIN, "eps").sigmas[t].view(-1, 1, 1, 1)


def gradient(config: TeacherConfig) -> Tensor:
    """Of the sum over elements of the weighted squared distance, at the student's latents."""
    z = torch.linspace(-1, 1, 4 * 2 * 16, dtype=torch.float64).view(4, 2, 4, 4).requires_grad_(True)
    found = aim(teacher(), config, z, Told(PROMPT, NOTHING, NEGATIVE), RowDraws(SEEDS))
    (found.weight.double().view(-1, 1, 1, 1) * (z - found.latents).square()).sum().backward()
    assert z.grad is not None
    return z.grad


def seen(conditioning: Conditioning) -> tuple[Tensor, Tensor, Tensor]:
    """The teacher's noise under `conditioning`, that which was added, and t."""
    t, noise, sigma = drawn()
    z = torch.linspace(-1, 1, 4 * 2 * 16, dtype=torch.float64).view(4, 2, 4, 4)
    x = (z + sigma * noise) / (1 + sigma.square()).sqrt()
    assert conditioning.vector is not None
    return predicted(x, t, conditioning.vector), noise, t


def test_sds_has_the_gradient_of_score_distillation() -> None:
    """ε̂ − ε, exactly, with float64 all through."""
    theirs, noise, _ = seen(PROMPT)
    assert torch.allclose(gradient(TeacherConfig("sds")), theirs - noise, rtol=1e-9, atol=1e-9)


def test_sds_is_guided() -> None:
    theirs, noise, _ = seen(PROMPT)
    null = seen(NOTHING)[0]
    found = gradient(TeacherConfig("sds", guidance=(4.0, 4.0)))
    assert torch.allclose(found, null + 4 * (theirs - null) - noise, rtol=1e-9, atol=1e-9)


def test_the_teacher_is_guided_between_two_timesteps() -> None:
    _, noise, t = seen(PROMPT)
    low, high = (int(n) for n in t.sort().values[1:3])  # a row on either side
    x, told, scale = noise, Told(PROMPT, NOTHING), torch.full((4,), 4.0, dtype=torch.float64)
    guided, plain = teacher().guided(x, t, told, scale), teacher().guided(x, t, told, None)
    for bounds in ((low, high), (low, None), (0, high)):
        first, last = bounds[0], 1000 if bounds[1] is None else bounds[1]
        expected = torch.where(((first <= t) & (t <= last)).view(-1, 1, 1, 1), guided, plain)
        assert torch.allclose(teacher("eps", *bounds).guided(x, t, told, scale), expected, rtol=1e-9, atol=1e-9)
        assert not torch.allclose(expected, guided)


def test_the_last_guided_timestep_lies_behind_the_first() -> None:
    with pytest.raises(InputError, match="guided_to is 100, expected is a timestep from guided_from, 188, up"):
        TeacherConfig(guided_from=188, guided_to=100)


def test_nfsd_leaves_the_noise_out() -> None:
    """δ_D + s δ_C, with ε() below timestep 200 and ε() − ε(negative) above."""
    theirs, null, negative = (seen(c)[0] for c in (PROMPT, NOTHING, NEGATIVE))
    t = seen(PROMPT)[2].view(-1, 1, 1, 1)
    bound = int(t.median())  # some rows on either side
    expected = torch.where(t < bound, null, null - negative) + 7.5 * (theirs - null)
    found = gradient(TeacherConfig("nfsd", nfsd_timestep=bound))
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_exponential_weights_are_alpha() -> None:
    z = torch.zeros(4, 2, 4, 4, dtype=torch.float64)
    found = aim(teacher(), TeacherConfig(), z, Told(PROMPT), RowDraws(SEEDS))
    t = drawn()[0]
    assert torch.allclose(found.weight, DiffusionProcess(PLAIN, "eps").alphas_cumprod[t].sqrt())


@pytest.mark.parametrize("steps", [2, 4])
def test_more_steps_of_the_teacher_follow_ddim(steps: int) -> None:
    t, noise, sigma = drawn()
    z = torch.zeros(4, 2, 4, 4, dtype=torch.float64)
    found = aim(teacher(), TeacherConfig(steps=steps), z, Told(PROMPT), RowDraws(SEEDS)).latents
    process = DiffusionProcess(PLAIN, "eps")
    x = z + sigma * noise
    for left in range(steps, 0, -1):
        now = process.sigmas[t * left // steps].view(-1, 1, 1, 1)
        assert PROMPT.vector is not None
        eps = predicted(x / (1 + now.square()).sqrt(), t * left // steps, PROMPT.vector)
        x0 = x - now * eps
        if left > 1:
            x = x0 + process.sigmas[t * (left - 1) // steps].view(-1, 1, 1, 1) * eps
    assert torch.allclose(found, x0, rtol=1e-9, atol=1e-9)
