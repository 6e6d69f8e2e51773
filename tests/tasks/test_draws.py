"""Where runs begin: scales and sources of noise in the seed modes."""

from dataclasses import replace

import pytest
import torch

from darkroom.diffusion.brownian_path import BrownianNoise, BrownianTree, philox_normal
from darkroom.diffusion.noise import SeededNoise
from darkroom.requests.plan import plan
from darkroom.systems.build import LatentDiffusion
from darkroom.tasks.draws import Draws
from darkroom.types import NoiseSource, Request

SHAPE = (8, 4, 4)
SDE = Request("a cat", seed=5, sampler="DPM++ 2M SDE")


def source(model: LatentDiffusion, request: Request, sigmas: torch.Tensor) -> NoiseSource:
    one = replace(plan(request, model.system), sigmas=sigmas)
    return Draws(one, SHAPE, model.device).steps(model.process)


def test_sde_samplers_draw_along_the_path_of_their_tool(tiny_model: LatentDiffusion) -> None:
    sigmas = torch.tensor([9.0, 4.0, 1.0, 0.0])
    a, b = sigmas[0], sigmas[1]
    assert isinstance(source(tiny_model, SDE, sigmas), BrownianNoise)
    assert isinstance(source(tiny_model, replace(SDE, seed_mode="diffusers"), sigmas), SeededNoise)
    for mode, tree in (
        ("comfyui", BrownianTree([5], SHAPE, 1.0, 9.0)),
        ("a1111-cpu", BrownianTree([5], SHAPE, 1.0, 9.0)),
        ("nv", BrownianTree([5], SHAPE, 1.0, 9.0, normal=philox_normal)),
    ):
        assert torch.equal(source(tiny_model, replace(SDE, seed_mode=mode), sigmas)(a, b), tree(a, b))
    assert isinstance(source(tiny_model, replace(SDE, sampler="Euler a"), sigmas), SeededNoise)


def test_levels_of_the_user_outside_the_process_get_their_noise(tiny_model: LatentDiffusion) -> None:
    sigmas = torch.tensor([900.0, 400.0, 200.0, 1e-3, 1e-4, 0.0])
    noise = source(tiny_model, replace(SDE, sigmas=tuple(sigmas.tolist())), sigmas)
    for i in (0, 1, 3):
        assert float(noise(sigmas[i], sigmas[i + 1]).std()) == pytest.approx(1, abs=0.3)


def test_the_first_latent_of_each_tool(tiny_model: LatentDiffusion) -> None:
    sigma = torch.tensor(3.0)

    def scale(mode: str, sampler: str) -> float:
        one = plan(Request(seed_mode=mode, sampler=sampler), tiny_model.system)
        return float(one.stepping.starting_scale(sigma))

    assert scale("darkroom", "Euler") == scale("comfy", "Euler") == scale("a1111", "DDIM") == pytest.approx(10**0.5)
    assert scale("a1111", "Euler a") == scale("a1111-cpu", "LCM") == scale("NV", "DPM++ 2M") == 3
