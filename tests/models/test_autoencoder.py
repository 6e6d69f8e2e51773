from dataclasses import replace

import pytest
import torch
from torch import nn

from darkroom.models.autoencoder import Autoencoder, AutoencoderConfig
from darkroom.models.bottleneck import KLConfig, Posterior, VectorQuantizer, VQConfig


def stage(
    mult: tuple[int, ...], z: int, attention: tuple[int, ...] = (), *, mid: bool = True, codes: int = 0
) -> AutoencoderConfig:
    return AutoencoderConfig(
        channels=128,
        channel_mult=mult,
        num_res_blocks=2,
        decoder_res_blocks=3,
        attention=tuple(i in attention for i in range(len(mult))),
        mid_attention=mid,
        z_channels=z,
        latent_channels=z,
        bottleneck=VQConfig(codes) if codes else KLConfig(),
    )


@pytest.mark.parametrize(
    ("config", "factor", "count"),
    [  # checkpoints of the papers, B.1
        (stage((1, 2, 4), 3), 4, 55_312_063),
        (stage((1, 2, 4, 4), 4), 8, 83_653_863),
        (stage((1, 1, 2, 2, 4), 16, (4,)), 16, 69_610_963),
        (stage((1, 1, 2, 2, 4, 4), 64, (4, 5)), 32, 103_880_131),
        (stage((1, 2, 4), 3, codes=8192), 4, 55_322_782),
        (stage((1, 2, 4), 3, mid=False, codes=8192), 4, 53_219_486),
        (stage((1, 2, 2, 4), 4, (3,), codes=16384), 8, 67_717_295),
        (stage((1, 2, 2, 4), 4, (3,), codes=256), 8, 67_652_783),
        (stage((1, 1, 2, 2, 4), 8, (4,), codes=16384), 16, 69_593_371),
    ],
)
def test_parameter_counts(config: AutoencoderConfig, factor: int, count: int) -> None:
    assert config.factor == factor
    with torch.device("meta"):
        assert sum(p.numel() for p in Autoencoder(config).parameters()) == count


def tiny(codes: int = 0, patch: int = 1) -> Autoencoder:
    torch.manual_seed(0)
    bottleneck = VQConfig(codes) if codes else KLConfig()
    return Autoencoder(AutoencoderConfig(32, (1, 1), 1, 1, (False, True), True, 4, 3, bottleneck, patch)).eval()


@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("codes", [0, 16])
def test_shapes_there_and_back(patch: int, codes: int) -> None:
    net = tiny(codes, patch)
    images = torch.rand(2, 3, 16, 24) * 2 - 1
    latents = net.encode(images)
    assert latents.shape == (2, 3, 16 // net.config.factor, 24 // net.config.factor)
    assert net.decode(latents).shape == images.shape


def test_noise_draws_from_the_posterior() -> None:
    net, images = tiny(), torch.rand(1, 3, 16, 16)
    posterior = Posterior.from_moments(net.moments(images))
    noise = torch.randn(posterior.mean.shape)
    assert torch.equal(net.encode(images), posterior.mean)
    assert torch.allclose(net.encode(images, noise), posterior.mean + posterior.logvar.exp().sqrt() * noise)


def test_kl_is_zero_at_the_unit_normal_and_as_torch_says_elsewhere() -> None:
    mean, logvar = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (0.5 * logvar).exp()), torch.distributions.Normal(0.0, 1.0)
    ).sum(dim=(1, 2, 3))
    assert torch.allclose(Posterior(mean, logvar).kl(), theirs, rtol=1e-5)
    assert Posterior(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)).kl() == 0
    assert Posterior.from_moments(torch.full((1, 2, 1, 1), 99.0)).logvar == 20


def test_the_quantizer_takes_the_nearest_code_and_passes_gradients() -> None:
    torch.manual_seed(1)
    quantizer = VectorQuantizer(VQConfig(5, beta=0.25, legacy=True), 3)
    torch.nn.init.normal_(quantizer.embedding.weight)
    z = torch.randn(2, 3, 4, 4, requires_grad=True)
    result = quantizer(z)
    flat = z.permute(0, 2, 3, 1).reshape(-1, 3)
    nearest = torch.cdist(flat, quantizer.embedding.weight).argmin(1)
    assert torch.equal(result.codes.flatten(), nearest)
    assert torch.allclose(result.z, quantizer.lookup(result.codes))
    (gradient,) = torch.autograd.grad(result.z.sum(), z, retain_graph=True)
    assert torch.equal(gradient, torch.ones_like(z))
    error = (result.z - z).square().mean()
    assert result.loss.item() == pytest.approx(1.25 * error.item(), rel=1e-5)
    assert 1 <= result.perplexity.item() <= 5
    # Legacy puts beta on the codebook term: the pull on z is whole, that on the codes a quarter.
    (pull,) = torch.autograd.grad(result.loss, z)
    assert torch.allclose(pull, 2 * (z - result.z.detach()) / z.numel(), atol=1e-6)


def test_an_already_quantized_latent_decodes_as_itself() -> None:
    net = tiny(codes=16)
    codes = torch.randint(16, (1, 8, 8))
    z = net.quantizer.lookup(codes)  # type: ignore[union-attr]
    assert torch.equal(net.decode(z), net.decode_unquantized(z))


def test_refinement_starts_as_no_correction_and_reaches_across_patches() -> None:
    torch.manual_seed(0)
    config = AutoencoderConfig(32, (1, 1), 1, 1, (False, False), False, 4, 4, KLConfig(), 4)
    plain, refined = Autoencoder(config).eval(), Autoencoder(replace(config, refine_channels=5)).eval()
    state = refined.state_dict()
    for name, tensor in plain.state_dict().items():  # the picture's rows of the last convolution come first
        state[name][: len(tensor)].copy_(tensor)
    z = torch.randn(1, 4, 4, 4)
    with torch.no_grad():
        assert torch.allclose(refined.decode(z), plain.decode(z), atol=1e-6)
        refine = refined.decoder.refine
        assert refine is not None
        nn.init.normal_(refine.conv_out.weight)
        x = torch.zeros(1, 8, 12, 12)
        x[0, 3, 5, 5] = 1.0  # a feature, not the picture
        changed = (refine(x) - refine(torch.zeros_like(x))).abs().sum(dim=(0, 1)) > 0
        assert changed[3:8, 3:8].all()
        assert not changed[:3].any()


def test_latents_are_standardized_and_decoded_as_before() -> None:
    torch.manual_seed(0)
    model = tiny()
    for p in model.parameters():
        nn.init.normal_(p, std=0.1)
    images = torch.randn(6, 3, 16, 16)
    with torch.no_grad():
        latents, decoded = model.encode(images), model.decode(model.encode(images))
        spread = Posterior.from_moments(model.moments(images)).logvar.exp().sqrt()
        mean, std = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
        model.standardize_latents(mean, std)
        standard = model.encode(images)
        assert torch.allclose(standard.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4)
        assert torch.allclose(standard.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-4)
        after = Posterior.from_moments(model.moments(images)).logvar.exp().sqrt()
        assert torch.allclose(after, spread / std.view(-1, 1, 1), rtol=1e-4)  # the posterior's spread goes along
        assert torch.allclose(model.decode(standard), decoded, atol=1e-4)
