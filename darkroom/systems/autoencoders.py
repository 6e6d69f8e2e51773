"""The published first stages (papers B.1): 128 channels, two residual blocks a level going in, three coming out."""

from __future__ import annotations

from darkroom.models.autoencoder import AutoencoderConfig
from darkroom.models.bottleneck import KLConfig, VQConfig
from darkroom.systems.system import FIRST_STAGES, FirstStage

__all__ = ["KL_F4", "KL_F8", "KL_F16", "KL_F32", "KL_X4", "VQ_F4", "VQ_F4_NOATTN", "VQ_F8", "VQ_F8_N256", "VQ_F16"]

NO, YES = False, True


def stage(
    mult: tuple[int, ...], z: int, attention: tuple[bool, ...], bottleneck: KLConfig | VQConfig, *, mid: bool = True
) -> AutoencoderConfig:
    """What all of them share, filled in."""
    return AutoencoderConfig(
        channels=128,
        channel_mult=mult,
        num_res_blocks=2,
        decoder_res_blocks=3,
        attention=attention,
        mid_attention=mid,
        z_channels=z,
        latent_channels=z,
        bottleneck=bottleneck,
    )


# Attention at the sizes 32, 16 or 8 of a picture of 256 pixels; the layers stay where they are at other sizes.
KL_F4 = stage((1, 2, 4), 3, (NO, NO, NO), KLConfig())
KL_X4 = stage((1, 2, 4), 4, (NO, NO, NO), KLConfig())  # the ×4 upscaler's
KL_F8 = stage((1, 2, 4, 4), 4, (NO, NO, NO, NO), KLConfig())
KL_F16 = stage((1, 1, 2, 2, 4), 16, (NO, NO, NO, NO, YES), KLConfig())
KL_F32 = stage((1, 1, 2, 2, 4, 4), 64, (NO, NO, NO, NO, YES, YES), KLConfig())
VQ_F4 = stage((1, 2, 4), 3, (NO, NO, NO), VQConfig(8192))
VQ_F4_NOATTN = stage((1, 2, 4), 3, (NO, NO, NO), VQConfig(8192), mid=False)
VQ_F8 = stage((1, 2, 2, 4), 4, (NO, NO, NO, YES), VQConfig(16384))
VQ_F8_N256 = stage((1, 2, 2, 4), 4, (NO, NO, NO, YES), VQConfig(256))
VQ_F16 = stage((1, 1, 2, 2, 4), 8, (NO, NO, NO, NO, YES), VQConfig(16384))

for row in (
    FirstStage("kl-f4", "KL, f = 4, 3 channels", KL_F4, 1.0, "first_stage_kl-f4"),
    FirstStage("kl-f8", "KL, f = 8, 4 channels", KL_F8, 1.0, "first_stage_kl-f8"),
    FirstStage("kl-f16", "KL, f = 16, 16 channels", KL_F16, 1.0, "first_stage_kl-f16"),
    FirstStage("kl-f32", "KL, f = 32, 64 channels", KL_F32, 1.0, "first_stage_kl-f32"),
    FirstStage("vq-f4", "VQ, f = 4, 8192 codes", VQ_F4, 1.0, "first_stage_vq-f4"),
    FirstStage("vq-f4-noattn", "VQ, f = 4, 8192 codes, no attention", VQ_F4_NOATTN, 1.0, "first_stage_vq-f4-noattn"),
    FirstStage("vq-f8", "VQ, f = 8, 16384 codes", VQ_F8, 1.0, "first_stage_vq-f8"),
    FirstStage("vq-f8-n256", "VQ, f = 8, 256 codes", VQ_F8_N256, 1.0, "first_stage_vq-f8-n256"),
    FirstStage("vq-f16", "VQ, f = 16, 16384 codes", VQ_F16, 1.0, "first_stage_vq-f16"),
):
    FIRST_STAGES.add(row.name, row, row.layout)

# Published alone for Stable Diffusion: keys as in kl-f8, without prefix.
for row in (
    FirstStage("sd-vae-ft-ema", "Stable Diffusion's, decoder tuned, EMA", KL_F8, 0.18215, "sdxl-vae"),
    FirstStage("sd-vae-ft-mse", "Stable Diffusion's, decoder tuned, smoother", KL_F8, 0.18215, "sdxl-vae"),
    FirstStage("sdxl-vae", "SDXL's; overflows in float16", KL_F8, 0.13025, "sdxl-vae"),
    FirstStage("sdxl-vae-fp16-fix", "SDXL's, tuned to bear float16", KL_F8, 0.13025, "sdxl-vae"),
    FirstStage("sd-x4-vae", "The ×4 upscaler's, f = 4, 4 channels", KL_X4, 0.08333, "sd-x4-upscaler"),
):
    FIRST_STAGES.add(row.name, row)
