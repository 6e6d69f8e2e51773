"""Exactness at narrow widths: random weights in every parameter, through files the peer reads and files it wrote.

Tolerance 1e-4 of the largest value in float32: the two sides differ in the order of sums, nowhere else.
"""

from pathlib import Path

import pytest
import torch
from narrow_checkpoints import narrow, peers_of_folder, random_model, write_peers
from torch import Tensor, nn

from darkroom.checkpoints.convert import Content, write_diffusers, write_original
from darkroom.checkpoints.identify import identify
from darkroom.checkpoints.load import load_checkpoint, load_source
from darkroom.checkpoints.source import open_source
from darkroom.conditioning.size import NumbersConfig
from darkroom.models.bottleneck import KLConfig
from darkroom.nn.embeddings import sinusoid
from darkroom.systems.build import LatentDiffusion

NAMES = [
    *("sd-v1-5", "sd-v1-5-inpainting", "sd-v2-1-base", "sd-v2-1-768-v", "sd-v2-depth", "sd-x4-upscaler"),
    *("sd-v2-1-unclip-l", "sd-v2-1-unclip-h", "sd-turbo", "sdxl-base", "sdxl-refiner", "sdxl-turbo"),
    *("ldm_celeba256", "ldm_bsr_sr", "ldm_text2img-large"),
]


def close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    scale = float(theirs.abs().max())
    assert scale > 1e-3
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * scale)


@torch.no_grad()
def compare(model: LatentDiffusion, peers: dict[str, nn.Module]) -> None:
    """Every component on the same random input."""
    system = model.system
    torch.manual_seed(1)
    _compare_unet(model, peers["unet"])
    stage = peers.get("vae") or peers["vqvae"]
    images = torch.rand(1, 3, 32, 32) * 2 - 1
    moments = stage.encode(images)
    if isinstance(system.autoencoder.bottleneck, KLConfig):
        close(model.autoencoder.moments(images), moments.latent_dist.parameters)
    else:
        close(model.autoencoder.encode(images), moments.latents)
    z = torch.randn_like(model.autoencoder.encode(images))
    close(model.autoencoder.decode(z), stage.decode(z).sample)
    embedders = model.conditioner.embedders
    tokens = torch.randint(0, 99, (2, 12))
    for i, name in enumerate(n for n in ("text_encoder", "text_encoder_2") if n in peers):
        found = embedders["caption"].towers[i](tokens, pooled="2" in name)
        theirs = peers[name](tokens)
        close(found.tokens, theirs.last_hidden_state)
        if "2" in name:
            close(found.pooled, theirs.text_embeds)
    if "bert" in peers:
        close(embedders["caption"].transformer(tokens), peers["bert"](tokens)[0])
    if "image_encoder" in peers:
        pixels = torch.randn(2, 3, 28, 28)
        close(embedders["image_prompt"].tower(pixels), peers["image_encoder"](pixels).image_embeds)
        close(embedders["image_prompt"].mean[None], peers["image_normalizer"].mean)
        close(embedders["image_prompt"].std[None], peers["image_normalizer"].std)
    if "depth_estimator" in peers:
        pixels = torch.randn(1, 3, 64, 64)
        peers["depth_estimator"].head.head[4].bias.fill_(3.0)  # so that the last relu passes something
        embedders["depth"].estimator.head3.bias.data.fill_(3.0)
        close(embedders["depth"].estimator(pixels)[:, 0], peers["depth_estimator"](pixels).predicted_depth)


def _compare_unet(model: LatentDiffusion, peer: nn.Module) -> None:
    c = model.system.unet
    x, t = torch.randn(2, c.in_channels, 8, 8), torch.tensor([3.0, 711.0])
    tokens = torch.randn(2, 5, c.context_dim) if c.context_dim else None
    arguments = [x, t] if tokens is None else [x, t, tokens]
    vector, extra = None, {}
    if c.vector == "table":
        vector = torch.tensor([3, 20])
        extra = {"class_labels": vector}
    elif c.vector == "linear":
        sizes = [e for e in model.system.embedders if isinstance(e, NumbersConfig)]
        if sizes:
            count = sum(2 if isinstance(e, NumbersConfig) else e.kind == "aesthetic_score" for e in model.system.embedders)
            numbers = torch.randint(1, 900, (2, count))
            pooled = torch.randn(2, c.vector_dim - count * sizes[0].width)
            vector = torch.cat([pooled, sinusoid(numbers, sizes[0].width).flatten(1)], dim=1)
            extra = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": numbers}}
        else:
            vector = torch.randn(2, c.vector_dim)
            extra = {"class_labels": vector}
    close(model.unet(x, t, tokens, vector), peer(*arguments, **extra).sample)


@pytest.mark.parametrize("name", NAMES)
def test_what_we_write_the_peer_computes(tmp_path: Path, name: str) -> None:
    """Our model to a single file, that file to a folder, the folder to the peer."""
    model = random_model(name)
    write_original(Content.of_model(model), tmp_path / "model.safetensors")
    source = open_source(tmp_path / "model.safetensors")
    identity = identify(source, system=narrow(name))
    write_diffusers(Content.of_source(source, identity), tmp_path / "folder")
    again = load_source(source, identity, None, "cpu")
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())
    compare(again, peers_of_folder(tmp_path / "folder", narrow(name)))


@pytest.mark.parametrize("name", NAMES)
def test_what_the_peer_writes_we_compute(tmp_path: Path, name: str) -> None:
    """The peer's folder to our model, and to a single file and back."""
    peers = write_peers(tmp_path, narrow(name))
    loaded = load_checkpoint(tmp_path, system=narrow(name))
    compare(loaded.model, peers)
    source = open_source(tmp_path)
    assert loaded.identity is not None
    write_original(Content.of_source(source, loaded.identity), tmp_path / "model.safetensors")
    back = load_checkpoint(tmp_path / "model.safetensors", system=loaded.model.system).model
    state = back.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in loaded.model.state_dict().items() if "head3" not in k)
