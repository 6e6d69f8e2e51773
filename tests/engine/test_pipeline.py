import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from darkroom.engine.pipeline import Pipeline, Progress
from darkroom.errors import InputError
from darkroom.requests.plan import plan
from darkroom.systems.build import LatentDiffusion
from darkroom.types import Request

CAT = Request(prompt="a red cat", seed=3)
HOUSE = Request(prompt="a house on the sea at night", seed=4, negative_prompt="a cat")


@pytest.fixture
def pipeline(tiny_model: LatentDiffusion) -> Pipeline:
    return Pipeline(tiny_model)


def test_the_same_request_gives_the_same_bytes_and_every_field_matters(pipeline: Pipeline) -> None:
    def draw(request: Request) -> np.ndarray:
        return pipeline.generate([request])[0].pixels

    first = draw(CAT)
    assert first.shape == (32, 32, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, draw(CAT))
    for change in (
        {"prompt": "a blue cat"},
        {"negative_prompt": "a dog"},
        {"seed": 4},
        {"steps": 5},
        {"guidance_scale": 2.0},
        {"sampler": "Euler a"},
        {"schedule": "trailing"},
        {"inputs": {"crop": (50, 0)}},
    ):
        assert not np.array_equal(first, draw(replace(CAT, **change))), change


@pytest.mark.parametrize("sampler", ["DPM++ 2M", "Euler a", "DPM++ 2M SDE"])
def test_a_picture_does_not_depend_on_its_batch(pipeline: Pipeline, sampler: str) -> None:
    requests = [replace(r, sampler=sampler) for r in (CAT, HOUSE, replace(CAT, seed=9), replace(HOUSE, width=48))]
    together = pipeline.generate(requests)
    for request, picture in zip(requests, together):
        alone = pipeline.generate([request])[0].pixels.astype(int)
        assert np.abs(alone - picture.pixels).max() <= 1
    assert together[3].pixels.shape == (32, 48, 3)


def test_steps_are_shown_and_leaving_early_cancels(pipeline: Pipeline) -> None:
    events = list(pipeline.run([CAT, HOUSE], batch_size=1))
    assert [type(e) for e in events] == [*[Progress] * 4, tuple, *[Progress] * 4, tuple]
    assert [(e.index, e.step.index) for e in events if isinstance(e, Progress)] == [
        (picture, step) for picture in (0, 1) for step in range(4)
    ]
    together = [(e.index, e.step.index) for e in pipeline.run([CAT, HOUSE]) if isinstance(e, Progress)]
    assert together == [(picture, step) for step in range(4) for picture in (0, 1)]
    first = next(iter(pipeline.run([CAT])))
    assert isinstance(first, Progress)
    assert first.index == 0


def test_without_guidance_the_negative_prompt_is_not_read(pipeline: Pipeline) -> None:
    a, b = (pipeline.generate([replace(CAT, guidance_scale=1.0, negative_prompt=n)])[0].pixels for n in ("", "a dog"))
    assert np.array_equal(a, b)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 100}, "width is 100; tiny makes sides of 16 to 8192 in multiples of 16"),
        ({"height": 0}, "height is 0"),
        ({"width": 100_000}, "width is 100000"),
        ({"steps": 0}, "the number of steps is 0, expected is 1 to 1000"),
        ({"steps": -3}, "the number of steps is -3"),
        ({"guidance_scale": float("nan")}, "the guidance scale is nan"),
        ({"seed": -1}, "the seed is -1"),
        ({"sampler": "eulr"}, "unknown sampler 'eulr'; known are: Euler"),
        ({"schedule": "karas"}, "unknown schedule 'karas'; known are: karras"),
    ],
)
def test_bad_requests_are_refused_before_any_work(pipeline: Pipeline, change: dict[str, object], message: str) -> None:
    bad = replace(CAT, **change)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        next(iter(pipeline.run([CAT, bad])))


def test_gaps_are_filled_with_the_defaults_of_the_system(tiny_model: LatentDiffusion) -> None:
    p = plan(Request(sampler="dpmpp_2m", schedule="Karras"), tiny_model.system)
    assert (p.width, p.height, p.steps, p.guidance_scale) == (32, 32, 4, 3.0)
    assert (p.sampler, p.schedule) == ("DPM++ 2M", "karras")


def test_a_latent_that_breaks_names_the_step(tiny_model: LatentDiffusion) -> None:
    broken = copy.deepcopy(tiny_model)
    with torch.no_grad():
        broken.unet.conv_out.bias.fill_(float("nan"))
    with pytest.raises(InputError, match="no longer finite after step 1 of 4"):
        Pipeline(broken).generate([CAT])


@pytest.mark.parametrize("sampler", ["Euler a CFG++", "DPM++ 2M CFG++", "RES multistep CFG++", "DDIM CFG++"])
def test_samplers_of_cfg_pp_have_their_unconditional_estimate(pipeline: Pipeline, sampler: str) -> None:
    """At every guidance scale, under a mask, with a target; another picture than without."""
    image, mask = np.full((32, 32, 3), 200, np.uint8), np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 1
    base = replace(CAT, sampler=sampler, steps=4, guidance_scale=9.0)
    requests = [base, replace(base, guidance_scale=1.0), replace(base, image=image, mask=mask)]
    requests.append(replace(base, target=image))
    pictures = [p.pixels for p in pipeline.generate(requests)]
    assert len({p.tobytes() for p in pictures}) == len(requests)
    assert np.array_equal(pictures[2][mask == 0], image[mask == 0])


def test_the_noise_of_steps_from_another_seed(pipeline: Pipeline) -> None:
    """A deterministic sampler does not notice it."""
    for sampler, same in (("Euler", True), ("Euler a", False)):
        request = replace(CAT, sampler=sampler, seed_mode="a1111", steps=4)
        plain, moved = pipeline.generate([request, replace(request, eta_noise_seed_delta=31337)])
        assert np.array_equal(plain.pixels, moved.pixels) == same
