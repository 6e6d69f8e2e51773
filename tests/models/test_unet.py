from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from darkroom.models.deepcache import DeepFeatures, deepcache
from darkroom.models.unet import UNet, UNetConfig
from darkroom.nn.attention import Context
from darkroom.nn.checkpointing import checkpoint_blocks
from darkroom.nn.lean import make_lean
from darkroom.nn.lora import Adapters, LowRank, adapted, merge
from darkroom.nn.token_merging import TokenMerging, token_merging

SD1 = UNetConfig(
    in_channels=4,
    out_channels=4,
    model_channels=320,
    channel_mult=(1, 2, 4, 4),
    num_res_blocks=2,
    attention="transformer",
    depth=(1, 1, 1, 0),
    mid_depth=1,
    heads=8,
    head_dim=None,
    context_dim=768,
    vector="none",
    vector_dim=0,
    linear_projections=False,
)
SD2 = replace(SD1, heads=None, head_dim=64, context_dim=1024, linear_projections=True)
SDXL = replace(
    SD2, channel_mult=(1, 2, 4), depth=(0, 2, 10), mid_depth=10, context_dim=2048, vector="linear", vector_dim=2816
)
LDM = replace(
    SD1, in_channels=3, out_channels=3, channel_mult=(1, 2, 3, 4), depth=(0, 1, 1, 1), heads=None, head_dim=32
)
PLAIN = replace(LDM, attention="block", context_dim=None)

# Published parameter counts.
COUNTS = [
    (SD1, 859_520_964),
    (replace(SD1, in_channels=9), 859_535_364),
    (SD2, 865_910_724),
    (replace(SD2, in_channels=5), 865_913_604),
    (SDXL, 2_567_463_684),
    (
        replace(
            SD2, model_channels=384, depth=(0, 4, 4, 0), mid_depth=4, context_dim=1280, vector="linear", vector_dim=2560
        ),
        2_259_526_660,
    ),
    (
        replace(
            SD1,
            in_channels=7,
            model_channels=256,
            channel_mult=(1, 2, 2, 4),
            depth=(0, 1, 1, 1),
            context_dim=1024,
            vector="table",
            vector_dim=1000,
            linear_projections=True,
            only_cross_attention=(True, True, True, False),
        ),
        473_398_020,
    ),
    (replace(PLAIN, model_channels=224), 274_056_163),
    (
        replace(
            PLAIN, in_channels=4, out_channels=4, model_channels=192, channel_mult=(1, 2, 2, 4, 4),
            depth=(1, 1, 1, 1, 0), heads=8, head_dim=None, scale_shift=True, resblock_updown=True,
        ),
        294_966_916,
    ),
    (
        replace(PLAIN, in_channels=7, model_channels=256, heads=8, head_dim=None, resblock_updown=True),
        387_245_827,
    ),
    (replace(PLAIN, in_channels=6, model_channels=160, channel_mult=(1, 2, 2, 4), depth=(0, 0, 0, 1)), 113_622_563),
    (
        replace(
            PLAIN, in_channels=6, model_channels=128, channel_mult=(1, 4, 8), depth=(0, 0, 0), heads=8, head_dim=None
        ),
        215_229_315,
    ),
    (
        replace(LDM, model_channels=192, channel_mult=(1, 2, 3, 5), heads=1, head_dim=None, context_dim=512),
        400_920_579,
    ),
    (replace(LDM, model_channels=128, depth=(0, 3, 3, 3), mid_depth=3, context_dim=512), 246_277_379),
    (replace(SD1, context_dim=1280), 872_300_484),
]  # fmt: skip


@pytest.mark.parametrize(("config", "count"), COUNTS)
def test_parameter_counts(config: UNetConfig, count: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in UNet(config).parameters()) == count


def randomise(module: nn.Module) -> nn.Module:
    """Random values in every parameter, zero-initialised ones too."""
    generator = torch.Generator().manual_seed(0)
    for p in module.parameters():
        with torch.no_grad():
            p.copy_(torch.randn(p.shape, generator=generator) * (0.3 if p.dim() == 1 else p[0].numel() ** -0.5))
    return module.eval()


SMALL = replace(SDXL, model_channels=32, channel_mult=(1, 2), depth=(0, 1), mid_depth=1, head_dim=16, context_dim=24,
                vector_dim=20)  # fmt: skip


def small_inputs(config: UNetConfig) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    return (
        torch.randn(2, config.in_channels, 8, 8, generator=g),
        torch.tensor([3.0, 900.5]),
        torch.randn(2, 5, 24, generator=g),
        torch.randn(2, 20, generator=g),
    )


def test_rows_of_a_batch_are_independent_and_checkpointing_changes_nothing() -> None:
    net = randomise(UNet(SMALL))
    x, t, tokens, vector = small_inputs(SMALL)
    both = net(x, t, tokens, vector)
    one = net(x[1:], t[1:], tokens[1:], vector[1:])
    assert torch.allclose(both[1:], one, atol=1e-5)
    x.requires_grad_()
    checkpoint_blocks(net)
    recomputed = net(x, t, tokens, vector)
    recomputed.sum().backward()
    assert torch.allclose(recomputed, both, atol=1e-6)
    assert x.grad is not None


def test_channels_last_changes_nothing() -> None:
    net = randomise(UNet(SMALL))
    x, t, tokens, vector = small_inputs(SMALL)
    expected = net(x, t, tokens, vector)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert torch.allclose(net(x.contiguous(memory_format=torch.channels_last), t, tokens, vector), expected, atol=1e-4)


def test_a_fresh_network_predicts_nothing() -> None:
    x, t, tokens, vector = small_inputs(SMALL)
    assert UNet(SMALL)(x, t, tokens, vector).abs().max() == 0


def test_agrees_with_diffusers_by_parameter_order() -> None:
    """An SD1-like network. Both sides list blocks in the same order within a level; names are matched by hand."""
    config = replace(
        SD1, model_channels=32, channel_mult=(1, 2), num_res_blocks=1, depth=(1, 0), heads=4, context_dim=24
    )
    ours = randomise(UNet(config))
    peer = UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=4,
        cross_attention_dim=24,
    ).eval()
    peer.load_state_dict({their_name(k): v for k, v in ours.state_dict().items()})
    x, t, tokens, _ = small_inputs(config)
    expected = peer(x, t, tokens).sample
    assert torch.allclose(ours(x, t, tokens), expected, rtol=1e-4, atol=1e-4 * float(expected.detach().abs().max()))


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        replace(SMALL, linear_projections=False, only_cross_attention=(False, True), vector="none", scale_shift=True),
        replace(SMALL, attention="block", vector="table", resblock_updown=True),
    ],
)
@torch.no_grad()
def test_rows_with_adapters_of_their_own(config: UNetConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every layer keeps the rows of a batch along its first axis, tokens that come in a `Context` too."""
    monkeypatch.setattr("darkroom.nn.lean.BLOCK", 12)  # tokens that a feed-forward layer takes at a time
    net = randomise(UNet(config))
    make_lean(net)
    generator = torch.Generator().manual_seed(2)

    def random_adapters() -> Adapters | None:
        found = {}
        for name, layer in net.named_modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                down = torch.randn(2, *layer.weight.shape[1:], generator=generator) * layer.weight[0].numel() ** -0.5
                up = torch.randn(layer.weight.shape[0], 2, *[1] * (layer.weight.dim() - 2), generator=generator)
                found[name] = LowRank(down, up * 0.3)
        return Adapters.of([(found, 1.0)])

    x, t, tokens, vector = (torch.cat([v, v.flip(0)]) for v in small_inputs(config))
    vector = torch.arange(4) if config.vector == "table" else vector
    runs = [(1, random_adapters()), (2, random_adapters()), (1, None)]
    contexts = [Context(part) for part in tokens.split([n for n, _ in runs])]
    expected = []
    for (_, adapters), *inputs in zip(runs, *(v.split([n for n, _ in runs]) for v in (x, t, tokens, vector))):
        merged = merge(net, adapters)
        expected.append(net(*inputs))
        merged.undo()
    for _ in range(2):  # keys and values made in the call, and those that were kept
        with adapted(net, runs):
            found = net(x, t, Context.cat(contexts), vector)
        torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, net(x, t, tokens, vector), atol=0.1)


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, channel_mult=(1,), depth=(1,))])
def test_deep_features_serve_the_next_evaluations(config: UNetConfig) -> None:
    net = randomise(UNet(config))
    x, t, tokens, vector = small_inputs(config)
    plain = [net(x * k, t, tokens, vector) for k in (1, 2, 3)]
    runs = []
    net.mid_block1.register_forward_hook(lambda *_: runs.append(1))
    features = DeepFeatures(2)
    found = []
    for k in (1, 2, 3):
        with deepcache(net, features):
            found.append(net(x * k, t, tokens, vector))
    assert len(runs) == 2  # the first evaluation and the third
    assert torch.equal(found[0], plain[0])
    assert not torch.allclose(found[1], plain[1])  # the finest level alone saw this input
    assert torch.equal(found[2], plain[2])
    with deepcache(net, features):  # of another number of rows: they do not serve
        net(x[:1], t[:1], tokens[:1], vector[:1])
    assert len(runs) == 3
    with deepcache(net, None):
        assert torch.equal(net(x, t, tokens, vector), plain[0])


def test_tokens_are_merged_at_the_finest_level_that_attends_to_the_picture() -> None:
    for config, level in (
        (SD1, 0),
        (SDXL, 1),
        (PLAIN, None),
        (replace(SD1, depth=(1, 1, 1, 1), only_cross_attention=(True, True, False, False)), 2),
    ):
        assert config.merging_level == level
    config = replace(SMALL, channel_mult=(1, 1, 1), depth=(0, 1, 1))
    net = randomise(UNet(config))
    x, t, tokens, vector = small_inputs(config)
    counts: dict[str, int] = {}
    for name, module in net.named_modules():
        if name.endswith("attn1"):
            module.register_forward_hook(lambda _m, args, _y, name=name: counts.update({name: args[0].shape[1]}))
    plain = net(x, t, tokens, vector)
    before = dict(counts)
    with token_merging(net.merging_transformers, TokenMerging(0.5)):
        merged = net(x, t, tokens, vector)
    fewer = {name for name, count in counts.items() if count == before[name] // 2}
    assert fewer == {name for name in counts if name.startswith(("down.1.", "up.1."))}
    assert all(counts[name] == before[name] for name in counts.keys() - fewer)
    assert not torch.allclose(merged, plain)
    with token_merging(net.merging_transformers, None):
        assert torch.equal(net(x, t, tokens, vector), plain)


def their_name(name: str) -> str:
    """Our parameter name in the peer's words."""
    for ours, theirs in (
        ("down.0.resample.", "down_blocks.0.downsamplers.0."),
        ("up.0.resample.", "up_blocks.0.upsamplers.0."),
        ("down.", "down_blocks."),
        ("up.", "up_blocks."),
        ("mid_block1.", "mid_block.resnets.0."),
        ("mid_block2.", "mid_block.resnets.1."),
        ("mid_attention.", "mid_block.attentions.0."),
        ("time_embedding.0.", "time_embedding.linear_1."),
        ("time_embedding.2.", "time_embedding.linear_2."),
        ("norm_out.", "conv_norm_out."),
    ):
        if name.startswith(ours):
            name = theirs + name.removeprefix(ours)
            break
    head, _, tail = name.partition("attentions.")
    if tail:
        tail = tail.replace("blocks.", "transformer_blocks.").replace("to_out.", "to_out.0.")
        tail = tail.replace("ff.proj_in", "ff.net.0.proj").replace("ff.proj_out", "ff.net.2")
        return head + "attentions." + tail
    prefix, dot, rest = name.partition(".blocks.")
    name = prefix + ".resnets." + rest if dot else name
    if ".resnets." in name:
        name = name.replace(".embedding.", ".time_emb_proj.").replace(".skip.", ".conv_shortcut.")
    return name
