"""The levels of noise that schedules name."""

import numpy as np
import pytest
import torch

from darkroom.diffusion.process import DiffusionProcess
from darkroom.diffusion.sigma_schedules import SCHEDULES, given, spaced
from darkroom.errors import InputError
from darkroom.noise_schedule import NoiseSchedule

PROCESS = DiffusionProcess(NoiseSchedule("scaled_linear", 0.00085, 0.012), "eps")


@pytest.mark.parametrize("name", list(SCHEDULES))
@pytest.mark.parametrize("n", [1, 2, 10, 25, 50])
def test_schedules_fall_to_zero(name: str, n: int) -> None:
    if name == "turbo" and n > 10:
        with pytest.raises(InputError, match="1 to 10"):
            spaced(name, PROCESS, n)
        return
    sigmas = spaced(name, PROCESS, n)
    assert len(sigmas) == n + 1 or name == "ddim_uniform"
    assert sigmas[-1] == 0
    assert (sigmas[:-1] > sigmas[1:]).all()


def test_all_the_levels_there_are() -> None:
    assert torch.allclose(spaced("leading", PROCESS, 1000)[:-1].double(), PROCESS.sigmas.flip(0), rtol=1e-6)


def test_schedules_that_cannot_be() -> None:
    with pytest.raises(InputError, match="steps is 0"):
        spaced("karras", PROCESS, 0)
    for bad in ([], [1.0, 2.0], [1.0, float("nan")], [1.0, 1.0], [2.0, -1.0], [float("inf"), 1.0]):
        with pytest.raises(InputError, match="sigmas"):
            given(bad)
    assert given([3, 1]).tolist() == [3, 1, 0]
    assert given([3, 1, 0]).tolist() == [3, 1, 0]


def test_known_levels_of_schedules() -> None:
    def timesteps(name: str, n: int) -> list[float]:
        return [round(float(t), 3) for t in PROCESS.sigma_to_t(spaced(name, PROCESS, n)[:-1])]

    assert timesteps("trailing", 4) == [999, 749, 499, 249]
    assert timesteps("turbo", 4) == [999, 899, 799, 699]
    assert timesteps("leading", 10)[0] == 901
    assert timesteps("sgm_uniform", 3) == [999, 666, 333]
    assert timesteps("lcm", 4) == [999, 759, 499, 259]
    assert float(spaced("align_your_steps", PROCESS, 10)[1]) == pytest.approx(6.475)
    ends = spaced("kl_optimal", PROCESS, 9)
    assert float(ends[0]) == pytest.approx(14.61464, rel=1e-5)
    assert float(ends[-2]) == pytest.approx(0.02916716, rel=1e-4)


def test_the_schedule_of_generative_models() -> None:
    for n in (4, 10):
        assert torch.equal(spaced("legacy_ddpm", PROCESS, n), spaced("trailing", PROCESS, n))
    for n in (1, 7, 30, 50, 999):
        steps = np.linspace(999, 0, n, endpoint=False).astype(int)
        assert torch.allclose(spaced("generative_models", PROCESS, n)[:-1].double(), PROCESS.sigmas[steps], rtol=1e-6)
