from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from darkroom.checkpoints.first_stage import load_first_stage
from darkroom.checkpoints.native import write_network
from darkroom.errors import InputError
from darkroom.models.autoencoder import Autoencoder, AutoencoderConfig
from darkroom.models.bottleneck import KLConfig
from darkroom.systems.build import LatentDiffusion

CONFIG = AutoencoderConfig(32, (1, 2), 1, 2, (False, False), True, 4, 4, KLConfig())


@pytest.fixture
def peer(tmp_path: Path) -> AutoencoderKL:
    torch.manual_seed(0)
    network = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=32,
    ).eval()
    network.save_pretrained(tmp_path / "component")
    network.save_pretrained(tmp_path / "pipeline" / "vae")
    return network


@torch.no_grad()
def test_a_component_a_pipeline_and_a_file_give_the_peers_numbers(peer: AutoencoderKL, tmp_path: Path) -> None:
    state = load_file(tmp_path / "component" / "diffusion_pytorch_model.safetensors")
    save_file(state, tmp_path / "alone.safetensors")
    images, latents = torch.randn(1, 3, 16, 16), torch.randn(1, 4, 8, 8)
    for place in ("component", "pipeline", "alone.safetensors"):
        ours = load_first_stage(str(tmp_path / place), CONFIG)
        assert torch.allclose(ours.encode(images), peer.encode(images).latent_dist.mean, atol=1e-4)
        assert torch.allclose(ours.decode(latents), peer.decode(latents).sample, atol=1e-4)


def test_what_a_recipe_exports_is_taken(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = Autoencoder(CONFIG).eval()
    write_network(tmp_path / "autoencoder.safetensors", trained, CONFIG, {})
    ours = load_first_stage(str(tmp_path / "autoencoder.safetensors"), CONFIG, torch.float32)
    assert ours.state_dict().keys() == trained.state_dict().keys()
    for name, tensor in trained.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor.bfloat16().float())


def test_that_of_a_whole_model_is_taken(tiny_folder: Path, tiny_model: LatentDiffusion) -> None:
    ours = load_first_stage(str(tiny_folder), tiny_model.system.autoencoder, torch.float32)
    for name, tensor in tiny_model.autoencoder.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor)


def test_what_does_not_fit_is_named(peer: AutoencoderKL, tmp_path: Path) -> None:
    state = load_file(tmp_path / "component" / "diffusion_pytorch_model.safetensors")
    state.pop("decoder.conv_out.bias")
    save_file(state, tmp_path / "less.safetensors")
    with pytest.raises(InputError, match=r"less.safetensors does not fit .*decoder.conv_out.bias"):
        load_first_stage(str(tmp_path / "less.safetensors"), CONFIG)
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="holds no first stage"):
        load_first_stage(str(tmp_path / "other.safetensors"), CONFIG)
