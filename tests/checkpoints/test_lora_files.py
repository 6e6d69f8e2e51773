"""LoRA files of every tradition reach the same layers; what matches none is named."""

import json
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from narrow_checkpoints import narrow, random_model
from random_loras import inputs, lora_for
from safetensors.torch import save_file
from torch import Tensor

from darkroom.checkpoints.lora import apply_loras, describe_lora, read_lora, write_lora
from darkroom.checkpoints.lora_names import kohya_names, layers_by_key, parse_key, split_key
from darkroom.checkpoints.open_file import open_weights
from darkroom.errors import InputError
from darkroom.nn.lora import Hadamard, Kronecker
from darkroom.systems import SYSTEMS

Q = "unet.down.0.attentions.0.blocks.0.attn1.to_q"
# Keys as they stand in public files, and the layer that each means.
SD1_KEYS = {
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight": Q,
    "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q.lora_up.weight": Q,
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight": Q,
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora.down.weight": Q,
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.up.weight": Q,
    "base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_B.default.weight": Q,
    "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.lora_up.weight": Q,
    "lycoris_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lokr_w2_a": Q,
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.alpha": Q,
    "unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_out_lora.up.weight": (
        "unet.mid_attention.blocks.0.attn2.to_out"
    ),
    "lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj.alpha": (
        "unet.mid_attention.blocks.0.ff.proj_in"
    ),
    "lora_unet_up_blocks_1_upsamplers_0_conv.hada_w1_a": "unet.up.1.resample.conv",
    "lora_unet_down_blocks_0_resnets_1_time_emb_proj.dora_scale": "unet.down.0.blocks.1.embedding",
    "lora_te_text_model_encoder_layers_11_self_attn_out_proj.lora_up.weight": (
        "conditioner.embedders.caption.towers.0.layers.11.to_out"
    ),
    "text_encoder.text_model.encoder.layers.3.mlp.fc1.lora_linear_layer.down.weight": (
        "conditioner.embedders.caption.towers.0.layers.3.ff_in"
    ),
    "base_model.model.unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight": Q,
    "text_encoder.text_model.encoder.layers.3.self_attn.to_q_lora.up.weight": (
        "conditioner.embedders.caption.towers.0.layers.3.to_q"
    ),
    "text_encoder.text_model.encoder.layers.3.self_attn.to_out_lora.down.weight": (
        "conditioner.embedders.caption.towers.0.layers.3.to_out"
    ),
    "base_model.model.text_model.encoder.layers.3.self_attn.q_proj.lora_magnitude_vector": (
        "conditioner.embedders.caption.towers.0.layers.3.to_q"
    ),
}
SDXL_KEYS = {
    "lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_k.lora_down.weight": (
        "unet.down.1.attentions.0.blocks.1.attn2.to_k"
    ),
    "lora_unet_output_blocks_2_2_conv.lora_mid.weight": "unet.up.0.resample.conv",
    "lora_unet_label_emb_0_2.alpha": "unet.vector_embedding.2",
    "lora_te2_text_model_encoder_layers_31_mlp_fc2.lora_up.weight": (
        "conditioner.embedders.caption.towers.1.layers.31.ff_out"
    ),
    "lora_te2_text_projection.lora_up.weight": "conditioner.embedders.caption.towers.1.projection",
    "text_encoders.clip_g.transformer.text_model.encoder.layers.0.self_attn.q_proj.lora_up.weight": (
        "conditioner.embedders.caption.towers.1.layers.0.to_q"
    ),
    "base_model.model.text_encoder_2.text_model.encoder.layers.0.self_attn.v_proj.lora_B.weight": (
        "conditioner.embedders.caption.towers.1.layers.0.to_v"
    ),
    "text_encoder_2.text_model.encoder.layers.0.self_attn.v_proj.lora_B.weight": (
        "conditioner.embedders.caption.towers.1.layers.0.to_v"
    ),
}


@pytest.mark.parametrize(("system", "keys"), [("sd-v1-5", SD1_KEYS), ("sdxl-base", SDXL_KEYS)])
def test_every_tradition_of_keys(system: str, keys: dict[str, str]) -> None:
    table = layers_by_key(SYSTEMS[system])
    for key, wanted in keys.items():
        split = split_key(key)
        assert split is not None, key
        assert {table[name] for name in parse_key(split[0]) if name in table} == {wanted}, key


@pytest.mark.parametrize("system", ["sd-v1-5", "sd-v2-1-base", "sdxl-base", "sdxl-refiner"])
def test_every_linear_and_convolution_has_a_key_that_leads_back(system: str) -> None:
    table, names = layers_by_key(SYSTEMS[system]), kohya_names(SYSTEMS[system])
    layers = set(table.values())
    assert len(layers) > 300
    assert all(table[parse_key(names[layer])[0]] == layer for layer in layers)


@pytest.mark.parametrize("name", ["sd-v1-5", "sd-v2-1-base", "sdxl-base"])
@torch.no_grad()
def test_written_read_applied_removed(tmp_path: Path, name: str) -> None:
    model, adapters = random_model(name), lora_for(name)
    path = tmp_path / "mine.safetensors"
    write_lora(path, adapters, narrow(name), {"ss_epoch": "3"}, dtype=torch.float32)
    lora = read_lora(path, narrow(name))
    assert set(lora.adapters) == set(adapters)
    assert lora.metadata["ss_network_dim"] == "2"
    x, before = inputs(name), {k: v.clone() for k, v in model.state_dict().items()}
    plain = model.unet(*x)
    live = apply_loras(model, [(lora, 0.8, 0.5), (lora, -0.2, 0.0)])
    changed = model.unet(*x)
    live.remove()
    assert torch.equal(model.unet(*x), plain)
    assert not torch.allclose(changed, plain, atol=1e-2)
    merged = apply_loras(model, [(lora, 0.8, 0.5), (lora, -0.2, 0.0)], merged=True)
    torch.testing.assert_close(model.unet(*x), changed, rtol=1e-4, atol=1e-4)
    merged.remove()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def save(path: Path, tensors: dict[str, Tensor], **metadata: str) -> Path:
    save_file(tensors, path, metadata=metadata)
    return path


TO_K = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"  # 320 from 768


def pair(key: str, n_in: int, n_out: int, rank: int = 4) -> dict[str, Tensor]:
    return {f"{key}.lora_down.weight": torch.randn(rank, n_in), f"{key}.lora_up.weight": torch.randn(n_out, rank)}


def test_alpha_over_rank(tmp_path: Path) -> None:
    path = save(tmp_path / "a.safetensors", {**pair(TO_K, 768, 320), f"{TO_K}.alpha": torch.tensor(2.0)})
    (adapter,) = read_lora(path, SYSTEMS["sd-v1-5"]).adapters.values()
    assert adapter.scale == 0.5
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 8, "r": 4}))
    for name, scale in (("b", 1.0), ("adapter_model", 2.0)):  # the configuration speaks for one file of its folder
        path = save(tmp_path / f"{name}.safetensors", pair(TO_K, 768, 320))
        (adapter,) = read_lora(path, SYSTEMS["sd-v1-5"]).adapters.values()
        assert adapter.scale == scale


def test_loha_and_lokr_files(tmp_path: Path) -> None:
    loha = {
        f"{TO_K}.hada_{n}": torch.randn(*s) for n, s in zip(("w1_a", "w1_b", "w2_a", "w2_b"), [(320, 2), (2, 768)] * 2)
    }
    path = save(tmp_path / "loha.safetensors", {**loha, f"{TO_K}.alpha": torch.tensor(1.0)})
    (adapter,) = read_lora(path, SYSTEMS["sd-v1-5"]).adapters.values()
    assert isinstance(adapter, Hadamard)
    assert adapter.scale == 0.5
    lokr = {f"{TO_K}.lokr_w1": torch.randn(8, 8), f"{TO_K}.lokr_w2_a": torch.randn(40, 2)}
    lokr |= {f"{TO_K}.lokr_w2_b": torch.randn(2, 96), f"{TO_K}.alpha": torch.tensor(1.0)}
    (adapter,) = read_lora(save(tmp_path / "lokr.safetensors", lokr), SYSTEMS["sd-v1-5"]).adapters.values()
    assert isinstance(adapter, Kronecker)
    assert adapter.scale == 0.5
    whole = {
        f"{TO_K}.lokr_w1": torch.randn(8, 8),
        f"{TO_K}.lokr_w2": torch.randn(40, 96),
        f"{TO_K}.alpha": torch.tensor(1.0),
    }
    (adapter,) = read_lora(save(tmp_path / "whole.safetensors", whole), SYSTEMS["sd-v1-5"]).adapters.values()
    assert adapter.scale == 1.0  # without factors there is no rank


WRONG = {
    "unknown layer": (
        {"lora_unet_no_such_layer.lora_up.weight": torch.ones(2, 2)},
        "1 keys match no layer.*no_such_layer",
    ),
    "unknown part": ({f"{TO_K}.lora_sideways.weight": torch.ones(2)}, "sideways"),
    "half": ({f"{TO_K}.lora_up.weight": torch.ones(320, 4)}, "parts up"),
    "wrong width": (pair(TO_K, 768, 640), r"\[640, 768\].*\[320, 768\]"),
    "ranks differ": ({**pair(TO_K, 768, 320), f"{TO_K}.lora_up.weight": torch.ones(320, 3)}, "do not go together"),
    "SDXL": (
        pair("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", 2048, 640),
        "LoRA for SDXL, the model is sd-v1-5",
    ),
    "SD2": (pair(TO_K, 1024, 320), "LoRA for Stable Diffusion 2"),
    "second encoder": (pair("lora_te2_text_model_encoder_layers_0_mlp_fc1", 1280, 5120), "LoRA for SDXL"),
    "alpha is no number": ({**pair(TO_K, 768, 320), f"{TO_K}.alpha": torch.ones(3)}, "expected is one number"),
    "alpha is NaN": ({**pair(TO_K, 768, 320), f"{TO_K}.alpha": torch.tensor(torch.nan)}, "alpha of .* is nan"),
    "alpha is infinite": ({**pair(TO_K, 768, 320), f"{TO_K}.alpha": torch.tensor(-torch.inf)}, "alpha of .* is -inf"),
    "rank 0": (pair(TO_K, 768, 320, rank=0), "has the rank 0"),
    "whole numbers": ({k: v.int() for k, v in pair(TO_K, 768, 320).items()}, "torch.int32 in its part"),
    "scalar": ({f"{TO_K}.diff": torch.tensor(1.0)}, r"a change of \[\]"),
    "a matrix for a norm": (
        pair("lora_unet_down_blocks_0_resnets_0_norm1", 1, 320),
        "LoRA for a norm, which takes only",
    ),
    "a bias of another layer": (
        {f"{TO_K}.diff_b": torch.ones(640)},
        r"by the shape \[640\], the layer has 320 outputs",
    ),
    "a bias of factors alone": ({f"{TO_K}.lora_B.bias": torch.ones(320)}, "has the parts none"),
    "magnitudes of another layer": (
        {**pair(TO_K, 768, 320), f"{TO_K}.dora_scale": torch.ones(640, 1)},
        r"magnitudes of shape \[640, 1\]",
    ),
    "NaN": (
        {**pair(TO_K, 768, 320), f"{TO_K}.lora_up.weight": torch.full((320, 4), torch.nan)},
        "holds NaN or infinite values in its part up",
    ),
    "one layer twice": (
        {**pair(TO_K, 768, 320), **pair("lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k", 768, 320)},
        "are both for one layer, unet.down.0.attentions.0.blocks.0.attn2.to_k",
    ),
    "two adapters": (
        {f"unet.x.lora_A.{name}.weight": torch.ones(2, 2) * i for i, name in enumerate(("default", "other"))},
        "match no layer.*lora_A",
    ),
    "no LoRA": ({"model.weight": torch.ones(2)}, "is no LoRA"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_named(tmp_path: Path, name: str) -> None:
    tensors, message = WRONG[name]
    if name == "unknown part":
        tensors = {**tensors, **pair(TO_K, 768, 320)}
    path = save(tmp_path / "wrong.safetensors", tensors)
    with pytest.raises(InputError, match=message) as caught:
        read_lora(path, SYSTEMS["sd-v1-5"])
    assert "wrong.safetensors" in str(caught.value)


def test_metadata_tells_the_family_where_keys_do_not(tmp_path: Path) -> None:
    tensors = pair("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", 320, 320)
    path = save(tmp_path / "x.safetensors", tensors, ss_base_model_version="sdxl_base_v1-0")
    with pytest.raises(InputError, match="LoRA for SDXL"):
        read_lora(path, SYSTEMS["sd-v1-5"])


def test_description(tmp_path: Path) -> None:
    tensors = {
        **pair(TO_K, 768, 320),
        f"{TO_K}.alpha": torch.tensor(2.0),
        **pair("lora_te_text_model_encoder_layers_0_mlp_fc1", 768, 3072),
    }
    facts = describe_lora(open_weights(save(tmp_path / "x.safetensors", tensors)))
    assert facts == {
        "kind": "LoRA",
        "made for": "Stable Diffusion 1",
        "layers": "1 of te1, 1 of unet",
        "rank": "4",
        "alpha": "2",
    }
    assert describe_lora(open_weights(save(tmp_path / "y.safetensors", {"w": torch.ones(2)}))) is None


def test_shapes_are_computed_not_formed(tmp_path: Path) -> None:
    """240 kilobytes that describe a product of gigabytes are refused at once, by `read_lora` and by `describe_lora`."""
    n = 20_000
    tensors = {**pair(TO_K, n, n, rank=1), f"{TO_K}.alpha": torch.tensor(1.0)}
    tensors |= {f"lora_unet_mid_block_attentions_0_proj_in.lokr_w{i}": torch.ones(200, 150) for i in (1, 2)}
    path = save(tmp_path / "small.safetensors", tensors)
    assert "LoRA, LoKr" in describe_lora(open_weights(path))["kind"]  # type: ignore[index]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="LoRA for a model that reads tokens of width 20000"):
        read_lora(path, SYSTEMS["sd-v1-5"])
    own = pair(TO_K.replace("attn2", "attn1"), n, n, rank=1)  # no width of tokens to be refused by
    with pytest.raises(InputError, match=r"change of \[20000, 20000\]"):
        read_lora(save(tmp_path / "own.safetensors", own), SYSTEMS["sd-v1-5"])
    huge = {f"{TO_K}.lokr_w{i}": torch.ones(300, 300) for i in (1, 2)}
    with pytest.raises(InputError, match=r"change of \[90000, 90000\]"):
        read_lora(save(tmp_path / "huge.safetensors", huge), SYSTEMS["sd-v1-5"])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"r": 4, "lora_alpha": [1]}, "expected is a number"),
        ({"r": 4, "lora_alpha": "inf"}, "expected is a number"),
        ({"r": 4, "lora_alpha": 10**400}, "expected is a number"),
        ({"r": 4, "lora_alpha": 1, "alpha_pattern": [1]}, "alpha_pattern is not a table"),
        ({"r": 4, "lora_alpha": 1, "rank_pattern": {"(a": 1}}, "does not close a group|ends in the middle"),
        ({"r": 4, "lora_alpha": 1, "alpha_pattern": {f"{i}(((.*a)*b)*x)*": 1 for i in range(20_000)}}, "steps"),
    ],
)
def test_what_configurations_say_wrongly(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    path = save(tmp_path / "adapter_model.safetensors", pair(TO_K, 768, 320))
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=message) as caught:
        read_lora(path, SYSTEMS["sd-v1-5"])
    assert "adapter_config.json" in str(caught.value)


@pytest.mark.parametrize(("alpha", "scale"), [("8", 2.0), (8.0, 2.0), (None, 1.0)])
def test_numbers_of_configurations_may_be_text_or_null(tmp_path: Path, alpha: object, scale: float) -> None:
    path = save(tmp_path / "adapter_model.safetensors", pair(TO_K, 768, 320))
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": alpha}))
    (adapter,) = read_lora(path, SYSTEMS["sd-v1-5"]).adapters.values()
    assert adapter.scale == scale


@pytest.mark.parametrize("merged", [False, True])
@torch.no_grad()
def test_differences_of_biases_and_norms(tmp_path: Path, merged: bool) -> None:
    """As LyCORIS writes them; the same numbers added to the weights by hand give the same pictures."""
    model = random_model("sd-v1-5")
    resnet = "lora_unet_down_blocks_0_resnets_0"
    tensors = {f"{resnet}_conv1.diff": torch.randn(32, 32, 3, 3), f"{resnet}_conv1.diff_b": torch.randn(32)}
    tensors |= {f"{resnet}_norm1.w_norm": torch.randn(32), f"{resnet}_norm1.b_norm": torch.randn(32)}
    tensors |= {f"{resnet}_norm2.b_norm": torch.randn(32)}
    text = "lora_te_text_model_encoder_layers_0_layer_norm1"
    tensors |= {f"{text}.w_norm": torch.randn(32), f"{text}.b_norm": torch.randn(32)}
    path = save(tmp_path / "x.safetensors", {k: 0.3 * v for k, v in tensors.items()})
    assert describe_lora(open_weights(path))["kind"] == "full differences, biases"  # type: ignore[index]
    lora = read_lora(path, narrow("sd-v1-5"))
    first, tower = "unet.down.0.blocks.0", "conditioner.embedders.caption.towers.0.layers.0"
    changed = {
        f"{first}.conv1.{leaf}": tensors[f"{resnet}_conv1.{part}"]
        for leaf, part in (("weight", "diff"), ("bias", "diff_b"))
    }
    changed |= {f"{first}.norm1.weight": tensors[f"{resnet}_norm1.w_norm"]}
    changed |= {f"{first}.norm1.bias": tensors[f"{resnet}_norm1.b_norm"]}
    changed |= {f"{first}.norm2.bias": tensors[f"{resnet}_norm2.b_norm"]}
    changed |= {f"{tower}.norm1.{leaf}": tensors[f"{text}.{leaf[0]}_norm"] for leaf in ("weight", "bias")}
    x = inputs("sd-v1-5")
    ids = torch.tensor([[3, 7, 9]])

    def outputs() -> list[Tensor]:
        towers = model.get_submodule("conditioner.embedders.caption.towers.0")
        return [model.unet(*x), towers(ids).tokens]

    plain = outputs()
    applied = apply_loras(model, [(lora, 0.5, 0.5)], merged=merged)
    ours = outputs()
    applied.remove()
    kept = {name: model.get_parameter(name).clone() for name in changed}
    for name, value in changed.items():
        model.get_parameter(name).add_(0.5 * 0.3 * value)
    for a, b, c in zip(ours, outputs(), plain):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(a, c, atol=1e-2)
    for name, value in kept.items():
        model.get_parameter(name).copy_(value)
    assert all(torch.equal(a, b) for a, b in zip(outputs(), plain))
