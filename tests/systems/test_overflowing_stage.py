"""A first stage that overflows half precision gives the picture of float32, never a black one; damage is named."""

import logging
from copy import deepcopy

import pytest
import torch

from darkroom.errors import InputError
from darkroom.systems.build import LatentDiffusion


def overflowing(model: LatentDiffusion) -> LatentDiffusion:
    """In float16, with values behind the first convolutions that float16 does not hold and norms bring back."""
    model = deepcopy(model)
    with torch.no_grad():
        for half in (model.autoencoder.encoder, model.autoencoder.decoder):
            half.conv_in.weight *= 1e6 / half.conv_in.weight.abs().max()
            half.conv_in.weight.clamp_(-6e4, 6e4)
    model.autoencoder.half()
    return model


@pytest.mark.parametrize("half", ["encoder", "decoder"])
@torch.no_grad()
def test_it_runs_again_in_float32_and_says_so_once(
    tiny_model: LatentDiffusion, half: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = overflowing(tiny_model)
    wide = deepcopy(model)
    wide.autoencoder.float()
    given = torch.randn(1, 3, 32, 32) if half == "encoder" else torch.randn(1, model.unet.config.in_channels, 8, 8)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            found = model.encode_images(given) if half == "encoder" else model.decode_latents(given)
    expected = wide.encode_images(given) if half == "encoder" else wide.decode_latents(given)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert found.isfinite().all()
    assert [r.message for r in caplog.records] == [
        f"the first stage's {half} overflows in torch.float16 and runs in float32 from here on"
    ]


@torch.no_grad()
def test_what_is_wrong_in_float32_too_is_named(tiny_model: LatentDiffusion) -> None:
    model = deepcopy(tiny_model)
    model.autoencoder.decoder.conv_out.bias.fill_(torch.nan)
    latents = torch.randn(1, model.unet.config.in_channels, 8, 8)
    with pytest.raises(InputError, match="the first stage's decoder gives NaN or infinite values"):
        model.decode_latents(latents)
