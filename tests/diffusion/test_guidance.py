import pytest
import torch
from torch import Tensor

from darkroom.diffusion import guidance as g
from darkroom.diffusion.brownian_path import BrownianNoise
from darkroom.diffusion.noise import SeededNoise
from darkroom.diffusion.process import DiffusionProcess
from darkroom.diffusion.samplers import SAMPLERS
from darkroom.diffusion.sigma_schedules import spaced
from darkroom.errors import InputError
from darkroom.noise_schedule import NoiseSchedule

X = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
SIGMA = torch.tensor(1.5)
PROCESS = DiffusionProcess(NoiseSchedule("scaled_linear", 0.00085, 0.012), "eps")


def told(x: Tensor, sigma: Tensor) -> Tensor:
    return 0.5 * x + 1


def untold(x: Tensor, sigma: Tensor) -> Tensor:
    return 0.5 * x - 1 + 0.1 * x.roll(1, 3)


def still(sigma: Tensor, following: Tensor) -> Tensor:
    return torch.zeros(1)


def test_everything_is_the_conditional_estimate_where_it_should_be() -> None:
    cond, uncond = told(X, SIGMA), untold(X, SIGMA)
    ones = torch.ones(1, 1, 6, 6)
    for x0 in (
        g.classifier_free(cond, uncond, 1.0),
        g.rescaled(cond, cond, X, SIGMA, 0.7),
        g.dynamic_threshold(cond, 1.0, limit=100.0),
        g.AdaptiveProjected()(cond, uncond, 1.0),
        g.composed(uncond, [(cond, 1.0)]),
        g.regional([(cond, ones)]),
        g.known_region(told, torch.zeros_like(X), ones)(X, SIGMA),
        g.target_image(told, lambda x0: 0 * x0.sum(dim=(1, 2, 3)), 1.0)(X, SIGMA),
        g.classifier(told, lambda x, s: 0 * x.sum(dim=(1, 2, 3)), 1.0)(X, SIGMA),
    ):
        assert torch.allclose(x0, cond, atol=1e-5)
    scaled = g.dynamic_threshold(cond, 1.0, limit=0.5)
    assert scaled.abs().amax(dim=(1, 2, 3)) == pytest.approx([0.5, 0.5], rel=1e-5)


def test_thresholds_like_another_estimate_keep_the_mean_of_each_channel() -> None:
    x0 = told(X, SIGMA)
    mean = x0.mean(dim=(2, 3), keepdim=True)
    wide = mean + 5 + 3 * (x0 - mean)
    assert torch.allclose(g.dynamic_threshold(wide, 1.0, like=x0), x0 + 5, atol=1e-5)
    narrow = g.dynamic_threshold(x0, 1.0, like=wide)  # nothing lies beyond, and nothing is enlarged
    assert torch.allclose(narrow, x0, atol=1e-5)


def test_rescaling_wholly_gives_the_velocity_of_the_conditional_its_spread_back() -> None:
    skip, cond = X / (SIGMA**2 + 1), told(X, SIGMA)
    guided = g.classifier_free(cond, untold(X, SIGMA), 8.0)
    for phi, like in ((0.0, guided), (1.0, cond)):
        v = skip - g.rescaled(guided, cond, X, SIGMA, phi)
        assert torch.allclose(v.std(dim=(1, 2, 3)), (skip - like).std(dim=(1, 2, 3)), rtol=1e-4)


def test_projected_guidance_moves_across_the_estimate_only() -> None:
    cond, uncond = told(X, SIGMA), untold(X, SIGMA)
    moved = g.AdaptiveProjected(norm=None)(cond, uncond, 5.0) - cond
    along = (moved * cond).sum(dim=(1, 2, 3))
    assert along.abs().max() < 1e-2 * moved.norm() * cond.norm()
    limited = g.AdaptiveProjected(norm=0.1, parallel=1.0)(cond, uncond, 2.0) - cond
    assert limited.flatten(1).norm(dim=1) == pytest.approx([0.1, 0.1], rel=1e-4)


def test_composition_weighs_each_prompt_and_regions_rule_where_they_are() -> None:
    cond, uncond = told(X, SIGMA), untold(X, SIGMA)
    both = g.classifier_free(g.composed(uncond, [(cond, 0.5), (cond, 0.5)]), uncond, 3.0)
    assert torch.allclose(both, g.classifier_free(cond, uncond, 3.0), atol=1e-5)
    left = torch.zeros(1, 1, 6, 6)
    left[..., :3] = 2.0
    split = g.regional([(cond, left), (uncond, 2.0 - left)])
    assert torch.allclose(split[..., :3], cond[..., :3])
    assert torch.allclose(split[..., 3:], uncond[..., 3:])
    with pytest.raises(InputError, match="without a prompt"):
        g.regional([(cond, left)])


@pytest.mark.parametrize("name", ["Euler", "DPM++ 2M", "Heun", "UniPC"])
def test_the_known_region_comes_out_exactly(name: str) -> None:
    known = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(1, 1, 6, 6)
    mask[..., 2:5, 2:5] = 1
    sigmas = spaced("karras", PROCESS, 8)
    for step in SAMPLERS[name](g.known_region(told, known, mask), X * sigmas[0], sigmas, still):
        result = step.x
    outside = (mask == 0).expand_as(known)
    assert torch.allclose(result[outside], known[outside], atol=1e-6)
    assert not torch.allclose(result, known, atol=1e-2)


def test_guided_to_a_target_it_gets_nearer_even_in_inference_mode() -> None:
    target = torch.ones_like(X)

    def distance(x0: Tensor) -> Tensor:
        return 0.5 * (x0 - target).square().sum(dim=(1, 2, 3))

    with torch.inference_mode():
        sigmas = spaced("karras", PROCESS, 12)
        results = []
        for strength in (0.0, 0.3):
            guided = g.target_image(lambda x, s: x / (1 + s**2), distance, strength)
            for step in SAMPLERS["Euler"](guided, X * sigmas[0], sigmas, still):
                x = step.x
            results.append(float(distance(x).mean()))
    assert results[1] < 0.8 * results[0]


def test_gradients_go_through_a_process_and_its_network_in_inference_mode() -> None:
    network = torch.nn.Conv2d(4, 4, 1)

    def loss(x0: Tensor) -> Tensor:
        return x0.square().sum(dim=(1, 2, 3))

    with torch.inference_mode():
        sigma = torch.tensor(2.0)
        denoise = PROCESS.denoiser(lambda x, t: network(x))
        moved = g.target_image(denoise, loss, 1e-3)(X.clone(), sigma)
        classified = g.classifier(denoise, lambda x, s: -loss(denoise(x, s)), 1e-3)(X.clone(), sigma)
        assert loss(moved).sum() < loss(denoise(X, sigma)).sum()
        assert torch.allclose(moved, classified, atol=1e-5)
        # A level made in inference mode may be kept for the way back, too.
        assert torch.isfinite(g.target_image(lambda x, s: network(x) * s, loss, 1e-3)(X.clone(), sigma)).all()


def test_classifier_guidance_follows_the_gradient_of_log_p() -> None:
    shifted = g.classifier(told, lambda x, s: x.sum(dim=(1, 2, 3)), 2.0)(X, SIGMA)
    assert torch.allclose(shifted, told(X, SIGMA) + 2.0 * SIGMA**2, atol=1e-5)


def test_wrappers_stack() -> None:
    def guided(x: Tensor, sigma: Tensor) -> Tensor:
        cond, uncond = told(x, sigma), untold(x, sigma)
        x0 = g.rescaled(g.classifier_free(cond, uncond, 4.0), cond, x, sigma, 0.7)
        return g.dynamic_threshold(x0, 0.995, limit=3.0)

    stack = g.known_region(guided, torch.zeros_like(X), torch.ones(1, 1, 6, 6))
    for step in SAMPLERS["DPM++ 2M"](stack, X * 14, spaced("karras", PROCESS, 6), still):
        x = step.x
    assert torch.isfinite(x).all()


def brownian(seeds: list[int]) -> BrownianNoise:
    return BrownianNoise(seeds, (4000,), 0.03, 14.6)


def test_brownian_increments_are_normal_independent_and_add_up() -> None:
    w = brownian([3])
    a, b, c = (torch.tensor(s) for s in (10.0, 6.0, 1.0))
    first, second, whole = w(a, b), w(b, c), w(a, c)
    assert torch.allclose(first * 4.0**0.5 + second * 5.0**0.5, whole * 9.0**0.5, atol=1e-4)
    for noise in (first, second, whole):
        assert float(noise.mean()) == pytest.approx(0, abs=0.05)
        assert float(noise.std()) == pytest.approx(1, abs=0.05)
    assert float((first * second).mean()) == pytest.approx(0, abs=0.05)


def test_a_path_depends_on_its_seed_alone() -> None:
    a, b = torch.tensor(5.0), torch.tensor(4.0)
    assert torch.equal(brownian([8])(a, b)[0], brownian([1, 8])(a, b)[1])
    assert not torch.equal(*brownian([1, 8])(a, b))


def test_sde_samplers_agree_across_step_counts_on_one_path() -> None:
    """With a Brownian path finer steps converge to one sample; with fresh noise each step they do not."""

    def gaussian(x: Tensor, sigma: Tensor) -> Tensor:
        return x * 1.69 / (1.69 + sigma**2)

    results: dict[str, list[Tensor]] = {"path": [], "fresh": []}
    for n in (100, 200):
        sigmas = spaced("karras", PROCESS, n)
        for kind in results:
            noise = BrownianNoise([2], (1, 8, 8), 0.02, 15.0) if kind == "path" else SeededNoise([2], (1, 8, 8))
            x = torch.full((1, 1, 8, 8), 8.0)
            for step in SAMPLERS["DPM++ 2M SDE"](gaussian, x, sigmas, noise):
                x = step.x
            results[kind].append(x)
    path, fresh = (float((a - b).abs().mean()) for a, b in (results["path"], results["fresh"]))
    assert path < 0.1
    assert fresh > 5 * path
