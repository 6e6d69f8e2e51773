from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from darkroom.nn import row_tiles
from darkroom.nn.norm_conv import add_in_place, norm_conv


@pytest.fixture
def tiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every map counts as large and goes by tiles of 6 rows."""
    monkeypatch.setattr(row_tiles, "LARGE", 1)
    monkeypatch.setattr(row_tiles, "TILE", 1)


def parts(inputs: int, outputs: int, dtype: torch.dtype = torch.float32) -> tuple[nn.GroupNorm, nn.Conv2d]:
    torch.manual_seed(0)
    norm, conv = nn.GroupNorm(4, inputs, eps=1e-6), nn.Conv2d(inputs, outputs, 3, padding=1)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm.to(dtype).eval(), conv.to(dtype).eval()


@pytest.mark.usefixtures("tiled")
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(("batch", "height", "outputs"), [(1, 23, 8), (2, 6, 8), (1, 7, 12), (3, 12, 4), (1, 1, 8)])
@torch.no_grad()
def test_tiles_give_what_the_whole_map_gives(batch: int, height: int, outputs: int, in_place: bool) -> None:
    norm, conv = parts(8, outputs)
    x = (torch.randn(batch, 8, height, 5) * 3 + 40).to(memory_format=torch.channels_last)  # far from a mean of zero
    whole = conv(F.silu(norm(x)))
    exact = conv.double()(F.silu(norm.double()(x.double())))
    norm.float(), conv.float()
    address = x.data_ptr()
    y = norm_conv(norm, conv, x, in_place=in_place)
    assert y.shape == whole.shape
    assert (y - exact).abs().max() <= 2 * (whole - exact).abs().max() + 1e-5
    assert (y.data_ptr() == address) == (in_place and outputs == 8)


@pytest.mark.usefixtures("tiled")
@torch.no_grad()
def test_tiles_in_half_precision_are_as_exact_as_the_whole_map() -> None:
    norm, conv = parts(8, 8, torch.bfloat16)
    x = (torch.randn(1, 8, 20, 5) + 2).bfloat16().to(memory_format=torch.channels_last)
    exact = conv.double()(F.silu(norm.double()(x.double())))
    norm.bfloat16(), conv.bfloat16()
    whole = (conv(F.silu(norm(x))) - exact).abs().max()
    tiled = norm_conv(norm, conv, x)
    assert tiled.dtype == torch.bfloat16
    assert (tiled - exact).abs().max() <= 1.5 * whole


@pytest.mark.usefixtures("tiled")
@torch.no_grad()
def test_what_is_added_position_by_position_is_the_sum() -> None:
    torch.manual_seed(0)
    skip, x, y = nn.Conv2d(8, 6, 1), torch.randn(2, 8, 15, 4), torch.randn(2, 6, 15, 4)
    expected = y + skip(x)
    assert torch.allclose(add_in_place(y, skip, x), expected, atol=1e-6)
    assert torch.allclose(y, expected, atol=1e-6)  # in its place


@pytest.mark.usefixtures("tiled")
@torch.no_grad()
def test_adapters_of_the_norm_are_seen() -> None:
    norm, conv = parts(8, 8)
    x = torch.randn(1, 8, 20, 5)
    norm.register_forward_hook(lambda _, inputs, output: output + 1)
    assert torch.allclose(norm_conv(norm, conv, x), conv(F.silu(norm(x))))
