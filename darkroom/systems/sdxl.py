"""SDXL, its refiner, SDXL-Turbo (papers A.8, A.9)."""

from __future__ import annotations

from dataclasses import replace

from darkroom.conditioning.aesthetic import AestheticScoreConfig
from darkroom.conditioning.size_and_crop import NumbersConfig
from darkroom.diffusion.prediction import Prediction
from darkroom.models.unet import UNetConfig
from darkroom.systems.autoencoders import KL_F8
from darkroom.systems.sd1 import SD_SCHEDULE
from darkroom.systems.system import SYSTEMS, Defaults, System
from darkroom.systems.towers import REFINER_TEXT, SDXL_TEXT

__all__ = ["SDXL_BASE", "SDXL_REFINER", "SDXL_TURBO"]

SDXL_BASE = System(
    name="sdxl-base",
    title="SDXL 1.0 base",
    unet=UNetConfig(
        in_channels=4,
        out_channels=4,
        model_channels=320,
        channel_mult=(1, 2, 4),
        num_res_blocks=2,
        attention="transformer",
        depth=(0, 2, 10),
        mid_depth=10,
        heads=None,
        head_dim=64,
        context_dim=2048,
        vector="linear",
        vector_dim=2816,  # pooled text 1280, six numbers of 256
        linear_projections=True,
    ),
    autoencoder=KL_F8,
    embedders=(
        SDXL_TEXT,
        NumbersConfig("original_size", absent=(1024, 1024)),
        NumbersConfig("crop", absent=(0, 0)),
        NumbersConfig("target_size", absent=(1024, 1024)),
    ),
    schedule=SD_SCHEDULE,
    prediction=Prediction.EPS,
    latent_scale=0.13025,
    defaults=Defaults(1024, 1024, steps=50, sampler="Euler", schedule="leading", guidance_scale=5.0, strength=0.3),
    force_upcast=True,
    layouts=("sdxl-base",),
)
SYSTEMS.add("sdxl-base", SDXL_BASE)
SYSTEMS.add("sdxl-0-9-base", replace(SDXL_BASE, name="sdxl-0-9-base", title="SDXL 0.9 base"))

SDXL_REFINER = System(
    name="sdxl-refiner",
    title="SDXL 1.0 refiner",
    unet=UNetConfig(
        in_channels=4,
        out_channels=4,
        model_channels=384,
        channel_mult=(1, 2, 4, 4),
        num_res_blocks=2,
        attention="transformer",
        depth=(0, 4, 4, 0),
        mid_depth=4,
        heads=None,
        head_dim=64,
        context_dim=1280,
        vector="linear",
        vector_dim=2560,  # pooled text 1280, five numbers of 256
        linear_projections=True,
    ),
    autoencoder=KL_F8,
    embedders=(
        REFINER_TEXT,
        NumbersConfig("original_size", absent=(1024, 1024)),
        NumbersConfig("crop", absent=(0, 0)),
        AestheticScoreConfig(wished=6.0, unwished=2.5),
    ),
    schedule=SD_SCHEDULE,
    prediction=Prediction.EPS,
    latent_scale=0.13025,
    defaults=Defaults(1024, 1024, steps=50, sampler="Euler", schedule="leading", guidance_scale=5.0, strength=0.3),
    force_upcast=True,
    layouts=("sdxl-refiner",),
)
SYSTEMS.add("sdxl-refiner", SDXL_REFINER)
SYSTEMS.add("sdxl-0-9-refiner", replace(SDXL_REFINER, name="sdxl-0-9-refiner", title="SDXL 0.9 refiner"))

SDXL_TURBO = SYSTEMS.add(
    "sdxl-turbo",
    replace(
        SDXL_BASE,
        name="sdxl-turbo",
        title="SDXL-Turbo, one to four steps",
        embedders=(
            SDXL_TEXT,
            NumbersConfig("original_size", absent=(512, 512)),
            NumbersConfig("crop", absent=(0, 0)),
            NumbersConfig("target_size", absent=(512, 512)),
        ),
        defaults=Defaults(512, 512, steps=4, sampler="Euler a", schedule="trailing", guidance_scale=1.0, strength=0.5),
        layouts=("sdxl-turbo",),
    ),
)
