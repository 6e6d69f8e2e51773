"""Control networks from every layout: whole, for their own model alone, and refused in one sentence otherwise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from narrow_checkpoints import narrow, random_model, randomise
from public_manifests import fake_weights
from safetensors.torch import save_file
from torch import Tensor, nn

from darkroom.checkpoints.clip_names import transformers_vision
from darkroom.checkpoints.control import describe_control, read_control
from darkroom.checkpoints.control_names import (
    adapter_of_diffusers,
    adapter_of_tencent,
    attention_widths,
    controlnet_of_diffusers,
    ip_adapter,
    kind_of_control,
    original_controlnet,
)
from darkroom.checkpoints.image_encoder import tower_config
from darkroom.checkpoints.inspect import inspect
from darkroom.checkpoints.load import load_checkpoint
from darkroom.checkpoints.open_file import open_weights
from darkroom.checkpoints.table import rules
from darkroom.checkpoints.transfer import wanted_shapes
from darkroom.errors import InputError
from darkroom.models.control import cross_attentions
from darkroom.models.controlnet import ControlNet, ControlNetConfig
from darkroom.models.ip_adapter import IPAdapter, IPAdapterConfig, ResamplerConfig
from darkroom.models.t2i_adapter import T2IAdapter, T2IAdapterConfig
from darkroom.models.unet import UNet
from darkroom.models.vision import VisionConfig, VisionTower
from darkroom.systems import SYSTEMS
from darkroom.systems.empty import empty_modules


def theirs(network: nn.Module, places: Any) -> dict[str, Tensor]:
    """The tensors of `network` under the names of a layout."""
    state, found = network.state_dict(), {}
    for rule in rules(places, state):
        found.update(zip(rule.theirs, rule.change.to_theirs([state[name] for name in rule.ours])))
    return {name: tensor.contiguous().clone() for name, tensor in found.items()}


def same(network: nn.Module, other: nn.Module) -> None:
    state = other.state_dict()
    assert network.state_dict().keys() == state.keys()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=0, atol=1e-6)


def controlnet_config(name: str) -> ControlNetConfig:
    return ControlNetConfig(narrow(name).unet, hint_widths=(8, 8, 16, 16))


@pytest.mark.parametrize("name", ["sd-v1-5", "sd-v2-1-base", "sdxl-base"])
def test_controlnets_in_both_layouts(name: str, tmp_path: Path) -> None:
    config, model = controlnet_config(name), random_model(name)
    network = randomise(ControlNet(config))
    plain = theirs(network, original_controlnet(config))
    vector = "add_embedding" if name == "sdxl-base" else "class_embedding"
    whole_model = {f"model.diffusion_model.{i}": torch.ones(2) for i in range(3)}
    layouts: dict[str, dict[str, Tensor]] = {
        "plain": plain,
        "prefixed": {f"control_model.{n}": t for n, t in plain.items()},
        "beside a whole model": {**whole_model, **{f"control_model.{n}": t for n, t in plain.items()}},
        "diffusers": theirs(network, controlnet_of_diffusers(config, vector)),
    }
    for layout, tensors in layouts.items():
        path = tmp_path / f"{layout}.safetensors"
        save_file(tensors, path)
        found = read_control(path, model)
        assert isinstance(found, ControlNet)
        assert not found.global_pool
        same(found, network)


def test_controlnets_with_fewer_transformers(tmp_path: Path) -> None:
    """As the small and middle ones for SDXL."""
    config = controlnet_config("sdxl-base")
    small = replace(config, unet=replace(config.unet, depth=(0, 0, 0), mid_depth=0))
    network = randomise(ControlNet(small))
    save_file(theirs(network, controlnet_of_diffusers(small, "add_embedding")), tmp_path / "small.safetensors")
    same(read_control(tmp_path / "small.safetensors", random_model("sdxl-base")), network)


def test_differences_and_factors_become_whole(tmp_path: Path) -> None:
    config, model = controlnet_config("sd-v1-5"), random_model("sd-v1-5")
    network, base = randomise(ControlNet(config), 3), model.unet.state_dict()
    tensors = theirs(network, original_controlnet(config))
    shared = ControlNet(config)
    shared.load_state_dict({n: t - base[n] if n in base else t for n, t in network.state_dict().items()})
    difference = theirs(shared, original_controlnet(config))
    difference = {f"control_model.{n}": t for n, t in difference.items()} | {"difference": torch.zeros(1)}
    save_file(difference, tmp_path / "difference.safetensors")
    found = read_control(tmp_path / "difference.safetensors", model)
    for name, tensor in found.state_dict().items():
        torch.testing.assert_close(tensor, network.state_dict()[name], rtol=1e-5, atol=1e-5)

    layer, convolution = "input_blocks.1.1.transformer_blocks.0.attn1.to_q", "input_blocks.1.0.in_layers.2"
    for stem in (layer, convolution):
        weight = tensors.pop(f"{stem}.weight")
        tensors[f"{stem}.up"] = torch.randn(weight.shape[0], 2, *[1] * (weight.dim() - 2))
        tensors[f"{stem}.down"] = torch.randn(2, *weight.shape[1:])
    save_file({**tensors, "lora_controlnet": torch.zeros(1)}, tmp_path / "lora.safetensors")
    found = read_control(tmp_path / "lora.safetensors", model)
    for stem, ours in ((layer, "down.0.attentions.0.blocks.0.attn1.to_q"), (convolution, "down.0.blocks.0.conv1")):
        up, down = tensors[f"{stem}.up"].flatten(1), tensors[f"{stem}.down"].flatten(1)
        expected = base[f"{ours}.weight"] + (up @ down).reshape(base[f"{ours}.weight"].shape)
        torch.testing.assert_close(found.get_parameter(f"{ours}.weight"), expected)
    assert torch.equal(found.get_parameter("zero_middle.weight"), network.get_parameter("zero_middle.weight"))


def test_pooling_is_told_by_the_configuration_or_the_name(tmp_path: Path) -> None:
    config, model = controlnet_config("sd-v1-5"), random_model("sd-v1-5")
    network = randomise(ControlNet(config))
    save_file(theirs(network, original_controlnet(config)), tmp_path / "control_v11e_sd15_Shuffle.safetensors")
    folder = theirs(network, controlnet_of_diffusers(config, ""))
    save_file(folder, tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_text('{"global_pool_conditions": true}')
    for file in tmp_path.glob("*.safetensors"):
        found = read_control(file, model)
        assert isinstance(found, ControlNet)
        assert found.global_pool


FULL = T2IAdapterConfig((32, 64, 128, 128), 2, 8, (False, True, True, True))
ADAPTERS = {
    "full": (FULL, "sd-v1-5"),
    "gray": (replace(FULL, hint_channels=1), "sd-v1-5"),
    "light": (replace(FULL, light=True, num_res_blocks=4), "sd-v1-5"),
    "xl": (replace(FULL, factor=16, halved=(False, False, True, False)), "sdxl-base"),
}


@pytest.mark.parametrize("kind", ADAPTERS)
def test_t2i_adapters_in_both_layouts(kind: str, tmp_path: Path) -> None:
    config, name = ADAPTERS[kind]
    network = randomise(T2IAdapter(config))
    of_diffusers = {f"adapter.{n}": t for n, t in theirs(network, adapter_of_diffusers(config)).items()}
    for layout, tensors in (("tencent", theirs(network, adapter_of_tencent(config))), ("diffusers", of_diffusers)):
        save_file(tensors, tmp_path / f"{layout}.safetensors")
        found = read_control(tmp_path / f"{layout}.safetensors", random_model(name))
        assert isinstance(found, T2IAdapter)
        assert found.config == config
        same(found, network)


@pytest.mark.parametrize("plus", [False, True])
def test_ip_adapters_in_both_containers(plus: bool, tmp_path: Path) -> None:
    model = random_model("sd-v1-5")
    widths = tuple(layer.to_k.out_features for layer in cross_attentions(model.unet))
    dim = model.system.unet.context_dim
    assert dim is not None
    config = IPAdapterConfig(24, dim, 4, widths, ResamplerConfig(32, 2, 1) if plus else None)
    network = randomise(IPAdapter(config))
    tensors = theirs(network, ip_adapter(config, model.system.unet))
    save_file(tensors, tmp_path / "a.safetensors")
    nested: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        nested[part][rest] = tensor
    torch.save(nested, tmp_path / "a.bin")
    for path in tmp_path.iterdir():
        found = read_control(path, model)
        assert isinstance(found, IPAdapter)
        assert found.config == config
        same(found, network)


LAYER = "input_blocks.1.0.in_layers.2"


def small_files(tmp_path: Path) -> Mapping[str, Path]:
    config = controlnet_config("sd-v1-5")
    control = theirs(ControlNet(config), original_controlnet(config))
    broken = {n: t for n, t in control.items() if n != "zero_convs.0.0.bias"}
    files: dict[str, dict[str, Tensor]] = {
        "control": control,
        "broken": broken,
        "nan": {**control, "zero_convs.0.0.bias": torch.full((32,), torch.nan)},
        "factors": {
            **{n: t for n, t in control.items() if not n.startswith(f"{LAYER}.")},
            f"{LAYER}.up": torch.ones(20_000, 1),
            f"{LAYER}.down": torch.ones(1, 20_000),
            "lora_controlnet": torch.zeros(1),
        },
        "flat hint": {**control, "input_hint_block.0.weight": torch.ones(8)},
        "adapter": theirs(T2IAdapter(FULL), adapter_of_tencent(FULL)),
        "lllite": {"lllite_unet_input_blocks_4_1.cond_emb": torch.ones(1)},
        "union": {**control, "task_embedding": torch.ones(1)},
        "face": {"image_proj.proj.0.weight": torch.ones(1), "ip_adapter.1.to_k_ip.weight": torch.ones(1, 1)},
        "other": {"weight": torch.ones(1)},
    }
    for name, tensors in files.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
    return {name: tmp_path / f"{name}.safetensors" for name in files}


def test_what_is_not_read_is_said_in_a_sentence(tmp_path: Path) -> None:
    files = small_files(tmp_path)
    for name, system, message in (
        ("control", "sdxl-base", r"is a ControlNet for .*, the model is sdxl-base, which reads tokens of width 96"),
        ("control", "ldm_celeba256", "the model is ldm_celeba256, which reads no tokens"),
        ("broken", "sd-v1-5", r"does not fit a ControlNet for sd-v1-5: 1 tensors are missing \(zero_convs.0.0.bias\)"),
        ("nan", "sd-v1-5", r"zero_convs\.0\.0\.bias holds NaN or infinite values"),
        ("factors", "sd-v1-5", r"the factors of input_blocks.1.0.in_layers.2 are \[20000, 1\] and \[1, 20000\]"),
        ("flat hint", "sd-v1-5", "the layers that read the hint are no convolutions"),
        ("adapter", "sdxl-base", "does not fit a T2I-Adapter for sdxl-base"),
        ("lllite", "sd-v1-5", "is a ControlNet-LLLite, which is not read"),
        ("union", "sd-v1-5", "is a ControlNet Union, which is not read"),
        ("face", "sd-v1-5", "is an IP-Adapter for faces or of another kind; read are plain and plus"),
        ("other", "sd-v1-5", "is no ControlNet, T2I-Adapter or IP-Adapter: its 1 tensors are weight"),
    ):
        with pytest.raises(InputError, match=message):
            read_control(files[name], random_model(system))


def test_files_say_what_they_are(tmp_path: Path) -> None:
    files = small_files(tmp_path)
    facts = inspect(files["control"], hashed=False)
    assert (facts["kind"], facts["made for"]) == ("ControlNet", "a model that reads tokens of width 32")
    assert describe_control(open_weights(files["adapter"])) == {"kind": "T2I-Adapter"}
    assert kind_of_control(open_weights(files["other"])) is None
    with pytest.raises(InputError, match="it is a T2I-Adapter, which is put beside a model with --control"):
        load_checkpoint(files["adapter"])


PUBLIC = {
    "sd-v1-5": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "sd-v2-1-base": {
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
    },
    "sdxl-base": {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_controlnets_by_name_and_shape(name: str) -> None:
    """Of the configurations that the published ones have, without storage."""
    config = ControlNetConfig(SYSTEMS[name].unet)
    with empty_modules():
        ours = ControlNet(config).state_dict()
        peer = diffusers.ControlNetModel(**PUBLIC[name])  # type: ignore[arg-type]
    vector = "add_embedding" if name == "sdxl-base" else "class_embedding"
    there = wanted_shapes(rules(controlnet_of_diffusers(config, vector), ours), ours)
    assert there == {n: tuple(t.shape) for n, t in peer.state_dict().items()}
    original = wanted_shapes(rules(original_controlnet(config), ours), ours)
    assert sorted(map(math.prod, original.values())) == sorted(map(math.prod, there.values()))
    if name == "sd-v1-5":
        assert len(original) == 340
        assert original["zero_convs.11.0.weight"] == original["middle_block_out.0.weight"] == (1280, 1280, 1, 1)
        assert original["input_hint_block.14.weight"] == (320, 256, 3, 3)
        assert original["input_blocks.11.0.emb_layers.1.weight"] == (1280, 1280)


@pytest.mark.parametrize(("name", "last"), [("sd-v1-5", 31), ("sd-v2-1-base", 31), ("sdxl-base", 139)])
def test_public_ip_adapters_by_name_and_shape(name: str, last: int) -> None:
    unet = SYSTEMS[name].unet
    widths = attention_widths(unet)
    with empty_modules():
        order = [layer.to_k.out_features for layer in cross_attentions(UNet(unet))]
        assert order == [*widths[0], *widths[1], *widths[2]]
        config = IPAdapterConfig(1024, unet.context_dim or 0, 4, tuple(order))
        ours = IPAdapter(config).state_dict()
    there = wanted_shapes(rules(ip_adapter(config, unet), ours), ours)
    numbers = {int(n.split(".")[1]) for n in there if n.startswith("ip_adapter.")}
    assert numbers == set(range(1, last + 1, 2))
    assert there["ip_adapter.1.to_k_ip.weight"] == (640 if name == "sdxl-base" else 320, unet.context_dim)
    assert there[f"ip_adapter.{last}.to_v_ip.weight"] == (1280, unet.context_dim)  # the middle comes last


@pytest.mark.parametrize(
    ("width", "layers", "inner", "projection", "activation"),
    [(1024, 24, 4096, 768, "quick_gelu"), (1280, 32, 5120, 1024, "gelu"), (1664, 48, 8192, 1280, "gelu")],
)
def test_public_image_encoders_without_their_configuration(
    width: int, layers: int, inner: int, projection: int, activation: str
) -> None:
    config = transformers.CLIPVisionConfig(
        hidden_size=width, intermediate_size=inner, projection_dim=projection, num_hidden_layers=layers,
        num_attention_heads=16, patch_size=14, hidden_act=activation,
    )  # fmt: skip
    with empty_modules():
        peer = transformers.CLIPVisionModelWithProjection(config).state_dict()
    tensors = fake_weights({name: tuple(t.shape) for name, t in peer.items()})
    found = tower_config(Path("clip_vision.safetensors"), tensors)
    assert found == VisionConfig(
        width,
        layers,
        16,
        activation,
        projection,
        inner=None if inner == 4 * width else inner,  # type: ignore[arg-type]
    )
    with empty_modules():
        ours = VisionTower(found).state_dict()
    there = wanted_shapes(rules(transformers_vision(found), ours), ours)
    assert there == {n: tuple(t.shape) for n, t in peer.items() if not n.endswith("position_ids")}
