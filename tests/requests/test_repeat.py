from darkroom.requests.repeat import repeated
from darkroom.types import HighResolution, Request

FOUND = Request(
    "a cat",
    steps=20,
    sampler="Euler a",
    schedule="karras",
    sampler_options={"eta": 0.5},
    schedule_options={"rho": 5.0},
    sigmas=(3.0, 1.0, 0.0),
    hires=HighResolution(2.0, 0.4),
)


def test_one_setting_leaves_the_others() -> None:
    assert repeated(FOUND, {}) == FOUND
    assert repeated(FOUND, {"hires.steps": 3}).hires == HighResolution(2.0, 0.4, 3)
    assert repeated(FOUND, {"sampler_options.s_noise": 1.0}).sampler_options == {"eta": 0.5, "s_noise": 1.0}


def test_what_a_change_makes_meaningless_goes() -> None:
    other = repeated(FOUND, {"sampler": "DPM++ 2M"})
    assert (other.sampler_options, other.schedule, other.schedule_options) == ({}, "karras", {"rho": 5.0})
    carried = repeated(FOUND, {"sampler": "DPM++ 2M Exponential"})
    assert (carried.schedule, carried.schedule_options) == (None, {})
    assert repeated(FOUND, {"schedule": "simple"}).schedule_options == {}
    assert repeated(FOUND, {"steps": 3}).sigmas is None
    assert repeated(FOUND, {"steps": 2, "sigmas": (2.0, 0.0)}).sigmas == (2.0, 0.0)
