"""Every description has exactly the published numbers; built on the meta device, so without storage."""

import json
import lzma
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from darkroom.config import from_dict, to_dict
from darkroom.diffusion.samplers import SAMPLERS
from darkroom.diffusion.sigma_schedules import SCHEDULES
from darkroom.models.autoencoder import Autoencoder
from darkroom.systems import FIRST_STAGES, SYSTEMS, System
from darkroom.systems.build import LatentDiffusion, build

M = 1_000_000

# Unet, first stage, then every embedder that has parameters.
PUBLISHED = {
    "ldm_celeba256": (274_056_163, 55_322_782, {}),
    "ldm_ffhq256": (274_056_163, 55_322_782, {}),
    "ldm_lsun_beds256": (274_056_163, 55_322_782, {}),
    "ldm_lsun_churches256": (294_966_916, 83_653_863, {}),
    "ldm_cin256": (394_984_196, 67_717_295, {"class": 512_000}),
    "ldm_cin256-v2": (400_920_579, 55_322_782, {"class": 512_512}),
    "ldm_text2img256": (403_623_939, 55_322_782, {"caption": 186_154_682}),
    "ldm_text2img-large": (872_300_484, 83_653_863, {"caption": 581_994_042}),
    "ldm_layout2img-openimages256": (246_277_379, 55_322_782, {"boxes": 58_858_496}),
    "ldm_inpainting_big": (387_245_827, 53_219_486, {}),
    "ldm_bsr_sr": (113_622_563, 55_322_782, {}),
    "ldm_semantic_synthesis256": (215_229_315, 55_322_782, {"segmentation": 546}),
    "ldm_semantic_synthesis512": (215_229_315, 55_322_782, {"segmentation": 546}),
    "ldm_rdm768x768": (1_335_480_400, 69_610_963, {}),
    "sd-v1-5": (859_520_964, 83_653_863, {"caption": 123_060_480}),
    "sd-v1-5-inpainting": (859_535_364, 83_653_863, {"caption": 123_060_480}),
    "sd-v2-base": (865_910_724, 83_653_863, {"caption": 340_387_840}),
    "sd-v2-768-v": (865_910_724, 83_653_863, {"caption": 340_387_840}),
    "sd-v2-inpainting": (865_925_124, 83_653_863, {"caption": 340_387_840}),
    "sd-v2-depth": (865_913_604, 83_653_863, {"caption": 340_387_840, "depth": 122_377_985}),
    "sd-x4-upscaler": (473_398_020, 55_325_927, {"caption": 340_387_840}),
    "sd-v2-1-unclip-l": (869_517_764, 83_653_863, {"caption": 340_387_840, "image_prompt": 303_966_208}),
    "sd-v2-1-unclip-h": (870_173_124, 83_653_863, {"caption": 340_387_840, "image_prompt": 632_076_800}),
    "sd-turbo": (865_910_724, 83_653_863, {"caption": 340_387_840}),
    "sdxl-base": (2_567_463_684, 83_653_863, {"caption": 123_060_480 + 694_659_840}),
    "sdxl-refiner": (2_259_526_660, 83_653_863, {"caption": 694_659_840}),
    "sdxl-turbo": (2_567_463_684, 83_653_863, {"caption": 123_060_480 + 694_659_840}),
}
STAGES = {
    "kl-f4": 55_312_063,
    "kl-f8": 83_653_863,
    "kl-f16": 69_610_963,
    "kl-f32": 103_880_131,
    "vq-f4": 55_322_782,
    "vq-f4-noattn": 53_219_486,
    "vq-f8": 67_717_295,
    "vq-f8-n256": 67_652_783,
    "vq-f16": 69_593_371,
    "sd-vae-ft-ema": 83_653_863,
    "sd-vae-ft-mse": 83_653_863,
    "sdxl-vae": 83_653_863,
    "sdxl-vae-fp16-fix": 83_653_863,
    "sd-x4-vae": 55_325_927,
}
# Latent channels and side, schedule, prediction and scale: papers A.2, B.3, C.1.
NUMBERS = {
    "ldm_celeba256": (3, 64, 0.0195, "eps", 1.0),
    "ldm_lsun_churches256": (4, 32, 0.0155, "eps", 1.0),
    "ldm_cin256": (4, 32, 0.0195, "eps", 1.0),
    "ldm_text2img-large": (4, 32, 0.012, "eps", 0.18215),
    "ldm_semantic_synthesis512": (3, 128, 0.0205, "eps", 1.0),
    "ldm_rdm768x768": (16, 48, 0.015, "eps", 0.22765929),
    "sd-v1-5": (4, 64, 0.012, "eps", 0.18215),
    "sd-v2-768-v": (4, 96, 0.012, "v", 0.18215),
    "sd-x4-upscaler": (4, 128, 0.02, "v", 0.08333),
    "sdxl-base": (4, 128, 0.012, "eps", 0.13025),
    "sdxl-turbo": (4, 64, 0.012, "eps", 0.13025),
}
WIDTHS = {  # of the vector where it is a sum of embedders: papers D.5, D.6
    "sdxl-base": 1280 + 6 * 256,
    "sdxl-turbo": 1280 + 6 * 256,
    "sdxl-refiner": 1280 + 5 * 256,
    "sd-v2-1-unclip-l": 2 * 768,
    "sd-v2-1-unclip-h": 2 * 1024,
}


@cache
def built(name: str) -> LatentDiffusion:
    return build(SYSTEMS[name], "meta")


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(name: str):
    unet, stage, embedders = PUBLISHED[name]
    model = built(name)
    assert count(model.unet) == unet
    assert count(model.autoencoder) == stage
    assert {k: count(e) for k, e in model.conditioner.embedders.items() if count(e)} == embedders


@pytest.mark.parametrize("name", STAGES)
def test_first_stages_have_the_published_parameters(name: str):
    assert count(_stage(name)) == STAGES[name]


def _stage(name: str) -> nn.Module:
    with torch.device("meta"):
        return Autoencoder(FIRST_STAGES[name].autoencoder)


@pytest.mark.parametrize("name", NUMBERS)
def test_latent_schedule_and_scale(name: str):
    channels, side, beta_end, prediction, scale = NUMBERS[name]
    system = SYSTEMS[name]
    assert system.autoencoder.latent_channels == channels
    assert system.defaults.width // system.autoencoder.factor == side
    assert system.schedule.beta_end == beta_end
    assert system.prediction == prediction
    assert system.latent_scale == scale


@pytest.mark.parametrize("name", WIDTHS)
def test_the_vector_is_as_wide_as_its_parts(name: str):
    assert SYSTEMS[name].unet.vector_dim == WIDTHS[name]


def test_the_paper_alone_describes_the_layout_model_of_coco():
    model = built("ldm_layout2img-coco256")
    total = count(model.unet) + count(model.conditioner)
    assert abs(total - 345 * M) < M


@pytest.mark.parametrize("name", list(SYSTEMS))
def test_rows_are_whole(name: str):
    system = SYSTEMS[name]
    d, levels = system.defaults, len(system.unet.channel_mult)
    assert system.name == name
    assert d.sampler in SAMPLERS
    assert d.schedule in SCHEDULES
    assert d.width % (system.autoencoder.factor * 2 ** (levels - 1)) == 0
    assert len(system.unet.depth) == levels
    assert system.unet.out_channels == system.autoencoder.latent_channels
    assert from_dict(System, json.loads(json.dumps(to_dict(system)))) == system


def test_every_published_layout_is_described_under_its_name():
    path = Path(__file__).parents[1] / "checkpoints/manifests/public.json.xz"
    layouts = set(json.loads(lzma.decompress(path.read_bytes()))["original"])
    described = {layout for system in SYSTEMS.values() for layout in system.layouts}
    described |= {stage.layout for stage in FIRST_STAGES.values()}
    assert layouts == described
    assert [name for name in layouts if name not in SYSTEMS and name not in FIRST_STAGES] == []
