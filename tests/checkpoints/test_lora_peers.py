"""LoRAs beside Diffusers and PEFT: what they save is read, what is written they take, and networks agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from narrow_checkpoints import narrow, peer_class, random_model, randomise
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from random_loras import inputs, lora_for

from darkroom.checkpoints import diffusers
from darkroom.checkpoints.diffusers_config import component_configs
from darkroom.checkpoints.lora import apply_loras, read_lora, write_lora
from darkroom.checkpoints.lora_names import kohya_names, layers_by_key, parse_key
from darkroom.checkpoints.open_file import open_weights
from darkroom.checkpoints.part import complete
from darkroom.nn.embeddings import sinusoid
from darkroom.nn.lora import Hadamard, Kronecker


def peer_unet(name: str) -> Any:
    """Diffusers' UNet with the weights of our model."""
    config, state = component_configs(narrow(name))["unet"], random_model(name).state_dict()
    peer = randomise(peer_class(config).from_config(config))
    with torch.no_grad():
        for rule in complete(diffusers.parts(narrow(name)), state):
            if rule.theirs[0].startswith("unet/"):
                theirs = rule.change.to_theirs([state[n] for n in rule.ours])
                peer.get_parameter(rule.theirs[0].removeprefix("unet/")).copy_(theirs[0])
    return peer


PEFT = {
    "LoHa": LoHaConfig(r=3, alpha=6, target_modules=["to_k", "conv1"]),
    "LoHa in Tucker form": LoHaConfig(r=3, alpha=6, target_modules=["conv1"], use_effective_conv2d=True),
    "LoKr": LoKrConfig(r=3, alpha=6, target_modules=["to_k", "conv1"]),
    "LoKr of four": LoKrConfig(r=2, alpha=6, target_modules=["to_k"], decompose_both=True, use_effective_conv2d=True),
    "LoKr of whole factors": LoKrConfig(r=64, alpha=32, target_modules=["to_k", "conv1"]),
    "LoRA with biases": LoraConfig(r=4, lora_alpha=6, target_modules=["to_k", "conv1", "proj_in"], lora_bias=True),
    "LoRA with exceptions": LoraConfig(
        r=4, lora_alpha=2, target_modules=["to_k", "to_q"], alpha_pattern={"attn1.to_k": 9}, use_rslora=True
    ),
    "LoRA with expressions": LoraConfig(
        r=4,
        lora_alpha=2,
        target_modules=["to_k", "to_q"],
        alpha_pattern={r"^(up|down)_blocks\.\d+\..*attn[12]\.to_k": 9, "attn1.to_k": 30, "to_q|mid_block.+": 5},
        rank_pattern={r".*attn2\.to_.": 7, "attn2.to_k": 3},
    ),
}


@pytest.mark.parametrize("kind", PEFT)
@torch.no_grad()
def test_agrees_with_what_peft_saves(tmp_path: Path, kind: str) -> None:
    """Its own file with the configuration beside it, which holds the alphas."""
    peer = get_peft_model(peer_unet("sd-v1-5"), PEFT[kind])
    for i, (name, p) in enumerate(peer.named_parameters()):
        if "hada_" in name or "lokr_" in name or "lora_" in name:
            p.copy_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i)))
    peer.save_pretrained(tmp_path)
    lora = read_lora(tmp_path / "adapter_model.safetensors", narrow("sd-v1-5"))
    x, t, tokens, _ = inputs("sd-v1-5")
    model = random_model("sd-v1-5")
    applied = apply_loras(model, [(lora, 1.0, 1.0)])
    ours, theirs = model.unet(x, t, tokens), peer(x, t, tokens).sample
    applied.remove()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * float(theirs.abs().max()))
    assert not torch.allclose(model.unet(x, t, tokens), theirs, atol=1e-2)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (Hadamard, LoHaConfig(r=3, alpha=6, target_modules=["to_k", "conv1"])),
        (Kronecker, LoKrConfig(r=3, alpha=6, target_modules=["to_k", "conv1"])),
        (Kronecker, LoKrConfig(r=64, alpha=64, target_modules=["to_k", "conv1"])),  # all factors whole
    ],
    ids=["LoHa", "LoKr", "LoKr of whole factors"],
)
@torch.no_grad()
def test_peft_takes_what_is_written(tmp_path: Path, kind: Any, config: Any) -> None:
    """Our fresh adapters with values, through the file, into the parameters of the peer's own."""
    system, model = narrow("sd-v1-5"), random_model("sd-v1-5")
    names = kohya_names(system)
    chosen = [n for n, key in names.items() if key.endswith(("to_k", "conv1")) and key.startswith("lora_unet")]
    adapters = {n: kind.fresh(model.get_submodule(n), config.r, config.alpha) for n in chosen}
    for i, p in enumerate(p for a in adapters.values() for p in a.parameters()):
        p.copy_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i)))
    path = tmp_path / "mine.safetensors"
    write_lora(path, adapters, system, {}, dtype=torch.float32)
    weights = open_weights(path)
    assert weights.metadata["ss_network_module"] == "lycoris.kohya"
    peer = get_peft_model(peer_unet("sd-v1-5"), config)
    taken = set()
    for name, p in peer.named_parameters():
        layer, _, part = name.removeprefix("base_model.model.").removesuffix(".default").rpartition(".")
        if part.startswith(("hada_", "lokr_")):
            key = f"lora_unet_{layer.replace('.', '_')}.{part}"
            p.copy_(weights[key].load())
            taken.add(key)
    assert taken == {key for key in weights if not key.endswith(".alpha")}
    x, t, tokens, _ = inputs("sd-v1-5")
    applied = apply_loras(model, [(read_lora(path, system), 1.0, 1.0)])
    ours, theirs = model.unet(x, t, tokens), peer(x, t, tokens).sample
    applied.remove()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize(("name", "dora"), [("sd-v1-5", False), ("sdxl-base", True)])
@torch.no_grad()
def test_agrees_with_diffusers_and_peft(tmp_path: Path, name: str, dora: bool) -> None:
    """The peer trains nothing here: it gets random factors, computes, and saves; we read its file and compute."""
    model = random_model(name)
    peer = peer_unet(name)
    peer.add_adapter(
        LoraConfig(r=3, lora_alpha=6, target_modules=["to_k", "to_out.0", "conv1", "proj_in"], use_dora=dora)
    )
    for n, p in peer.named_parameters():
        if "lora_" in n:
            p.add_(0.1 * torch.rand(p.shape, generator=torch.Generator().manual_seed(len(n))))
    peer.save_lora_adapter(tmp_path, safe_serialization=True)
    (path,) = tmp_path.glob("*.safetensors")
    lora = read_lora(path, narrow(name))
    x, t, tokens, vector = inputs(name)
    extra = {}
    if vector is not None:
        numbers = torch.tensor([[8, 8, 0, 0, 8, 8]])
        pooled = vector[:, : -6 * 256]
        vector = torch.cat([pooled, sinusoid(numbers, 256).flatten(1)], dim=1)
        extra = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": numbers}}
    applied = apply_loras(model, [(lora, 1.0, 1.0)])
    ours, theirs = model.unet(x, t, tokens, vector), peer(x, t, tokens, **extra).sample
    applied.remove()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * float(theirs.abs().max()))
    assert not torch.allclose(model.unet(x, t, tokens, vector), theirs, atol=1e-2)


@pytest.mark.parametrize("kohya", [False, True])
@torch.no_grad()
def test_unequal_ranks_saved_again_by_diffusers(tmp_path: Path, kohya: bool) -> None:
    """The peer puts ranks and alphas into patterns of expressions; each layer's scale is the one that it applies."""
    name = "sd-v1-5"
    unet = {n: a for n, a in lora_for(name).items() if n.startswith("unet.")}
    for i, adapter in enumerate(unet.values()):
        rank = 2 + 2 * (i % 2)
        adapter.down = torch.nn.Parameter(torch.randn(rank, *adapter.down.shape[1:]), requires_grad=False)
        adapter.up = torch.nn.Parameter(torch.randn(len(adapter.up), rank, *adapter.up.shape[2:]), requires_grad=False)
        adapter.scale = 4 / rank
    write_lora(tmp_path / "kohya.safetensors", unet, narrow(name), {}, torch.float32)
    peer = peer_unet(name)
    state, alphas = StableDiffusionLoraLoaderMixin.lora_state_dict(
        tmp_path, weight_name="kohya.safetensors", unet_config=peer.config
    )
    peer.load_lora_adapter(state, network_alphas=alphas if kohya else None, prefix="unet")
    peer.save_lora_adapter(tmp_path / "again", adapter_name="default_0")
    again = read_lora(tmp_path / "again" / "pytorch_lora_weights.safetensors", narrow(name))
    table = layers_by_key(narrow(name))
    applied = {table[parse_key(n)[0]]: m.scaling["default_0"] for n, m in peer.named_modules() if hasattr(m, "scaling")}
    assert {n: a.scale for n, a in again.adapters.items()} == pytest.approx(applied)
    assert set(applied) == set(unet)
    assert set(applied.values()) == ({2.0, 1.0} if kohya else {1.0})
