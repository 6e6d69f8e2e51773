"""What a plan says to the user before the picture is drawn, and the levels that it runs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from darkroom.diffusion.process import DiffusionProcess
from darkroom.errors import InputError
from darkroom.noise_schedule import NoiseSchedule
from darkroom.requests.plan import plan
from darkroom.systems import SYSTEMS
from darkroom.systems.picturebook import PICTUREBOOK
from darkroom.systems.system import System
from darkroom.types import Guidance, HighResolution, Request

PROCESS = DiffusionProcess(NoiseSchedule("scaled_linear", 0.00085, 0.012), "eps")
IMAGE = np.zeros((128, 256, 3), np.uint8)


def test_a_mask_of_another_size_is_scaled_and_that_is_said() -> None:
    mask = np.zeros((32, 64), np.uint8)
    mask[:, 32:] = 1
    made = plan(Request(image=IMAGE, mask=mask), PICTUREBOOK)
    assert made.remarks == ("the mask is 64x32, the image 256x128: the mask is scaled to fit",)
    scaled = made.soft_mask()
    assert scaled.shape == (128, 256)
    assert not scaled[:, :128].any()
    assert scaled[:, 128:].all()


def test_there_is_nothing_to_say_of_a_mask_that_fits() -> None:
    assert plan(Request(image=IMAGE, mask=np.ones((128, 256), np.uint8)), PICTUREBOOK).remarks == ()
    assert plan(Request(), PICTUREBOOK).remarks == ()


def test_guidance_holds_for_the_steps_that_its_system_names() -> None:
    system = replace(PICTUREBOOK, defaults=replace(PICTUREBOOK.defaults, guidance_interval=(0.0, 0.6)))
    assert plan(Request(), system).guidance_interval == (0.0, 0.6)
    assert plan(Request(), system).filled().guidance == Guidance(interval=(0.0, 0.6))
    said = Request(guidance=Guidance(interval=(0.0, 1.0), apg=True))
    assert plan(said, system).guidance_interval == (0.0, 1.0)
    assert plan(said, system).filled().guidance == said.guidance
    wrong = replace(PICTUREBOOK, defaults=replace(PICTUREBOOK.defaults, guidance_interval=(0.6, 0.0)))
    with pytest.raises(InputError, match=r"guidance from 0.6 to 0.0 of the steps"):
        plan(Request(), wrong)


def levels(request: Request, system: System) -> list[float]:
    sigmas = plan(request, system).sigmas
    return [round(float(t), 1) for t in PROCESS.sigma_to_t(sigmas[:-1])]


def test_samplers_step_as_in_the_tool_whose_seeds_are_drawn() -> None:
    """DDIM of A1111 takes 31 steps for 30; Diffusers keeps the spacing that a system's configuration names."""
    sd1, sdxl = SYSTEMS["sd-v1-5"], SYSTEMS["sdxl-base"]
    for sampler in (None, "DDIM", "PLMS"):
        request = Request(steps=30, seed_mode="a1111", sampler=sampler)
        assert levels(request, sd1) == list(range(991, 0, -33))
        assert plan(request, sd1).sampler_options["end"] == pytest.approx(float(PROCESS.sigmas[0]))
    assert levels(Request(steps=30), sd1)[0] == 958
    assert levels(Request(steps=30, seed_mode="comfy", sampler="DDIM"), sd1)[0] == 991
    in_diffusers = Request(steps=30, seed_mode="diffusers")
    assert levels(in_diffusers, sd1)[0] == 958
    assert levels(replace(in_diffusers, sampler="UniPC"), sd1)[:2] == [999, 966]
    assert levels(replace(in_diffusers, sampler="UniPC"), sdxl)[:2] == [961, 929]
    assert levels(in_diffusers, sdxl)[0] == 958
    karras = plan(replace(in_diffusers, sampler="Euler", schedule="karras"), sdxl)
    assert float(karras.sigmas[0]) == pytest.approx(float(PROCESS.t_to_sigma(torch.tensor(958.0))))
    assert not karras.stepping.starts_at_sigma
    assert plan(replace(in_diffusers, sampler="Euler", schedule="karras"), sd1).stepping.starts_at_sigma


@pytest.mark.parametrize("name", ["picturebook", "sd-turbo", "sdxl-turbo"])
@pytest.mark.parametrize("sampler", ["DDIM", "DDPM", "PLMS"])
def test_a_model_that_begins_at_the_last_timestep_does_so_with_any_sampler(name: str, sampler: str) -> None:
    def first(request: Request) -> str:
        return plan(request, SYSTEMS[name]).schedule

    own = Request(steps=1, sampler=sampler)
    assert first(own) == "trailing"
    assert first(replace(own, schedule="leading")) == "leading"
    assert first(replace(own, seed_mode="a1111")) == "ddim_uniform"


def test_options_of_the_schedule() -> None:
    one = plan(Request(steps=9, schedule="karras", schedule_options={"sigma_max": 10, "rho": 5}), PICTUREBOOK)
    assert float(one.sigmas[0]) == pytest.approx(10)
    with pytest.raises(InputError, match="unknown key rho"):
        plan(Request(steps=9, schedule="simple", schedule_options={"rho": 5}), PICTUREBOOK)
    with pytest.raises(InputError, match="sigmas are given; rho of a schedule says nothing then"):
        plan(Request(sigmas=(3.0, 1.0), schedule_options={"rho": 5}), PICTUREBOOK)


def test_steps_over_a_picture_count_as_in_a1111() -> None:
    """img2img runs int(steps · strength) + 1 of its k-diffusion samplers; a second pass runs all of its steps."""
    system = SYSTEMS["sd-v1-5"]
    image = np.zeros((64, 64, 3), np.uint8)
    over = Request(image=image, width=64, height=64, steps=20, strength=0.5, sampler="Euler a")
    for mode, sampler, steps in (("darkroom", "Euler a", 10), ("a1111", "Euler a", 11), ("a1111", "DDIM", 10)):
        made = plan(replace(over, seed_mode=mode, sampler=sampler), system)
        assert len(made.sigmas) - 1 == steps
    twice = Request(width=64, height=64, steps=20, sampler="Euler a", hires=HighResolution(2.0, 0.5, steps=8))
    for mode, steps in (("darkroom", 4), ("a1111_cpu", 8)):
        second = plan(replace(twice, seed_mode=mode), system).second
        assert second is not None
        assert len(second.sigmas) - 1 == steps
        assert second.sigmas[-1] == 0
    assert plan(Request(seed=2**64 - 1, variation_seed=2**64 - 1), system).request.seed == 2**64 - 1
    with pytest.raises(InputError, match=f"the seed is {2**64}, expected is 0 to {2**64 - 1}"):
        plan(Request(seed=2**64), system)
