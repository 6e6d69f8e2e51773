"""Parity with transformers at narrow widths, random in every parameter; 1e-5 of the largest feature, float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from darkroom.checkpoints.dino import load_dino
from darkroom.errors import InputError
from darkroom.models.dino import DINO_SMALL, Dino, normalize_image
from darkroom.models.tower import stretched_positions
from darkroom.systems.empty import empty_modules

SETTINGS = {"hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 56, "patch_size": 14}


def peer(registers: int) -> torch.nn.Module:
    torch.manual_seed(registers)
    if registers:
        model = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(num_register_tokens=registers, **SETTINGS))
    else:
        model = Dinov2Model(Dinov2Config(**SETTINGS))
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.2 if p.dim() == 1 else 0.05)
    return model.eval()


def close(ours: Tensor, theirs: Tensor) -> bool:
    return float((ours - theirs).abs().max()) < 1e-5 * float(theirs.abs().max())


# Of other sizes beside registers only: transformers leaves out the offset with which the release stretches positions.
@pytest.mark.parametrize(("registers", "size"), [(0, (56, 56)), (4, (56, 56)), (4, (42, 70))])
@torch.no_grad()
def test_features_are_those_of_transformers(registers: int, size: tuple[int, int], tmp_path: Path) -> None:
    theirs = peer(registers)
    theirs.save_pretrained(tmp_path)
    ours = load_dino(tmp_path)
    assert (ours.config.width, ours.config.layers, ours.config.registers) == (128, 3, registers)
    images = torch.randn(2, 3, *size)
    output = theirs(images, output_hidden_states=True)
    assert close(ours(images), output.last_hidden_state[:, 0])
    kept = [0, *range(1 + registers, output.last_hidden_state.shape[1])]
    for found, expected in zip(ours.tokens(images, (0, 1, 3)), [output.hidden_states[i] for i in (0, 1, 3)]):
        assert close(found, expected[:, kept])
    assert not any(p.requires_grad for p in ours.parameters())


@torch.no_grad()
def test_release_file_is_the_same_network(tmp_path: Path) -> None:
    theirs = peer(4)
    theirs.save_pretrained(tmp_path)
    state = load_dino(tmp_path).state_dict()
    names = {"class_token": "cls_token", "registers": "register_tokens", "position_embedding": "pos_embed"}
    released = {"mask_token": torch.zeros(1, 128)}
    for name, tensor in state.items():
        if ".to_q." in name:
            parts = [state[name.replace("to_q", part)] for part in ("to_q", "to_k", "to_v")]
            released[name.replace("to_q", "attn.qkv").replace("layers", "blocks")] = torch.cat(parts)
        elif ".to_k." not in name and ".to_v." not in name:
            new = names.get(name, name).replace("layers.", "blocks.").replace("patch_embedding", "patch_embed.proj")
            new = new.replace("to_out", "attn.proj").replace("ff_in", "mlp.fc1").replace("ff_out", "mlp.fc2")
            released[new.replace("scale1", "ls1.gamma").replace("scale2", "ls2.gamma")] = tensor
    torch.save(released, tmp_path / "dinov2_reg4_pretrain.pth")
    images = torch.randn(1, 3, 42, 42)
    assert torch.equal(load_dino(tmp_path / "dinov2_reg4_pretrain.pth")(images), load_dino(tmp_path)(images))


def test_stretched_grid_is_that_of_the_release() -> None:
    """16 patches a side from 37: factors of 16.1 / 37, so that the first place stands at 0.5 · 37 / 16.1 − 0.5."""
    ramp = torch.arange(37.0).repeat(37)  # the column of each place
    table = torch.cat([torch.zeros(1), ramp])[None, :, None]
    stretched = stretched_positions(table, (16, 16), mode="bilinear", offset=0.1)
    columns = stretched[0, 1:, 0].view(16, 16)[0]
    expected = (torch.arange(16) + 0.5) * 37 / 16.1 - 0.5
    assert torch.allclose(columns[1:-1], expected[1:-1], atol=1e-4)
    assert stretched.shape == (1, 257, 1)


def test_small_network_has_the_release_s_size() -> None:
    with empty_modules():
        network = Dino(DINO_SMALL)
    mask_token = 384  # which only training reads
    assert sum(p.numel() for p in network.parameters()) + mask_token == 22_056_576


def test_pictures_become_the_network_s_input() -> None:
    images = torch.full((1, 3, 20, 30), 1.0)
    prepared = normalize_image(images, 28)
    assert prepared.shape == (1, 3, 28, 28)
    assert torch.allclose(prepared[0, :, 0, 0], torch.tensor([2.2489, 2.4286, 2.64]), atol=1e-4)


def test_other_file_is_refused_by_name(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other\.pth does not hold DINOv2's weights"):
        load_dino(tmp_path / "other.pth")
