"""ControlNet, T2I-Adapter and IP-Adapter agree with the peer, and each run's features reach its rows alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers import T2IAdapter as PeerT2IAdapter
from torch import Tensor, nn

from darkroom.checkpoints import diffusers
from darkroom.checkpoints.table import rules
from darkroom.models.control import Control, controlled, cross_attentions
from darkroom.models.controlnet import ControlNet, ControlNetConfig, guess_weights
from darkroom.models.ip_adapter import IPAdapter, IPAdapterConfig, ResamplerConfig
from darkroom.models.t2i_adapter import T2IAdapter, T2IAdapterConfig
from darkroom.models.unet import UNet, UNetConfig
from darkroom.nn.embeddings import sinusoid
from darkroom.nn.lean import make_lean

SD1 = UNetConfig(
    in_channels=4,
    out_channels=4,
    model_channels=32,
    channel_mult=(1, 1, 2, 2),
    num_res_blocks=1,
    attention="transformer",
    depth=(1, 1, 1, 0),
    mid_depth=1,
    heads=2,
    head_dim=None,
    context_dim=24,
    vector="none",
    vector_dim=0,
    linear_projections=False,
)
SD2 = replace(SD1, heads=None, head_dim=16, linear_projections=True)
SDXL = replace(SD2, channel_mult=(1, 2, 2), depth=(0, 1, 2), mid_depth=2, vector="linear", vector_dim=20)
FAMILIES = {"SD1": SD1, "SD2": SD2, "SDXL": SDXL}


def randomise(module: nn.Module) -> Any:
    """Random values in every parameter, zero-initialised ones too."""
    generator = torch.Generator().manual_seed(len(list(module.parameters())))
    for p in module.parameters():
        with torch.no_grad():
            p.copy_(torch.randn(p.shape, generator=generator) * (0.3 if p.dim() == 1 else p[0].numel() ** -0.5))
    return module.eval().requires_grad_(False)


def peer_options(c: UNetConfig) -> dict[str, Any]:
    """What `UNet2DConditionModel` and `ControlNetModel` are told alike."""
    widths = [c.model_channels * m for m in c.channel_mult]
    options: dict[str, Any] = {
        "block_out_channels": tuple(widths),
        "layers_per_block": c.num_res_blocks,
        "down_block_types": tuple("CrossAttnDownBlock2D" if d else "DownBlock2D" for d in c.depth),
        "attention_head_dim": tuple(c.head_count(w) for w in widths),
        "cross_attention_dim": c.context_dim,
        "use_linear_projection": c.linear_projections,
        "transformer_layers_per_block": tuple(d or c.mid_depth for d in c.depth),
    }
    if c.vector == "linear":
        text_time = {"addition_embed_type": "text_time", "addition_time_embed_dim": 2}
        options |= {**text_time, "projection_class_embeddings_input_dim": c.vector_dim}
    return options


def peer_unet(ours: UNet) -> UNet2DConditionModel:
    c = ours.config
    ups = tuple("CrossAttnUpBlock2D" if d else "UpBlock2D" for d in reversed(c.depth))
    peer = UNet2DConditionModel(**peer_options(c), up_block_types=ups).eval().requires_grad_(False)
    peer.load_state_dict(renamed(c, ours.state_dict()))
    return peer


def renamed(c: UNetConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for rule in rules(diffusers.unet(c, "add_embedding"), state):
        found.update(zip(rule.theirs, rule.change.to_theirs([state[name] for name in rule.ours])))
    return found


def inputs(c: UNetConfig, rows: int = 2) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """For ours, and for the peer."""
    g = torch.Generator().manual_seed(1)
    x, tokens = torch.randn(rows, 4, 16, 16, generator=g), torch.randn(rows, 5, 24, generator=g)
    t = torch.tensor([3.0, 900.0, 500.0, 40.0])[:rows]
    ours = {"x": x, "t": t, "tokens": tokens}
    theirs: dict[str, Any] = {"sample": x, "timestep": t, "encoder_hidden_states": tokens}
    if c.vector == "linear":
        pooled, sizes = torch.randn(rows, 8, generator=g), torch.randint(512, (rows, 6), generator=g)
        ours["vector"] = torch.cat([pooled, sinusoid(sizes.flatten().float(), 2).view(rows, -1)], dim=1)
        theirs["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": sizes}
    return ours, theirs


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def run(unet: UNet, given: dict[str, Tensor], rows: list[tuple[int, Control | None]]) -> Tensor:
    with controlled(unet, rows):
        return unet(**given)


def control_net(c: UNetConfig, **options: Any) -> tuple[ControlNet, ControlNetModel]:
    ours = randomise(ControlNet(ControlNetConfig(c, hint_widths=(8, 16, 16, 24), **options)))
    widths = {"conditioning_embedding_out_channels": (8, 16, 16, 24)}
    pooled = {"global_pool_conditions": options.get("global_pool", False)}
    peer = ControlNetModel(**peer_options(c), **widths, **pooled).eval()
    state = ours.state_dict()
    own = {n: t for n, t in state.items() if n.startswith(("hint.", "zero_"))}
    theirs = renamed(c, {n: t for n, t in state.items() if n not in own})
    hints = ["conv_in", *(f"blocks.{i}" for i in range(6)), "conv_out"]
    for name, tensor in own.items():
        room, *rest = name.split(".")
        if room == "hint":
            theirs[f"controlnet_cond_embedding.{hints[int(rest[0]) // 2]}.{rest[1]}"] = tensor
        else:
            place = {"zero_skips": "controlnet_down_blocks", "zero_middle": "controlnet_mid_block"}[room]
            theirs[".".join([place, *rest])] = tensor
    peer.load_state_dict(theirs)
    return ours, peer


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_controlnets_agree_with_the_peer(family: str) -> None:
    c = FAMILIES[family]
    unet = randomise(UNet(c))
    net, peer = control_net(c)
    ours, theirs = inputs(c)
    hint = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(2))
    control = net(**ours, hint=net.hint(hint))
    for scaled, options in (
        (control.scaled(0.7), {"conditioning_scale": 0.7}),
        (control.scaled(0.7 * guess_weights(len(control.skips))), {"conditioning_scale": 0.7, "guess_mode": True}),
    ):
        down, middle = peer(**theirs, controlnet_cond=hint, **options, return_dict=False)
        for found, expected in zip((*scaled.skips, scaled.middle), (*down, middle), strict=True):
            assert found is not None
            close(found, expected)
        added = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        close(run(unet, ours, [(2, scaled)]), peer_unet(unet)(**theirs, **added).sample)


@torch.no_grad()
def test_pooled_residuals_and_several_controlnets() -> None:
    unet = randomise(UNet(SD1))
    (pooled, peer), (net, other) = control_net(SD1, global_pool=True), control_net(SD1)
    ours, theirs = inputs(SD1)
    hint = torch.rand(1, 3, 128, 128)
    controls = [n(**ours, hint=n.hint(hint)) for n in (pooled, net)]
    both = [n(**theirs, controlnet_cond=hint.expand(2, -1, -1, -1), return_dict=False) for n in (peer, other)]
    down = [a + b for a, b in zip(*(d for d, _ in both))]
    added = {"down_block_additional_residuals": down, "mid_block_additional_residual": both[0][1] + both[1][1]}
    close(run(unet, ours, [(2, controls[0] + controls[1])]), peer_unet(unet)(**theirs, **added).sample)


T2I = {
    "full_adapter": T2IAdapterConfig((32, 32, 64, 64), 2, 8, (False, True, True, True)),
    "full_adapter_xl": T2IAdapterConfig((32, 64, 64, 64), 2, 16, (False, False, True, False)),
    "light_adapter": T2IAdapterConfig((32, 32, 64, 64), 2, 8, (False, True, True, True), light=True),
}


@pytest.mark.parametrize("kind", T2I)
@torch.no_grad()
def test_t2i_adapters_agree_with_the_peer(kind: str) -> None:
    config = T2I[kind]
    c = SDXL if kind == "full_adapter_xl" else SD1
    unet, adapter = randomise(UNet(c)), randomise(T2IAdapter(config))
    channels = list(config.channels)[: 3 if config.light else 4]
    peer = PeerT2IAdapter(3, channels, 2, config.factor, adapter_type=kind).eval()
    words = {"stages.": "body.", "conv_in.": "in_conv.", "conv_out.": "out_conv.", "blocks.": "resnets."}
    words |= {"conv1.": "block1.", "conv2.": "block2."}
    theirs = {}
    for name, tensor in adapter.state_dict().items():
        head = name.startswith("conv_in.")
        for word, other in words.items() if not head else ():
            name = name.replace(word, other)
        theirs[f"adapter.{name}"] = tensor
    peer.load_state_dict(theirs)
    hint = torch.rand(1, 3, 128, 128)
    control = adapter(hint).scaled(0.8)
    features = [0.8 * feature for feature in peer(hint)]
    for found, expected in zip(control.levels, features, strict=True):
        close(found, expected)
    ours, given = inputs(c)
    rows = [f.expand(2, -1, -1, -1).clone() for f in features]
    expected = peer_unet(unet)(**given, down_intrablock_additional_residuals=rows).sample
    close(run(unet, ours, [(2, control)]), expected)


def ip_adapter(unet: UNet, plus: bool) -> tuple[IPAdapter, dict[str, dict[str, Tensor]]]:
    layers = tuple(layer.to_k.out_features for layer in cross_attentions(unet))
    resampler = ResamplerConfig(width=64, depth=4, heads=2) if plus else None
    adapter = randomise(IPAdapter(IPAdapterConfig(20, 24, 4, layers, resampler)))
    projection = {}
    for name, tensor in adapter.projection.state_dict().items():
        layer, _, rest = name.removeprefix("layers.").partition(".")
        words = {"norm_x": "0.norm1", "norm_y": "0.norm2", "to_q": "0.to_q", "to_out": "0.to_out"}
        words |= {"norm_ff": "1.0", "ff_in": "1.1", "ff_out": "1.3"}
        if not name.startswith("layers."):
            projection[name] = tensor
        elif rest == "to_k.weight":
            value = adapter.projection.state_dict()[name.replace("to_k", "to_v")]
            projection[f"layers.{layer}.0.to_kv.weight"] = torch.cat([tensor, value])
        elif rest != "to_v.weight":
            kind, _, leaf = rest.partition(".")
            projection[f"layers.{layer}.{words[kind]}.{leaf}"] = tensor
    names = [n for n, m in unet.named_modules() if m in set(cross_attentions(unet))]
    order = sorted(range(len(names)), key=lambda i: ("down", "up.", "mid_").index(names[i][:4].rstrip("0123456789")))
    attentions = {}
    for place, i in enumerate(order):
        for kind, module in (("to_k", adapter.to_k), ("to_v", adapter.to_v)):
            attentions[f"{2 * place + 1}.{kind}_ip.weight"] = module[i].weight
    return adapter, {"image_proj": projection, "ip_adapter": attentions}


@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize("family", ["SD1", "SDXL"])
@torch.no_grad()
def test_ip_adapters_agree_with_the_peer(family: str, plus: bool) -> None:
    c = FAMILIES[family]
    unet = randomise(UNet(c))
    adapter, state = ip_adapter(unet, plus)
    peer = peer_unet(unet)
    peer._load_ip_adapter_weights([state], low_cpu_mem_usage=False)
    for processor in peer.attn_processors.values():
        if hasattr(processor, "scale"):
            processor.scale = [0.6]
    ours, theirs = inputs(c)
    seen = torch.randn(2, 7, 20) if plus else torch.randn(2, 20)
    theirs["added_cond_kwargs"] = {**theirs.get("added_cond_kwargs", {}), "image_embeds": [seen[:, None]]}
    expected = peer.eval()(**theirs).sample
    found = run(unet, ours, [(2, adapter(seen).scaled(0.6))])
    close(found, expected)
    assert not torch.allclose(found, unet(**ours), atol=1e-2)


@torch.no_grad()
def test_rows_of_one_call_differ_and_nothing_stays() -> None:
    unet = randomise(UNet(SD1))
    make_lean(unet)
    ours, _ = inputs(SD1, 4)
    net = randomise(ControlNet(ControlNetConfig(SD1)))
    adapter, _ = ip_adapter(unet, plus=False)
    hint = net.hint(torch.rand(1, 3, 128, 128))
    rows = [
        (1, net(**{k: v[:1] for k, v in ours.items()}, hint=hint) + adapter(torch.randn(1, 20))),
        (1, None),
        (2, adapter(torch.randn(1, 20)) + randomise(T2IAdapter(T2I["full_adapter"]))(torch.rand(1, 3, 128, 128))),
    ]
    before = unet(**ours)
    found = run(unet, ours, rows)
    first = 0
    for count, control in rows:
        alone = {k: v[first : first + count] for k, v in ours.items()}
        close(found[first : first + count], run(unet, alone, [(count, control)]))
        assert torch.allclose(found[first], before[first], atol=1e-3) == (control is None)
        first += count
    assert torch.equal(unet(**ours), before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in unet.modules())


def test_gradients_pass() -> None:
    unet = randomise(UNet(SD1))
    adapter, _ = ip_adapter(unet, plus=False)
    ours, _ = inputs(SD1)
    seen = torch.randn(2, 20, requires_grad=True)
    control = adapter(seen) + Control(middle=torch.ones(1, 64, 1, 1), skips=tuple(torch.ones(8, 1, 1, 1, 1)))
    run(unet, ours, [(2, control)]).sum().backward()
    assert seen.grad is not None
    assert seen.grad.abs().sum() > 0
