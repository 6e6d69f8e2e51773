"""Files of (IA)³, OFT, BOFT and GLoRA, as LyCORIS, kohya's scripts and PEFT write them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from narrow_checkpoints import narrow
from peft import BOFTConfig, OFTConfig, get_peft_model
from peft.tuners.boft.layer import BOFTLayer
from safetensors.torch import save_file
from torch import Tensor, nn

from darkroom.checkpoints.inspect import inspect
from darkroom.checkpoints.lora import read_lora
from darkroom.checkpoints.lora_names import adaptable_layers
from darkroom.errors import InputError
from darkroom.nn.lora import Adapter

SYSTEM = narrow("sd-v1-5")
LINEAR = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"  # 32 to 32
WIDE = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_ff_net_0_proj"  # 32 to 256
CONV = "lora_unet_down_blocks_1_resnets_0_conv1"  # 32 to 64, 3 × 3
MODULES = {
    LINEAR: "unet.down.0.attentions.0.blocks.0.attn1.to_q",
    WIDE: "unet.down.0.attentions.0.blocks.0.ff.proj_in",
    CONV: "unet.down.1.blocks.0.conv1",
}

NAMES = {
    LINEAR: "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
    WIDE: "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj",
    CONV: "down_blocks.1.resnets.0.conv1",
}


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def weight_of(key: str) -> Tensor:
    return random(*adaptable_layers(SYSTEM)[MODULES[key]].weight.shape)


def only(path: Path, key: str, tensors: dict[str, Tensor]) -> Adapter:
    """The adapter of the one layer in a file of these parts."""
    save_file({f"{key}.{part}": t for part, t in tensors.items()}, path / "a.safetensors")
    (found,) = read_lora(path / "a.safetensors", SYSTEM).adapters.items()
    assert found[0] == MODULES[key]
    return found[1]


@pytest.mark.parametrize("key", MODULES)
def test_ia3(key: str, tmp_path: Path) -> None:
    weight = weight_of(key)
    outputs, inputs = weight.shape[:2]
    ones = [1] * (weight.dim() - 2)
    by_output = only(tmp_path, key, {"weight": random(outputs), "on_input": torch.tensor(0)})
    torch.testing.assert_close(by_output.difference(weight), weight * random(outputs).view(-1, 1, *ones))
    shape = (1, inputs, *ones)
    by_input = only(tmp_path, key, {"weight": random(*shape), "on_input": torch.tensor(1)})
    torch.testing.assert_close(by_input.difference(weight), weight * random(*shape))


def test_ia3_of_peft(tmp_path: Path) -> None:
    weight = weight_of(WIDE)
    name = "base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj.ia3_l"
    for vector in (random(256, 1), random(1, 32)):
        save_file({name: vector}, tmp_path / "adapter_model.safetensors")
        (adapter,) = read_lora(tmp_path / "adapter_model.safetensors", SYSTEM).adapters.values()
        torch.testing.assert_close(weight + adapter.difference(weight), weight * vector)


@pytest.mark.parametrize("key", MODULES)
def test_oft_and_its_bound(key: str, tmp_path: Path) -> None:
    """By the definition of kohya's scripts: alpha times the outputs bounds the norm of the skew matrices."""
    weight, alpha = weight_of(key), torch.tensor(0.01)
    count = len(weight) // 8
    blocks, rescale = random(count, 8, 8), random(len(weight), *[1] * (weight.dim() - 1))
    q, one = blocks - blocks.mT, torch.eye(8)
    for bounded in (False, True):
        skew = q * (0.01 * len(weight) / q.norm()) if bounded else q
        r = (one + skew) @ (one - skew).inverse()
        turned = torch.einsum("knm,kn...->km...", r, weight.unflatten(0, (count, 8))).flatten(0, 1)
        parts = {"oft_blocks": blocks, **({"alpha": alpha} if bounded else {})}
        adapter = only(tmp_path, key, parts)
        torch.testing.assert_close(weight + adapter.difference(weight), turned, rtol=1e-4, atol=1e-4)
    adapter = only(tmp_path, key, {"oft_blocks": blocks, "alpha": alpha, "rescale": rescale})
    torch.testing.assert_close(weight + adapter.difference(weight), rescale * turned, rtol=1e-4, atol=1e-4)


def test_boft_turns_in_rounds(tmp_path: Path) -> None:
    weight = weight_of(LINEAR)
    adapter = only(tmp_path, LINEAR, {"oft_blocks": random(3, 4, 8, 8)})
    turned = weight + adapter.difference(weight)
    torch.testing.assert_close(turned.T @ turned, weight.T @ weight, rtol=1e-3, atol=1e-2)
    assert not torch.allclose(turned, weight, atol=0.1)


@pytest.mark.parametrize("key", MODULES)
@pytest.mark.parametrize("alpha", [None, 2.0])
def test_glora(key: str, alpha: float | None, tmp_path: Path) -> None:
    weight = weight_of(key)
    outputs, inputs, *kernel = weight.shape
    a1, a2, b1, b2 = random(inputs, 4), random(4, inputs), random(outputs, 4), random(4, inputs, *kernel)
    parts = {"a1.weight": a1, "a2.weight": a2, "b1.weight": b1, "b2.weight": b2}
    parts |= {} if alpha is None else {"alpha": torch.tensor(alpha)}
    change = torch.einsum("oi...,ij->oj...", weight, a1 @ a2) + (b1 @ b2.flatten(1)).view(weight.shape)
    found = only(tmp_path, key, parts).difference(weight)
    torch.testing.assert_close(found, change * (1 if alpha is None else alpha / 4), rtol=1e-4, atol=1e-3)


def test_glora_of_the_first_releases(tmp_path: Path) -> None:
    weight = weight_of(WIDE)
    a1, a2, b1, b2 = random(4, 32), random(32, 4), random(4, 32), random(256, 4)
    parts = {"a1.weight": a1, "a2.weight": a2, "b1.weight": b1, "b2.weight": b2}
    expected = b2 @ b1 + weight @ a2 @ a1
    torch.testing.assert_close(only(tmp_path, WIDE, parts).difference(weight), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weight": random(5), "on_input": torch.tensor(0)}, "factors whose shapes do not go together"),
        ({"weight": random(256), "on_input": torch.tensor(1)}, "parts that do not go together with the layer"),
        ({"oft_blocks": random(3, 8, 8)}, r"makes a change of \[24, 32\], the layer has \[256, 32\]"),
        ({"oft_blocks": random(3, 8)}, "factors whose shapes do not go together"),
        ({"oft_blocks": random(7, 32, 8, 8)}, "factors whose shapes do not go together"),
        ({"oft_blocks": random(32, 8, 8), "rescale": random(3)}, "factors whose shapes do not go together"),
        ({"oft_blocks": torch.full((32, 8, 8), torch.nan)}, "NaN or infinite values in its part oft_blocks"),
        ({"a1.weight": random(4, 4), "a2.weight": random(4, 4)}, "the parts glora_a1, glora_a2, which make no adapter"),
        ({"oft_R.weight": random(4, 27)}, "factors whose shapes do not go together"),
        ({"oft_R.weight": random(3, 28)}, "factors whose shapes do not go together"),
        ({"boft_R": random(1, 4, 8, 8), "boft_s": random(3, 1)}, "factors whose shapes do not go together"),
        ({"boft_R": random(9, 4, 8, 8), "boft_s": random(256, 1)}, "factors whose shapes do not go together"),
        ({"ia3_l": random(2, 2)}, "factors whose shapes do not go together"),
    ],
)
def test_what_does_not_fit_is_said(tensors: dict[str, Tensor], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        only(tmp_path, WIDE, tensors)


def holding(key: str) -> nn.Module:
    """A network whose only layer has the place, in Diffusers' names, and the weight of `key`."""
    weight = weight_of(key)
    outputs, inputs, *kernel = weight.shape
    layer = nn.Conv2d(inputs, outputs, kernel[0]) if kernel else nn.Linear(inputs, outputs)
    layer.weight.data.copy_(weight)
    root = module = nn.Module()
    *outer, last = NAMES[key].split(".")
    for name in outer:
        module.add_module(name, inner := nn.Module())
        module = inner
    module.add_module(last, layer)
    return root


@pytest.mark.filterwarnings("ignore")  # PEFT builds a kernel for graphics cards if it can
@pytest.mark.parametrize("key", MODULES)
@pytest.mark.parametrize(
    "config",
    [
        OFTConfig(r=4, oft_block_size=0),
        OFTConfig(r=0, oft_block_size=8, use_cayley_neumann=False),
        OFTConfig(r=0, oft_block_size=16, block_share=True, num_cayley_neumann_terms=3),
        OFTConfig(r=4, oft_block_size=0, coft=True, eps=0.5),
        BOFTConfig(boft_block_size=8, boft_block_num=0),
        BOFTConfig(boft_block_size=0, boft_block_num=4),
    ],
    ids=["oft", "oft exact", "oft shared", "oft bounded", "boft", "boft by number"],
)
@torch.no_grad()
def test_oft_and_boft_of_peft(config: OFTConfig | BOFTConfig, key: str, tmp_path: Path) -> None:
    """What PEFT merges into the weight; 1e-4 for the inverses of float32."""
    config = replace(config, target_modules=[NAMES[key].rpartition(".")[2]], init_weights=False)
    network = get_peft_model(holding(key), config)  # type: ignore[arg-type]
    for name, parameter in network.named_parameters():
        if "oft_R" in name:
            parameter.copy_(0.1 * random(*parameter.shape))
    network.save_pretrained(str(tmp_path))
    weight = weight_of(key)
    (adapter,) = read_lora(tmp_path / "adapter_model.safetensors", SYSTEM).adapters.values()
    expected = network.merge_and_unload().get_submodule(NAMES[key]).weight
    assert (expected - weight).abs().max() > 0.05
    torch.testing.assert_close(weight + adapter.difference(weight), expected, rtol=1e-4, atol=1e-4)


def test_boft_of_several_rounds_permutes_as_peft(tmp_path: Path) -> None:
    """Only graphics cards train these. Here is the product of PEFT's definition: P B Pᵀ, round by round."""
    weight, blocks, rescale = weight_of(LINEAR), 0.3 * random(3, 4, 8, 8), random(32, 1)
    skew, one = (blocks - blocks.mT) / 2, torch.eye(8)
    turns = (one - skew) @ (one + skew).inverse()
    butterfly = torch.eye(32)
    for i in range(3):
        order = BOFTLayer.block_butterfly_perm(None, 32, 4 // 2**i, 4, 2)  # type: ignore[arg-type]
        permuted = torch.eye(32)[order]
        butterfly = permuted @ torch.block_diag(*turns[i]) @ permuted.T @ butterfly
    found = only(tmp_path, LINEAR, {"boft_R": blocks, "boft_s": rescale})
    expected = (butterfly @ weight.T).T * rescale
    torch.testing.assert_close(weight + found.difference(weight), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ("oft_r", "an early OFT"),
        ("oft_diag", "an early OFT"),
        ("lora_E", "an AdaLoRA"),
        ("vera_lambda_b", "a VeRA"),
        ("gralora_A", "a GraLoRA"),
        ("hra_u", "an HRA"),
        ("miss_block", "a MiSS"),
    ],
)
def test_kinds_that_are_not_read_are_named(part: str, kind: str, tmp_path: Path) -> None:
    save_file({f"base_model.model.mid_block.x.{part}": random(2, 3)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(InputError, match=f"is {kind}.*, which is not read; read are LoRA, DoRA"):
        read_lora(tmp_path / "adapter_model.safetensors", SYSTEM)


def test_kinds_are_named(tmp_path: Path) -> None:
    tensors = {f"{LINEAR}.weight": random(32), f"{LINEAR}.on_input": torch.tensor(0)}
    tensors[f"{WIDE}.oft_blocks"] = random(32, 8, 8)
    save_file(tensors, tmp_path / "a.safetensors")
    assert inspect(tmp_path / "a.safetensors", hashed=False)["kind"] == "(IA)³, OFT or BOFT"
