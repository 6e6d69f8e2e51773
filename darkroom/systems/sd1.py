"""Stable Diffusion 1 (papers A.6)."""

from __future__ import annotations

from dataclasses import replace

from darkroom.conditioning.masked_image import MaskedImageConfig
from darkroom.diffusion.prediction import Prediction
from darkroom.models.unet import UNetConfig
from darkroom.noise_schedule import NoiseSchedule
from darkroom.systems.autoencoders import KL_F8
from darkroom.systems.system import SYSTEMS, Defaults, System
from darkroom.systems.towers import SD1_TEXT

__all__ = ["SD1", "SD1_INPAINTING", "SD_SCHEDULE"]

SD_SCHEDULE = NoiseSchedule("scaled_linear", 0.00085, 0.012)

SD1 = System(
    name="sd-v1-5",
    title="Stable Diffusion 1.5",
    unet=UNetConfig(
        in_channels=4,
        out_channels=4,
        model_channels=320,
        channel_mult=(1, 2, 4, 4),
        num_res_blocks=2,
        attention="transformer",
        depth=(1, 1, 1, 0),
        mid_depth=1,
        heads=8,
        head_dim=None,
        context_dim=768,
        vector="none",
        vector_dim=0,
        linear_projections=False,
    ),
    autoencoder=KL_F8,
    embedders=(SD1_TEXT,),
    schedule=SD_SCHEDULE,
    prediction=Prediction.EPS,
    latent_scale=0.18215,
    defaults=Defaults(512, 512, steps=50, sampler="DDIM", schedule="leading", guidance_scale=7.5, strength=0.75),
    layouts=("sd-v1-emaonly", "sd-v1-full-ema"),
)
SYSTEMS.add("sd-v1-5", SD1, "sd-v1-emaonly", "sd-v1-full-ema")
for version in ("1.1", "1.2", "1.3", "1.4"):
    name = f"sd-v{version.replace('.', '-')}"
    SYSTEMS.add(name, replace(SD1, name=name, title=f"Stable Diffusion {version}"))

SD1_INPAINTING = SYSTEMS.add(
    "sd-v1-5-inpainting",
    replace(
        SD1,
        name="sd-v1-5-inpainting",
        title="Stable Diffusion 1.5 inpainting",
        unet=replace(SD1.unet, in_channels=9),
        embedders=(SD1_TEXT, MaskedImageConfig("mask_first")),
        defaults=replace(SD1.defaults, strength=1.0),
        layouts=("sd-v1-5-inpainting",),
    ),
)
