import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given
from hypothesis import strategies as st

from darkroom.diffusion.draws import RowDraws
from darkroom.diffusion.objective import DiffusionLossConfig, diffusion_loss
from darkroom.diffusion.prediction import Prediction
from darkroom.diffusion.process import DiffusionProcess
from darkroom.noise_schedule import NoiseSchedule

SD = NoiseSchedule("scaled_linear", 0.00085, 0.012)


@pytest.mark.parametrize(
    ("start", "end", "last_alpha_bar", "last_sigma", "first_sigma"),
    [  # papers C.1, derived in 64 bits
        (0.00085, 0.012, 0.00466009851, 14.61464, 0.02916716),
        (0.0015, 0.0195, 1.42303975e-4, 83.82249, 0.03875891),
        (0.0015, 0.0155, 6.68665174e-4, 38.65898, 0.03875891),
        (0.0001, 0.02, 7.3341246e-4, 36.91191, 0.0100005),
    ],
)
def test_published_tables(
    start: float, end: float, last_alpha_bar: float, last_sigma: float, first_sigma: float
) -> None:
    process = DiffusionProcess(NoiseSchedule("scaled_linear", start, end), "eps")
    assert float(process.alphas_cumprod[-1]) == pytest.approx(last_alpha_bar, rel=1e-7)
    assert float(process.sigmas[-1]) == pytest.approx(last_sigma, rel=1e-6)
    assert float(process.sigmas[0]) == pytest.approx(first_sigma, rel=1e-6)


@pytest.mark.parametrize(
    ("schedule", "theirs"),
    [
        (SD, {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}),
        (NoiseSchedule("linear", 1e-4, 0.02), {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}),
        (NoiseSchedule("cosine"), {"beta_schedule": "squaredcos_cap_v2"}),
    ],
)
def test_alphas_agree_with_diffusers(schedule: NoiseSchedule, theirs: dict[str, object]) -> None:
    peer = DDIMScheduler(**theirs).alphas_cumprod.double()
    ours = schedule.alphas_cumprod()
    assert torch.allclose(ours[:-1], peer[:-1], rtol=2e-5)  # the peer computes in 32 bits
    assert torch.allclose(ours, peer, rtol=1e-2)


def test_zero_terminal_snr_agrees_with_diffusers_and_ends_in_noise() -> None:
    ours = NoiseSchedule("scaled_linear", 0.00085, 0.012, zero_terminal_snr=True).alphas_cumprod()
    peer = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, rescale_betas_zero_snr=True
    ).alphas_cumprod.double()
    assert torch.allclose(ours[:-1], peer[:-1], rtol=1e-3, atol=1e-7)
    assert float(ours[-1]) == 2**-24
    assert float(ours[749].sqrt()) == pytest.approx(0.182130, abs=1e-5)
    assert float(ours[0]) == pytest.approx(float(SD.alphas_cumprod()[0]))


@given(st.floats(0, 999))
def test_timestep_to_sigma_and_back(t: float) -> None:
    process = DiffusionProcess(SD, "eps")
    assert float(process.sigma_to_t(process.t_to_sigma(torch.tensor(t, dtype=torch.float64)))) == pytest.approx(
        t, abs=1e-6
    )


def test_quantized_timesteps_are_the_nearest_levels() -> None:
    process = DiffusionProcess(SD, "eps")
    t = process.sigma_to_t(process.t_to_sigma(torch.tensor([3.4, 3.6, 998.9])), quantize=True)
    assert t.tolist() == [3, 4, 999]


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_a_perfect_network_denoises_perfectly(prediction: Prediction) -> None:
    process = DiffusionProcess(SD, prediction)
    generator = torch.Generator().manual_seed(0)
    z0, noise = torch.randn(2, 4, 3, 3, generator=generator), torch.randn(2, 4, 3, 3, generator=generator)
    t = torch.tensor([100, 900])
    output = process.target(z0, noise, t)
    sigma = process.sigmas[t]
    x = process.add_noise(z0, noise, t) / process.alphas_cumprod[t].sqrt().float().view(-1, 1, 1, 1)
    seen = {}

    def network(scaled: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        seen["x"], seen["t"] = scaled, timestep
        return output

    x0 = process.denoiser(network)(x, sigma)
    assert torch.allclose(x0, z0, atol=2e-4)
    assert torch.allclose(seen["x"], process.add_noise(z0, noise, t), atol=1e-5)  # the network sees the VP latent
    assert torch.allclose(seen["t"], t.float())


def test_the_loss_of_a_network_that_knows_the_noise_is_zero_and_weights_are_as_published() -> None:
    process = DiffusionProcess(SD, "v")
    z0 = torch.randn(64, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    config = DiffusionLossConfig(min_snr_gamma=5.0, min_timestep=100, max_timestep=199)

    def zero(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)

    plain, t = diffusion_loss(
        process, zero, z0, DiffusionLossConfig(min_timestep=100, max_timestep=199), RowDraws(range(64))
    )
    weighted, again = diffusion_loss(process, zero, z0, config, RowDraws(range(64)))
    assert torch.equal(t, again)
    assert t.min() >= 100
    assert t.max() <= 199
    snr = (process.alphas_cumprod / (1 - process.alphas_cumprod))[t]
    assert torch.allclose(weighted.double(), plain.double() * snr.clamp(max=5) / (snr + 1), rtol=1e-5)
