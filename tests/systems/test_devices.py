"""No part of a system mixes what it makes on the CPU with what is on the device.

The device "meta" stands for every other than the CPU: it holds no values that could be read, and mixes as little.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from narrow import narrow
from narrow_checkpoints import write_vocabulary

from darkroom.conditioning.boxes import Box
from darkroom.conditioning.low_resolution import Small
from darkroom.conditioning.masked_image import Masked
from darkroom.systems.build import build

PICTURE = torch.rand(3, 64, 64) * 2 - 1


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("sdxl-base", {"caption": "a cat", "original_size": (64, 64)}),
        ("sd-v1-5-inpainting", {"caption": "a cat", "masked_image": Masked(PICTURE, torch.ones(1, 64, 64))}),
        ("sd-x4-upscaler", {"caption": "a cat", "low_resolution": Small(PICTURE[:, :16, :16], 30)}),
        ("ldm_layout2img-openimages256", {"boxes": [Box(3, 0.1, 0.1, 0.9, 0.5)]}),
        ("ldm_cin256-v2", {"class": 3}),
    ],
)
def test_everything_is_on_the_device_of_the_weights(name: str, inputs: dict[str, Any], tmp_path: Path) -> None:
    write_vocabulary(tmp_path)
    model = build(narrow(name), "meta").eval().requires_grad_(False)
    model.conditioner.look_in(tmp_path)
    channels = model.autoencoder.config.latent_channels
    with torch.inference_mode():
        conditioning = model.condition([inputs] * 2)
        null = model.condition([model.conditioner.unconditional(inputs, text) for text in ("", "a dog")])
        side = 8 if conditioning.channels is None else conditioning.channels.shape[-1]
        x = torch.empty(2, channels, side, side, device="meta")
        for c in (conditioning, null):
            x = model.denoiser(c)(x, torch.tensor(3.0, dtype=torch.float64))
        images = model.decode_latents(torch.empty(1, channels, 24, 24, device="meta"), tile=16)
        assert {t.device.type for t in (x, images, model.encode_images(images))} == {"meta"}
