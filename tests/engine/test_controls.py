"""Whole pictures under control networks, from their files: as Diffusers draws them, and the same in any company.

Float32, DDIM with leading steps, guidance, one seed for all noise; the tolerance is 1e-4 of the largest value of the
latent.
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
from narrow_checkpoints import narrow, random_model, randomise, write_vocabulary
from PIL import Image

from darkroom.checkpoints.convert import Content, write_diffusers, write_original
from darkroom.checkpoints.identify import identify
from darkroom.checkpoints.load import load_checkpoint
from darkroom.checkpoints.source import open_source
from darkroom.engine.pipeline import Picture, Pipeline
from darkroom.models import vocabulary
from darkroom.types import ControlUnit, Request

STEPS, SEED, PROMPT = 4, 11, "a red cat house"
HINT = np.kron(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))


@pytest.fixture(autouse=True)
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "CLIP_PACKAGES", ())
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    warnings.simplefilter("ignore")


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("models")

    def make(name: str) -> Path:
        if not (root / name).exists():
            write_vocabulary(root)
            write_original(Content.of_model(random_model(name)), root / f"{name}.safetensors")
            source = open_source(root / f"{name}.safetensors")
            write_diffusers(Content.of_source(source, identify(source, system=narrow(name))), root / name)
        return root / name

    return make


def peer_controlnet(folder: Path, unet: Any, seed: int = 5, **options: Any) -> Any:
    net = diffusers.ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8, 16, 16))
    if options:
        net = diffusers.ControlNetModel.from_config({**net.config, **options})
    randomise(net, seed)
    net.save_pretrained(folder)
    return net


def peer_of(kind: Any, folder: Path, **given: Any) -> Any:
    peer = kind.from_pretrained(folder, **given)
    config = {**peer.scheduler.config, "timestep_spacing": "leading", "steps_offset": 1}
    peer.scheduler = diffusers.DDIMScheduler.from_config(config, clip_sample=False)
    peer.set_progress_bar_config(disable=True)
    return peer


def request(*controls: ControlUnit, **fields: Any) -> Request:
    plain = {"width": 64, "height": 64, "steps": STEPS, "seed": SEED, "guidance_scale": 5.0, "sampler": "DDIM"}
    return Request(PROMPT, **{**plain, "schedule": "leading", "seed_mode": "diffusers", **fields}, controls=controls)


def ours(folder: Path, name: str, *controls: ControlUnit, **fields: Any) -> Picture:
    return Pipeline(load_checkpoint(folder, system=narrow(name)).model).generate([request(*controls, **fields)])[0]


def theirs(peer: Any, **arguments: Any) -> torch.Tensor:
    plain = {"prompt": PROMPT, "num_inference_steps": STEPS, "guidance_scale": 5.0, "height": 64, "width": 64}
    generator = torch.Generator().manual_seed(SEED)
    return peer(**{**plain, **arguments}, generator=generator, output_type="latent").images


def assert_close(latent: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(latent, expected[0], rtol=0, atol=1e-4 * float(expected.abs().max()))


CONTROLNET = {
    "sd-v1-5": diffusers.StableDiffusionControlNetPipeline,
    "sd-v2-1-base": diffusers.StableDiffusionControlNetPipeline,
    "sdxl-base": diffusers.StableDiffusionXLControlNetPipeline,
}


@pytest.mark.parametrize(
    ("name", "unit", "arguments"),
    [
        ("sd-v1-5", {}, {}),
        ("sd-v1-5", {"guess": True}, {"guess_mode": True}),
        (
            "sd-v1-5",
            {"weight": 0.6, "start": 0.25, "end": 0.75},
            {"controlnet_conditioning_scale": 0.6, "control_guidance_start": 0.25, "control_guidance_end": 0.75},
        ),
        ("sd-v2-1-base", {}, {}),
        ("sdxl-base", {"weight": 0.8}, {"controlnet_conditioning_scale": 0.8}),
    ],
)
def test_a_controlnet_as_the_peer_has_it(
    folder_of: Callable[[str], Path], tmp_path: Path, name: str, unit: dict[str, Any], arguments: dict[str, Any]
) -> None:
    folder = folder_of(name)
    unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")
    net = peer_controlnet(tmp_path, unet)
    peer = peer_of(CONTROLNET[name], folder, controlnet=net, unet=unet)
    expected = theirs(peer, image=Image.fromarray(HINT), negative_prompt="dog", **arguments)
    drawn = ours(folder, name, ControlUnit(str(tmp_path), HINT, **unit), negative_prompt="dog")
    assert_close(drawn.latent, expected)
    plain = ours(folder, name, negative_prompt="dog")
    assert not torch.allclose(plain.latent, drawn.latent, atol=0.05)
