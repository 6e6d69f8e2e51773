"""Exactness at narrow widths: random weights in every parameter, through files the peer reads and files it wrote.

Tolerance 1e-4 of the largest value in float32: the two sides differ in the order of sums, nowhere else.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from narrow_checkpoints import narrow, peer_class, peers_of_folder, random_model, randomise, write_peers
from torch import Tensor, nn

from darkroom.checkpoints import diffusers, original
from darkroom.checkpoints.convert import Content, write_diffusers, write_original
from darkroom.checkpoints.diffusers_config import component_configs
from darkroom.checkpoints.identify import identify
from darkroom.checkpoints.load import load_checkpoint, load_source
from darkroom.checkpoints.source import open_source
from darkroom.checkpoints.table import rules
from darkroom.conditioning.size_and_crop import NumbersConfig
from darkroom.models.autoencoder import Autoencoder
from darkroom.models.bottleneck import VQConfig
from darkroom.nn.embeddings import sinusoid
from darkroom.systems import FIRST_STAGES, SYSTEMS
from darkroom.systems.build import LatentDiffusion

# Turbo models and the other unCLIP and 768 pixels have the networks of those below.
WRITTEN = [
    *("sd-v1-5-inpainting", "sd-v2-depth", "sd-v2-1-unclip-l", "sd-x4-upscaler", "sdxl-base", "sdxl-refiner"),
    *("ldm_celeba256", "ldm_text2img-large"),
]
READ = ["sd-v1-5", "sd-v2-1-base", *WRITTEN[1:]]


def close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    scale = float(theirs.abs().max())
    assert scale > 1e-3
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * scale)


def assert_same(ours: dict[str, Tensor], again: dict[str, Tensor]) -> None:
    assert set(ours) == set(again)
    assert all(torch.equal(tensor, again[name]) for name, tensor in ours.items())


@torch.no_grad()
def compare(model: LatentDiffusion, peers: dict[str, nn.Module]) -> None:
    """Every component on the same random input."""
    torch.manual_seed(1)
    _compare_unet(model, peers["unet"])
    compare_first_stage(model.autoencoder, peers.get("vae") or peers["vqvae"])
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
        for bias in (peers["depth_estimator"].head.head[4].bias, embedders["depth"].estimator.head3.bias):
            bias.add_(3.0)  # so that the last relu passes something
        close(embedders["depth"].estimator(pixels)[:, 0], peers["depth_estimator"](pixels).predicted_depth)


def compare_first_stage(ours: Autoencoder, peer: nn.Module) -> None:
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    encoded = peer.encode(images)  # type: ignore[operator]
    if ours.quantizer is None:
        close(ours.moments(images), encoded.latent_dist.parameters)
    else:
        close(ours.encode(images), encoded.latents)
    z = torch.randn_like(ours.encode(images))
    close(ours.decode(z), peer.decode(z).sample)  # type: ignore[operator]


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
            count = sum(
                2 if isinstance(e, NumbersConfig) else e.kind == "aesthetic_score" for e in model.system.embedders
            )
            numbers = torch.randint(1, 900, (2, count))
            pooled = torch.randn(2, c.vector_dim - count * sizes[0].width)
            vector = torch.cat([pooled, sinusoid(numbers, sizes[0].width).flatten(1)], dim=1)
            extra = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": numbers}}
        else:
            vector = torch.randn(2, c.vector_dim)
            extra = {"class_labels": vector}
    close(model.unet(x, t, tokens, vector), peer(*arguments, **extra).sample)


@pytest.mark.parametrize("name", WRITTEN)
def test_what_we_write_the_peer_computes(tmp_path: Path, name: str) -> None:
    """Our model to a single file, that file to a folder, the folder to the peer."""
    model = random_model(name)
    write_original(Content.of_model(model), tmp_path / "model.safetensors")
    source = open_source(tmp_path / "model.safetensors")
    identity = identify(source, system=narrow(name))
    write_diffusers(Content.of_source(source, identity), tmp_path / "folder")
    again = load_source(source, identity, None, "cpu")
    assert_same(model.state_dict(), again.state_dict())
    compare(again, peers_of_folder(tmp_path / "folder", narrow(name)))


@pytest.mark.parametrize("name", READ)
def test_what_the_peer_writes_we_compute(tmp_path: Path, name: str) -> None:
    """The peer's folder to our model, and to a single file and back."""
    peers = write_peers(tmp_path, narrow(name))
    loaded = load_checkpoint(tmp_path, system=narrow(name))
    source = open_source(tmp_path)
    assert loaded.identity is not None
    write_original(Content.of_source(source, loaded.identity), tmp_path / "model.safetensors")
    back = load_checkpoint(tmp_path / "model.safetensors", system=loaded.model.system).model
    assert_same(loaded.model.state_dict(), back.state_dict())
    compare(loaded.model, peers)


@pytest.mark.parametrize("name", ["kl-f4", "kl-f16", "kl-f32", "vq-f4", "vq-f4-noattn", "vq-f8", "vq-f16"])
@torch.no_grad()
def test_first_stages(name: str) -> None:
    """Attention on some levels, on none, and not even in the middle; KL and VQ; through both tables of names."""
    bottleneck = FIRST_STAGES[name].autoencoder.bottleneck
    bottleneck = replace(bottleneck, codes=50) if isinstance(bottleneck, VQConfig) else bottleneck
    config = replace(
        FIRST_STAGES[name].autoencoder, channels=32, num_res_blocks=1, decoder_res_blocks=2, bottleneck=bottleneck
    )
    described = component_configs(replace(SYSTEMS["ldm_celeba256"], autoencoder=config))["vqvae"]
    peer = randomise(peer_class(described).from_config(described))
    ours = Autoencoder(config)
    theirs, state = peer.state_dict(), {}
    for rule in rules(diffusers.autoencoder(config), ours.state_dict()):
        state.update(zip(rule.ours, rule.change.to_ours([theirs.pop(n) for n in rule.theirs])))
    assert not theirs
    ours.load_state_dict(state)
    original_state = {}
    for rule in rules(original.autoencoder(config), state):
        original_state.update(zip(rule.theirs, rule.change.to_theirs([state[n] for n in rule.ours])))
    for rule in rules(original.autoencoder(config), state):
        back = rule.change.to_ours([original_state[n] for n in rule.theirs])
        assert all(torch.equal(state[n], t) for n, t in zip(rule.ours, back))
    compare_first_stage(ours, peer)
