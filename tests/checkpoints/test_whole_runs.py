"""From a prompt to a latent and a picture: our run of a file against Diffusers' run of the folder made of it.

Float32, random weights in every parameter, guidance, DDIM. Tolerance 1e-4 of the largest value.
"""

import warnings
from pathlib import Path

import diffusers
import pytest
import torch
import transformers
from narrow_checkpoints import narrow, random_model, write_vocabulary

from darkroom.checkpoints.convert import Content, write_diffusers, write_original
from darkroom.checkpoints.identify import identify
from darkroom.checkpoints.load import load_checkpoint
from darkroom.checkpoints.source import open_source
from darkroom.conditioning.conditioning import Conditioning
from darkroom.diffusion.guidance import classifier_free
from darkroom.diffusion.samplers import with_options
from darkroom.diffusion.sigma_schedules import spaced
from darkroom.models import vocabulary

LOADED = [
    *("sd-v1-5", "sd-v1-5-inpainting", "sd-v2-1-768-v", "sd-v2-depth", "sd-v2-1-unclip-l", "sd-x4-upscaler"),
    *("sdxl-base", "sdxl-refiner", "ldm_celeba256", "ldm_bsr_sr", "ldm_text2img-large"),
]
RUN = {"sd-v1-5": 7.5, "sd-v2-1-768-v": 9.0, "sdxl-base": 5.0, "ldm_text2img-large": 5.0}
PROMPT = "a red cat house"


@pytest.fixture(autouse=True)
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(vocabulary, "CLIP_PACKAGES", ())
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()


def converted(tmp_path: Path, name: str) -> Path:
    """A folder made of a single file, with a vocabulary beside it."""
    write_vocabulary(tmp_path)
    write_original(Content.of_model(random_model(name)), tmp_path / "model.safetensors")
    source = open_source(tmp_path / "model.safetensors")
    notes = write_diffusers(Content.of_source(source, identify(source, system=narrow(name))), tmp_path / "folder")
    assert notes == []
    return tmp_path / "folder"


@pytest.mark.parametrize("name", LOADED)
def test_diffusers_loads_the_folder_as_a_pipeline(tmp_path: Path, name: str) -> None:
    peer = diffusers.DiffusionPipeline.from_pretrained(converted(tmp_path, name))
    assert type(peer).__name__ != "DiffusionPipeline"
    unet = sum(p.numel() for p in peer.unet.parameters())
    assert unet == sum(p.numel() for p in random_model(name).unet.parameters())


@pytest.mark.parametrize("name", RUN)
@torch.no_grad()
def test_whole_runs(tmp_path: Path, name: str) -> None:
    folder, guidance, steps = converted(tmp_path, name), RUN[name], 3
    model = load_checkpoint(folder, system=narrow(name)).model
    inputs = {"caption": PROMPT, "original_size": (64, 64), "crop": (0, 0), "target_size": (64, 64)}
    told, null = model.condition([inputs]), model.condition([model.conditioner.unconditional(inputs)])
    cond, uncond = model.denoiser(told), model.denoiser(null)

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return classifier_free(cond(x, sigma), uncond(x, sigma), guidance)

    sigmas = spaced("leading", model.process, steps)
    unit = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    x = unit * (1 + sigmas[0] ** 2).sqrt()  # the peer begins with unit variance
    for step in with_options("DDIM", {"end": 0.0 if name == "sdxl-base" else float(model.process.sigmas[0])})(
        denoise, x, sigmas, lambda *_: torch.zeros(())
    ):
        x = step.x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = diffusers.DiffusionPipeline.from_pretrained(folder)
        config = {**peer.scheduler.config, "timestep_spacing": "leading"}
        peer.scheduler = diffusers.DDIMScheduler.from_config(config, clip_sample=False)
        peer.set_progress_bar_config(disable=True)
        kind = {"output_type": "latent"} if name != "ldm_text2img-large" else {"output_type": "np"}
        arguments = {"height": 64, "width": 64, "num_inference_steps": steps, "guidance_scale": guidance}
        result = peer([PROMPT], latents=unit, **arguments, **kind).images
    if name == "ldm_text2img-large":
        pictures = (model.decode_latents(x) / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
        torch.testing.assert_close(pictures, torch.from_numpy(result), rtol=0, atol=1e-4)
    else:
        torch.testing.assert_close(x, result, rtol=0, atol=1e-4 * float(result.abs().max()))
    assert isinstance(told, Conditioning)
    assert not torch.allclose(told.tokens, null.tokens)
