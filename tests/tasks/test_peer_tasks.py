"""Tasks that need their own weights: our pipeline against Diffusers' on the same random weights.

Float32, DDIM with leading steps, guidance, one seed for all noise. The tolerance is 1e-4 of the largest value of the
latent, or 2/255 of the picture where the peer gives only that.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from narrow_checkpoints import narrow, random_model, write_vocabulary
from PIL import Image

from darkroom.checkpoints.convert import Content, write_diffusers, write_original
from darkroom.checkpoints.identify import identify
from darkroom.checkpoints.load import load_checkpoint
from darkroom.checkpoints.source import open_source
from darkroom.engine.pipeline import Picture, Pipeline
from darkroom.engine.refine import refine
from darkroom.models import vocabulary
from darkroom.tasks.inpaint import part_of
from darkroom.types import Request

STEPS, SEED, PROMPT = 6, 11, "a red cat house"
PICTURE = np.kron(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
MASK = np.zeros((64, 64), np.uint8)
MASK[16:48, 8:40] = 1


@pytest.fixture(autouse=True)
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(vocabulary, "CLIP_PACKAGES", ())
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    warnings.simplefilter("ignore")


@pytest.fixture
def folder_of(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        write_vocabulary(tmp_path)
        write_original(Content.of_model(random_model(name)), tmp_path / f"{name}.safetensors")
        source = open_source(tmp_path / f"{name}.safetensors")
        write_diffusers(Content.of_source(source, identify(source, system=narrow(name))), tmp_path / name)
        return tmp_path / name

    return make


def peer_of(kind: Any, folder: Path, **given: Any) -> Any:
    peer = kind.from_pretrained(folder, **given)
    config = {**peer.scheduler.config, "timestep_spacing": "leading", "steps_offset": 1}
    peer.scheduler = diffusers.DDIMScheduler.from_config(config, clip_sample=False)
    peer.set_progress_bar_config(disable=True)
    return peer


def ours(folder: Path, name: str, **fields: Any) -> Picture:
    model = load_checkpoint(folder, system=narrow(name)).model
    plain = {"width": 64, "height": 64, "steps": STEPS, "seed": SEED, "guidance_scale": 5.0, "sampler": "DDIM"}
    request = Request(PROMPT, **{**plain, "schedule": "leading", "seed_mode": "diffusers", **fields})
    return Pipeline(model).generate([request])[0]


def theirs(peer: Any, **arguments: Any) -> Any:
    plain = {"prompt": PROMPT, "num_inference_steps": STEPS, "guidance_scale": 5.0}
    generator = torch.Generator().manual_seed(SEED)
    return peer(**{**plain, **arguments}, generator=generator).images


def assert_close(latent: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(latent, expected[0], rtol=0, atol=1e-4 * float(expected.abs().max()))


def assert_pictures_close(pixels: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs(pixels.astype(float) - expected * 255).max() <= 2


def test_text_to_image_with_the_peers_own_noise(folder_of: Callable[[str], Path]) -> None:
    folder = folder_of("sd-v1-5")
    peer = peer_of(diffusers.StableDiffusionPipeline, folder)
    expected = theirs(peer, height=64, width=64, output_type="latent", negative_prompt="dog")
    assert_close(ours(folder, "sd-v1-5", negative_prompt="dog").latent, expected)


@pytest.mark.parametrize("strength", [0.5, 0.9])
def test_image_to_image(folder_of: Callable[[str], Path], strength: float) -> None:
    folder = folder_of("sd-v1-5")
    peer = peer_of(diffusers.StableDiffusionImg2ImgPipeline, folder)
    # The peer samples the encoder's posterior from the same generator; ours starts from its mean and then draws noise.
    with torch.no_grad():
        z = peer.vae.encode(torch.from_numpy(PICTURE / 127.5 - 1).float().permute(2, 0, 1)[None]).latent_dist.mean
    expected = theirs(peer, image=z * peer.vae.config.scaling_factor, strength=strength, output_type="latent")
    assert_close(ours(folder, "sd-v1-5", image=PICTURE, strength=strength).latent, expected)


@pytest.mark.parametrize(("name", "padding"), [("sd-v1-5-inpainting", 8), ("sd-v2-inpainting", None)])
def test_inpainting_with_nine_channels(folder_of: Callable[[str], Path], name: str, padding: int | None) -> None:
    folder = folder_of(name)
    peer = peer_of(diffusers.StableDiffusionInpaintPipeline, folder)
    encode = type(peer.vae).encode
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(SEED))
    with pytest.MonkeyPatch.context() as patch:  # masked latents are the posterior's mean with us
        patch.setattr(type(peer.vae), "encode", lambda self, x: _mean_only(encode(self, x)))
        expected = theirs(
            peer,
            image=Image.fromarray(PICTURE),
            mask_image=Image.fromarray(MASK * 255),
            height=64,
            width=64,
            latents=latents,
            padding_mask_crop=padding,
            output_type="latent" if padding is None else "pil",
        )
    drawn = ours(folder, name, image=PICTURE, mask=MASK, mask_padding=padding, width=64, height=64)
    if padding is None:
        assert_close(drawn.latent, expected)
    else:
        assert_pictures_close(drawn.pixels, np.asarray(expected[0]) / 255)
    assert np.array_equal(drawn.pixels[MASK == 0], PICTURE[MASK == 0])


@given(
    mask=st.tuples(*[st.integers(1, 90)] * 2).flatmap(
        lambda sides: st.tuples(st.just(sides), *[st.integers(0, side - 1) for side in sides for _ in range(2)])
    ),
    padding=st.integers(0, 40),
    width=st.integers(1, 8),
    height=st.integers(1, 8),
)
def test_the_masked_part_is_the_peers(
    mask: tuple[tuple[int, int], int, int, int, int], padding: int, width: int, height: int
) -> None:
    sides, *ends = mask
    (top, bottom), (left, right) = sorted(ends[:2]), sorted(ends[2:])
    covered = np.zeros(sides, np.uint8)
    covered[top : bottom + 1, left : right + 1] = 1
    peer = diffusers.image_processor.VaeImageProcessor.get_crop_region
    expected = peer(Image.fromarray(covered * 255), 8 * width, 8 * height, padding)
    part = part_of(covered, padding, 8 * width, 8 * height)
    assert (part.left, part.top, part.right, part.bottom) == tuple(expected)
    assert part.of(covered).sum() == covered.sum()


def _mean_only(encoded: Any) -> Any:
    mean = encoded.latent_dist.mean
    encoded.latent_dist.sample = lambda generator=None: mean
    return encoded


def test_depth_to_image(folder_of: Callable[[str], Path]) -> None:
    folder = folder_of("sd-v2-depth")
    peer = peer_of(diffusers.StableDiffusionDepth2ImgPipeline, folder)
    depth = np.random.default_rng(1).random((64, 64), np.float32)
    encode = type(peer.vae).encode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(peer.vae), "encode", lambda self, x: _mean_only(encode(self, x)))
        expected = theirs(
            peer,
            image=Image.fromarray(PICTURE),
            depth_map=torch.from_numpy(depth)[None],
            strength=0.9,
            output_type="latent",
        )
    drawn = ours(folder, "sd-v2-depth", image=PICTURE, strength=0.9, inputs={"depth": depth})
    assert_close(drawn.latent, expected)


def test_the_x4_upscaler_with_its_noise_level(folder_of: Callable[[str], Path]) -> None:
    folder = folder_of("sd-x4-upscaler")
    peer = peer_of(diffusers.StableDiffusionUpscalePipeline, folder)
    small = PICTURE[::4, ::4].copy()
    expected = theirs(peer, image=Image.fromarray(small), noise_level=30, output_type="latent")
    drawn = ours(folder, "sd-x4-upscaler", image=small, width=None, height=None, inputs={"noise_level": 30})
    assert drawn.pixels.shape == (64, 64, 3)
    assert_close(drawn.latent, expected)


def test_super_resolution_of_latent_diffusion(folder_of: Callable[[str], Path]) -> None:
    folder = folder_of("ldm_bsr_sr")
    peer = peer_of(diffusers.LDMSuperResolutionPipeline, folder)
    small = PICTURE[::2, ::2].copy()
    generator = torch.Generator().manual_seed(SEED)
    expected = peer(Image.fromarray(small), num_inference_steps=STEPS, generator=generator, output_type="np").images[0]
    drawn = ours(folder, "ldm_bsr_sr", image=small, width=None, height=None, guidance_scale=1.0)
    assert_pictures_close(drawn.pixels, expected)


def test_unclip_varies_a_picture(folder_of: Callable[[str], Path]) -> None:
    folder = folder_of("sd-v2-1-unclip-l")
    peer = peer_of(diffusers.StableUnCLIPImg2ImgPipeline, folder)
    with torch.no_grad():
        embedding = (
            load_checkpoint(folder, system=narrow("sd-v2-1-unclip-l"))
            .model.conditioner.embedders["image_prompt"]
            .embed(torch.from_numpy(PICTURE / 127.5 - 1).float().permute(2, 0, 1))
        )  # type: ignore[operator]
    expected = theirs(peer, image_embeds=embedding[None], noise_level=40, height=64, width=64, output_type="latent")
    drawn = ours(folder, "sd-v2-1-unclip-l", inputs={"image_prompt": PICTURE, "noise_level": 40})
    assert_close(drawn.latent, expected)


def test_the_refiner_on_a_finished_picture_and_after_the_base(folder_of: Callable[[str], Path]) -> None:
    base, refiner = folder_of("sdxl-base"), folder_of("sdxl-refiner")
    peer = peer_of(diffusers.StableDiffusionXLImg2ImgPipeline, refiner)
    with torch.no_grad():
        z = peer.vae.encode(torch.from_numpy(PICTURE / 127.5 - 1).float().permute(2, 0, 1)[None]).latent_dist.mean
    latent = z * peer.vae.config.scaling_factor
    sizes = {"original_size": (64, 64), "target_size": (64, 64), "negative_prompt": ""}
    expected = theirs(peer, image=latent, strength=0.5, output_type="latent", **sizes)
    assert_close(ours(refiner, "sdxl-refiner", image=PICTURE, strength=0.5).latent, expected)

    first = peer_of(diffusers.StableDiffusionXLPipeline, base)
    halfway = theirs(first, height=64, width=64, denoising_end=0.5, output_type="latent")
    expected = theirs(peer, image=halfway, denoising_start=0.5, output_type="latent", **sizes)
    models = [load_checkpoint(f, system=narrow(n)).model for f, n in ((base, "sdxl-base"), (refiner, "sdxl-refiner"))]
    request = Request(
        PROMPT, width=64, height=64, steps=STEPS, seed=SEED, guidance_scale=5.0, sampler="DDIM", schedule="leading"
    )
    events = refine(Pipeline(models[0]), Pipeline(models[1]), [request], 0.5)
    (picture,) = [e[1] for e in events if isinstance(e, tuple)]
    assert_close(picture.latent, expected)


@pytest.mark.parametrize("steps", [1, 4])
def test_turbo(folder_of: Callable[[str], Path], steps: int) -> None:
    folder = folder_of("sdxl-turbo")
    peer = diffusers.StableDiffusionXLPipeline.from_pretrained(folder)
    config = {**peer.scheduler.config, "timestep_spacing": "trailing"}
    peer.scheduler = diffusers.EulerDiscreteScheduler.from_config(config)
    peer.set_progress_bar_config(disable=True)
    expected = theirs(peer, height=64, width=64, num_inference_steps=steps, guidance_scale=0.0, output_type="latent")
    drawn = ours(folder, "sdxl-turbo", steps=steps, guidance_scale=1.0, sampler="Euler", schedule="trailing")
    assert_close(drawn.latent, expected)
