import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from darkroom.diffusion.process import DiffusionProcess
from darkroom.diffusion.samplers import SAMPLERS
from darkroom.diffusion.sigma_schedules import SCHEDULES, spaced
from darkroom.diffusion.sigma_schedules import given as sigmas_given
from darkroom.diffusion.truncate import between, for_strength
from darkroom.errors import InputError
from darkroom.names import split_name
from darkroom.noise_schedule import NoiseSchedule

PROCESS = DiffusionProcess(NoiseSchedule("scaled_linear", 0.00085, 0.012), "eps")


@pytest.mark.parametrize(
    ("n", "strength", "steps"), [(50, 0.75, 37), (30, 0.3, 9), (4, 1.0, 4), (100, 0.29, 29), (2, 0.5, 1)]
)
def test_strength_runs_its_share_of_the_steps(n: int, strength: float, steps: int) -> None:
    whole = spaced("karras", PROCESS, n)
    part = for_strength(whole, strength)
    assert len(part) - 1 == steps
    assert torch.equal(part, whole[n - steps :])


def test_strength_in_the_other_convention() -> None:
    whole = spaced("linspace", PROCESS, 9)  # 10 levels with the zero, of which 10 · strength are kept
    assert len(for_strength(whole, 0.75, "generative_models")) == 7
    assert len(for_strength(whole, 1.0, "generative_models")) == 10
    for strength, steps in ((0.75, 7), (0.05, 1), (1.0, 9), (0.0, 1)):  # int(9 · strength) + 1
        assert len(for_strength(whole, strength, "a1111")) == steps + 1


def test_strengths_that_cannot_be() -> None:
    whole = spaced("karras", PROCESS, 10)
    for bad in (-0.1, 1.01, float("nan")):
        with pytest.raises(InputError, match="expected is 0 to 1"):
            for_strength(whole, bad)
    with pytest.raises(InputError, match="none of the 10 steps"):
        for_strength(whole, 0.05)


@pytest.mark.parametrize("schedule", ["leading", "trailing", "karras", "linspace"])
@pytest.mark.parametrize("n", [5, 20, 25, 40, 50])
def test_base_and_refiner_share_the_schedule_without_gap_or_overlap(schedule: str, n: int) -> None:
    whole = spaced(schedule, PROCESS, n)
    base, refiner = between(PROCESS, whole, end=0.8), between(PROCESS, whole, start=0.8)
    assert base[-1] == refiner[0]
    assert torch.equal(torch.cat([base, refiner[1:]]), whole)
    # Diffusers' rule: the refiner runs the timesteps below 200.
    assert (PROCESS.sigma_to_t(base[:-1]) > 199.9).all()
    assert (PROCESS.sigma_to_t(refiner[:-1]) < 199.99).all()


def test_forty_leading_steps_are_cut_as_diffusers_cuts_them() -> None:
    whole = spaced("leading", PROCESS, 40)  # 976, 951 … 1: 32 of them from 200 up
    assert len(between(PROCESS, whole, end=0.8)) - 1 == sum(t >= 200 for t in range(1, 1000, 25))
    assert torch.equal(between(PROCESS, whole), whole)


def test_stretches_that_cannot_be() -> None:
    whole = spaced("trailing", PROCESS, 4)
    for start, end in ((0.5, 0.5), (0.8, 0.2), (-0.1, 1.0), (0.0, 1.2)):
        with pytest.raises(InputError, match="rising shares"):
            between(PROCESS, whole, start, end)
    with pytest.raises(InputError, match="none of the 4 steps"):
        between(PROCESS, whole, 0.9, 1.0)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=6))
def test_sigmas_of_a_user_are_a_schedule_or_refused(values: list[float]) -> None:
    try:
        sigmas = sigmas_given(values)
    except InputError:
        return
    assert len(sigmas) >= 2
    assert sigmas[-1] == 0
    assert sigmas[0] == torch.tensor(values[0])
    assert torch.isfinite(sigmas).all()
    assert (sigmas[:-1] > sigmas[1:]).all()


@given(st.text(max_size=30))
def test_any_name_splits_into_itself_or_a_known_schedule(name: str) -> None:
    sampler, schedule = split_name(name)
    assert sampler == sampler.strip()
    if schedule is None:
        assert sampler == name.strip()
    else:
        assert schedule in SCHEDULES


@given(
    st.sampled_from(list(SAMPLERS)),
    st.sampled_from(["Karras", "exponential", "Polyexponential"]),
    st.integers(min_value=1, max_value=3),
)
def test_old_names_split_back(sampler: str, schedule: str, blanks: int) -> None:
    assert split_name(f" {sampler}{' ' * blanks}{schedule} ") == (sampler, schedule.lower())
    assert split_name(sampler) == (sampler, None)


def test_ids_with_a_schedule() -> None:
    assert split_name("k_dpmpp_2m_ka") == ("k_dpmpp_2m", "karras")
    assert split_name("dpmpp_2m_sde_exponential") == ("dpmpp_2m_sde", "exponential")
    assert split_name("Karras") == ("Karras", None)
