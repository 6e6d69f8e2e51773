"""Stable Diffusion 2 and what was made of it (papers A.7, A.9)."""

from __future__ import annotations

from dataclasses import replace

from darkroom.conditioning.depth import DepthMapConfig
from darkroom.conditioning.image_prompt import ImagePromptConfig
from darkroom.conditioning.low_resolution import LowResolutionConfig
from darkroom.conditioning.masked_image import MaskedImageConfig
from darkroom.conditioning.noise_level import NoiseLevels
from darkroom.diffusion.prediction import Prediction
from darkroom.models.unet import UNetConfig
from darkroom.models.vision import VisionConfig
from darkroom.noise_schedule import NoiseSchedule
from darkroom.systems.autoencoders import KL_F8, KL_X4
from darkroom.systems.sd1 import SD_SCHEDULE
from darkroom.systems.system import SYSTEMS, Defaults, System
from darkroom.systems.towers import DPT_HYBRID, SD2_TEXT, VISION_H, VISION_L

__all__ = ["SD2_BASE", "SD2_V", "SD_TURBO", "X4_UPSCALER"]

SD2_BASE = System(
    name="sd-v2-0-base",
    title="Stable Diffusion 2.0 base",
    unet=UNetConfig(
        in_channels=4,
        out_channels=4,
        model_channels=320,
        channel_mult=(1, 2, 4, 4),
        num_res_blocks=2,
        attention="transformer",
        depth=(1, 1, 1, 0),
        mid_depth=1,
        heads=None,
        head_dim=64,
        context_dim=1024,
        vector="none",
        vector_dim=0,
        linear_projections=True,
    ),
    autoencoder=KL_F8,
    embedders=(SD2_TEXT,),
    schedule=SD_SCHEDULE,
    prediction=Prediction.EPS,
    latent_scale=0.18215,
    defaults=Defaults(512, 512, steps=50, sampler="DDIM", schedule="leading", guidance_scale=9.0, strength=0.75),
    layouts=("sd-v2-base",),
)
SYSTEMS.add(SD2_BASE.name, SD2_BASE)
SD2_1_BASE = SYSTEMS.add(
    "sd-v2-1-base",
    replace(
        SD2_BASE,
        name="sd-v2-1-base",
        title="Stable Diffusion 2.1 base",
        unet=replace(SD2_BASE.unet, upcast=True),  # unstable in half precision without it
    ),
    "sd-v2-base",
)
SD2_V = replace(
    SD2_BASE,
    name="sd-v2-0-768-v",
    title="Stable Diffusion 2.0 at 768, velocity",
    unet=replace(SD2_BASE.unet, upcast=True),
    prediction=Prediction.V,
    defaults=replace(SD2_BASE.defaults, width=768, height=768),
    layouts=("sd-v2-768-v",),
)
SYSTEMS.add(SD2_V.name, SD2_V)
SD2_1_V = SYSTEMS.add(
    "sd-v2-1-768-v",
    replace(SD2_V, name="sd-v2-1-768-v", title="Stable Diffusion 2.1 at 768, velocity"),
    "sd-v2-768-v",
)
SYSTEMS.add(
    "sd-v2-inpainting",
    replace(
        SD2_BASE,
        name="sd-v2-inpainting",
        title="Stable Diffusion 2 inpainting",
        unet=replace(SD2_BASE.unet, in_channels=9),
        embedders=(SD2_TEXT, MaskedImageConfig("mask_first")),
        defaults=replace(SD2_BASE.defaults, steps=45, guidance_scale=10.0, strength=1.0),
        layouts=("sd-v2-inpainting",),
    ),
)
SYSTEMS.add(
    "sd-v2-depth",
    replace(
        SD2_BASE,
        name="sd-v2-depth",
        title="Stable Diffusion 2 with depth",
        unet=replace(SD2_BASE.unet, in_channels=5),
        embedders=(SD2_TEXT, DepthMapConfig(DPT_HYBRID, factor=8)),
        defaults=replace(SD2_BASE.defaults, strength=0.9),
        layouts=("sd-v2-depth",),
    ),
)


def _unclip(letter: str, tower: VisionConfig) -> System:
    name = f"sd-v2-1-unclip-{letter.lower()}"
    return replace(
        SD2_1_V,
        name=name,
        title=f"Stable unCLIP 2.1, ViT-{letter} image prompts",
        unet=replace(SD2_1_V.unet, vector="linear", vector_dim=2 * tower.projection),
        embedders=(SD2_TEXT, ImagePromptConfig(tower, NoiseLevels("cosine"), drop_rate=0.25)),
        defaults=replace(SD2_1_V.defaults, steps=20, guidance_scale=10.0),
        layouts=(name,),
    )


for system in (_unclip("L", VISION_L), _unclip("H", VISION_H)):
    SYSTEMS.add(system.name, system)

SD_TURBO = SYSTEMS.add(
    "sd-turbo",
    replace(
        SD2_BASE,
        name="sd-turbo",
        title="Stable Diffusion Turbo, one to four steps",
        defaults=replace(SD2_BASE.defaults, steps=4, sampler="Euler a", schedule="trailing", guidance_scale=1.0),
        layouts=("sd-turbo",),
    ),
)

X4_SCHEDULE = NoiseSchedule("scaled_linear", 0.0001, 0.02)
X4_UPSCALER = SYSTEMS.add(
    "sd-x4-upscaler",
    System(
        name="sd-x4-upscaler",
        title="Stable Diffusion ×4 upscaler",
        unet=UNetConfig(
            in_channels=7,
            out_channels=4,
            model_channels=256,
            channel_mult=(1, 2, 2, 4),
            num_res_blocks=2,
            attention="transformer",
            depth=(0, 1, 1, 1),
            mid_depth=1,
            heads=8,
            head_dim=None,
            context_dim=1024,
            vector="table",
            vector_dim=1000,
            linear_projections=True,
            only_cross_attention=(True, True, True, False),
        ),
        autoencoder=KL_X4,
        embedders=(
            SD2_TEXT,
            LowResolutionConfig(NoiseLevels("scaled_linear", 0.0001, 0.02, highest=349), default_level=20),
        ),
        schedule=X4_SCHEDULE,
        prediction=Prediction.V,
        latent_scale=0.08333,
        defaults=Defaults(512, 512, steps=75, sampler="DDIM", schedule="leading", guidance_scale=10.0),
        force_upcast=True,
        layouts=("sd-x4-upscaler",),
    ),
)
