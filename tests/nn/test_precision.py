"""Computing wider than weights are stored, and what a device computes fast in."""

import copy
from pathlib import Path

import pytest
import torch
from narrow import narrow
from safetensors.torch import save_file
from torch import nn

from darkroom.checkpoints.open_file import open_weights
from darkroom.models.unet import UNet
from darkroom.nn.layers import Conv2d, Linear
from darkroom.nn.lora import LowRank, attach
from darkroom.nn.precision import fast_half, page_out, widen
from darkroom.systems.build import LatentDiffusion, build

NARROW_FROM = 2000  # of a network for tests all but the first and last layers


@pytest.fixture(scope="module")
def stored() -> LatentDiffusion:
    torch.manual_seed(0)
    model = build(narrow("sdxl-base")).eval().requires_grad_(False)
    for p in model.parameters():
        p.copy_(torch.randn(p.shape) * 0.1)
    return model.half()


def run(unet: UNet) -> torch.Tensor:
    g = torch.Generator().manual_seed(1)
    c = unet.config
    x, tokens = torch.randn(2, 4, 8, 8, generator=g), torch.randn(2, 5, c.context_dim or 0, generator=g)
    with torch.inference_mode():
        return unet(x, torch.tensor([500.0, 20.0]), tokens, torch.randn(2, c.vector_dim, generator=g))


def test_narrow_weights_give_the_same_numbers_as_wide_ones(stored: LatentDiffusion) -> None:
    wide, kept = copy.deepcopy(stored.unet), copy.deepcopy(stored.unet)
    widen(wide)
    widen(kept, narrow_from=NARROW_FROM)
    assert {p.dtype for p in wide.parameters()} == {torch.float32}
    large = [m.weight for m in kept.modules() if isinstance(m, Linear | Conv2d) and m.weight.numel() >= NARROW_FROM]
    assert len(large) > 50
    assert {p.dtype for p in large} == {torch.float16}
    assert {p.dtype for p in kept.parameters() if all(p is not w for w in large)} == {torch.float32}
    assert torch.equal(run(wide), run(kept))


def test_the_first_stage_too(stored: LatentDiffusion) -> None:
    wide, kept = copy.deepcopy(stored.autoencoder), copy.deepcopy(stored.autoencoder)
    widen(wide)
    widen(kept, narrow_from=NARROW_FROM)
    images = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.inference_mode():
        assert torch.equal(wide(images), kept(images))


def test_adapters_on_narrow_weights_compute_wide(stored: LatentDiffusion) -> None:
    wide, kept = copy.deepcopy(stored.unet), copy.deepcopy(stored.unet)
    widen(wide)
    widen(kept, narrow_from=NARROW_FROM)
    for unet in (wide, kept):
        torch.manual_seed(2)
        name, layer = next((n, m) for n, m in unet.named_modules() if isinstance(m, Linear) and n.endswith("to_q"))
        down, up = torch.randn(2, layer.in_features), torch.randn(layer.out_features, 2)
        attach(unet, {name: LowRank(down, up)})
    assert torch.equal(run(wide), run(kept))


def test_tables_and_buffers() -> None:
    module = nn.ModuleList([nn.Embedding(100, 30), nn.BatchNorm2d(4)]).half()
    widen(module, narrow_from=3000)
    assert module[0].weight.dtype == torch.float16
    assert module[1].running_mean.dtype == torch.float32
    assert module[1].num_batches_tracked.dtype == torch.int64


@pytest.mark.parametrize(
    ("capabilities", "half"),
    [({"avx2": True}, None), ({"avx512_bf16": True}, torch.bfloat16), ({"amx_bf16": True}, torch.bfloat16)],
)
def test_processors_without_bf16_products_have_no_fast_half(
    capabilities: dict[str, bool], half: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert fast_half("cpu") == half


def test_mapped_weights_leave_memory_and_come_back(tmp_path: Path) -> None:
    wanted = torch.randn(2**22).half()
    save_file({"w": wanted}, tmp_path / "w.safetensors")
    weight = open_weights(tmp_path / "w.safetensors")["w"].load()
    module = nn.Module()
    module.weight = nn.Parameter(weight, requires_grad=False)
    weight[5] = 7  # as merging an adapter changes it
    wanted[5] = 7
    assert torch.equal(weight, wanted)
    page_out(module)
    assert torch.equal(weight, wanted)
