import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from PIL import Image
from safetensors.torch import load_file, save_file

from darkroom.checkpoints.taesd import load_tiny_decoder
from darkroom.engine.pipeline import Pipeline, Progress
from darkroom.engine.preview import Preview, latent_to_rgb
from darkroom.errors import InputError
from darkroom.models.tiny_autoencoder import TinyDecoder
from darkroom.prompts.grammar import parse
from darkroom.requests.interpolation import interpolated
from darkroom.systems.build import LatentDiffusion
from darkroom.types import Request


class Linear(LatentDiffusion):
    """A first stage whose latents are a known linear map of the mean colours."""

    def encode_images(self, images, noise=None, *, tile=None):  # type: ignore[no-untyped-def]
        small = torch.nn.functional.avg_pool2d(images, self.autoencoder.config.factor)
        return torch.cat([small * 2 + 0.5, small.flip(1), torch.zeros_like(small[:, :2])], dim=1)


def test_the_map_is_found_where_there_is_one(tiny_model: LatentDiffusion) -> None:
    model = Linear(tiny_model.system)
    preview = Preview(model)
    colours = torch.tensor([0.5, -0.25, 0.0]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    latents = model.encode_images(
        torch.nn.functional.interpolate(colours, scale_factor=model.autoencoder.config.factor)
    )
    seen = preview.pixels(latents)[0].reshape(-1, 3)
    assert np.abs(seen - np.array([191, 96, 128])).max() <= 2
    matrix, bias = latent_to_rgb(model)
    assert all(torch.equal(a, b) for a, b in zip((matrix, bias), latent_to_rgb(model)))


def test_previews_come_while_drawing(tiny_model: LatentDiffusion) -> None:
    preview = Preview(tiny_model)
    steps = [e for e in Pipeline(tiny_model).run([Request("a cat", width=48)]) if isinstance(e, Progress)]
    for event in steps:
        assert preview.pixels(event.step.x0).shape == (1, 32 // 8, 48 // 8, 3)
        image = Image.open(io.BytesIO(preview.jpeg(event.step.x0)))
        assert image.size == (512, 341)


@pytest.fixture
def peer() -> AutoencoderTiny:
    torch.manual_seed(0)
    network = AutoencoderTiny()
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.02 * torch.randn_like(p))
    return network.eval()


def test_tiny_decoders_agree_with_the_peer_in_every_layout(peer: AutoencoderTiny, tmp_path: Path) -> None:
    peer.save_pretrained(tmp_path / "folder")
    state = load_file(tmp_path / "folder" / "diffusion_pytorch_model.safetensors")
    decoder = {k.removeprefix("decoder.layers."): v for k, v in state.items() if k.startswith("decoder.")}
    numbered = {f"{int(k.split('.')[0]) + 1}.{k.split('.', 1)[1]}": v for k, v in decoder.items()}
    save_file(numbered, tmp_path / "taesd_decoder.safetensors")
    save_file({f"decoder.{k}": v for k, v in numbered.items()}, tmp_path / "taesd.safetensors")
    latents = 2 * torch.randn(2, 4, 6, 5)
    with torch.no_grad():
        (expected,) = peer.decode(latents, return_dict=False)
        for place in ("folder", "taesd_decoder.safetensors", "taesd.safetensors"):
            ours = load_tiny_decoder(tmp_path / place)(latents)
            assert (ours - expected).abs().max() <= 1e-4 * expected.abs().max()
    save_file({k: v for k, v in numbered.items() if not k.startswith("8.")}, tmp_path / "less.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    for wrong in ("less.safetensors", "other.safetensors"):
        with pytest.raises(InputError, match="is no decoder of TAESD"):
            load_tiny_decoder(tmp_path / wrong)


def test_tiny_decoders_of_other_latents_are_refused(tiny_model: LatentDiffusion, tmp_path: Path) -> None:
    channels = tiny_model.autoencoder.config.latent_channels + 1
    save_file(TinyDecoder(channels).state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=f"decodes latents of {channels} channels at 1/8"):
        Preview(tiny_model, tmp_path / "other.safetensors")


def test_frames_go_from_one_request_to_the_other(tiny_model: LatentDiffusion) -> None:
    first, second = Request("a red cat", seed=1, steps=6), Request("a blue dog", seed=2, steps=6)
    frames = Pipeline(tiny_model).generate(interpolated(first, second, 5))
    ends = Pipeline(tiny_model).generate([first, second])
    for frame, end in ((frames[0], ends[0]), (frames[-1], ends[1])):
        assert np.abs(frame.pixels.astype(int) - end.pixels).max() <= 1
    distances = [np.abs(f.pixels.astype(int) - ends[0].pixels).mean() for f in frames]
    assert distances[1] < distances[-1]
    for wrong, message in (
        ((first, second, 1), "the number of frames is 1"),
        ((first, second, 10**9), "the number of frames is 1000000000, expected is 2 to 10000"),
        ((first, Request("x", steps=7), 3), "differ in more than prompt and seed: steps"),
        ((first, Request("x AND y", steps=6), 3), "composed with AND"),
        ((first, replace(second, prompt="a dog <lora:ink:1>"), 3), "different LoRAs"),
    ):
        with pytest.raises(InputError, match=message):
            interpolated(*wrong)


@pytest.mark.parametrize("prompt", ["a cat", "a (cat", "a cat :0.3", "a [cat:fox:0.5", "<lora:ink:0.5> a cat", ""])
def test_mixed_prompts_keep_what_each_says(prompt: str) -> None:
    other = "<lora:ink:0.5> a dog]" if parse(prompt).loras else "a dog]"
    for i, frame in enumerate(interpolated(Request(prompt), Request(other), 5)[1:-1], 1):
        mixed = parse(frame.prompt)
        assert [p.prompt for p in mixed.parts] == [parse(text).parts[0].prompt for text in (prompt, other)]
        assert [p.weight for p in mixed.parts] == [1 - i / 4, i / 4]
        assert mixed.loras == parse(prompt).loras


def test_pictures_to_start_from_are_compared_by_what_they_hold() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    assert len(interpolated(Request("a", image=image), Request("b", image=image.copy()), 3)) == 3
    for other in (None, image + 1, image[:16]):
        with pytest.raises(InputError, match="seed: image"):
            interpolated(Request("a", image=image), Request("b", image=other), 3)
