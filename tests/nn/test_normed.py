from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from darkroom.nn import stripes
from darkroom.nn.blocks import ResBlock
from darkroom.nn.normed import added, normed_convolution, normed_silu


@pytest.fixture
def striped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every map counts as large and goes by stripes of 6 rows."""
    monkeypatch.setattr(stripes, "LARGE", 1)
    monkeypatch.setattr(stripes, "STRIPE", 1)


def parts(inputs: int, outputs: int, dtype: torch.dtype = torch.float32) -> tuple[nn.GroupNorm, nn.Conv2d]:
    torch.manual_seed(0)
    norm, conv = nn.GroupNorm(4, inputs, eps=1e-6), nn.Conv2d(inputs, outputs, 3, padding=1)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm.to(dtype).eval(), conv.to(dtype).eval()


@pytest.mark.usefixtures("striped")
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(("batch", "height", "outputs"), [(1, 23, 8), (2, 6, 8), (1, 7, 12), (3, 12, 4), (1, 1, 8)])
@torch.no_grad()
def test_stripes_give_what_the_whole_map_gives(batch: int, height: int, outputs: int, in_place: bool) -> None:
    norm, conv = parts(8, outputs)
    x = (torch.randn(batch, 8, height, 5) * 3 + 40).to(memory_format=torch.channels_last)  # far from a mean of zero
    whole = conv(normed_silu(norm, x.double().float()))
    exact = conv.double()(normed_silu(norm.double(), x.double()))
    norm.float(), conv.float()
    address = x.data_ptr()
    y = normed_convolution(norm, conv, x, in_place=in_place)
    assert y.shape == whole.shape
    assert (y - exact).abs().max() <= 2 * (whole - exact).abs().max() + 1e-5
    assert (y.data_ptr() == address) == (in_place and outputs == 8)


@pytest.mark.usefixtures("striped")
@torch.no_grad()
def test_stripes_in_half_precision_are_as_exact_as_the_whole_map() -> None:
    norm, conv = parts(8, 8, torch.bfloat16)
    x = (torch.randn(1, 8, 20, 5) + 2).bfloat16().to(memory_format=torch.channels_last)
    exact = conv.double()(normed_silu(norm.double(), x.double()))
    norm.bfloat16(), conv.bfloat16()
    whole = (conv(normed_silu(norm, x)) - exact).abs().max()
    striped = normed_convolution(norm, conv, x)
    assert striped.dtype == torch.bfloat16
    assert (striped - exact).abs().max() <= 1.5 * whole


@pytest.mark.usefixtures("striped")
def test_gradients_and_dropout_take_the_whole_map() -> None:
    norm, conv = parts(8, 8)
    x = torch.randn(1, 8, 20, 5, requires_grad=True)
    y = normed_convolution(norm, conv, x, in_place=True)
    y.sum().backward()
    assert x.grad is not None
    with torch.no_grad():
        seen: list[Tensor] = []
        dropout = nn.Dropout(0.5)
        dropout.register_forward_hook(lambda _, inputs, output: seen.append(output))
        normed_convolution(norm, conv.train(), x, dropout=dropout)
    assert seen[0].shape == x.shape


@pytest.mark.usefixtures("striped")
@torch.no_grad()
def test_what_is_added_position_by_position_is_the_sum() -> None:
    torch.manual_seed(0)
    skip, x, y = nn.Conv2d(8, 6, 1), torch.randn(2, 8, 15, 4), torch.randn(2, 6, 15, 4)
    expected = y + skip(x)
    assert torch.allclose(added(y, skip, x), expected, atol=1e-6)
    assert torch.allclose(y, expected, atol=1e-6)  # in its place


@pytest.mark.parametrize(("n_in", "n_out"), [(32, 32), (32, 64), (64, 32)])
@torch.no_grad()
def test_a_residual_block_is_the_same_either_way(n_in: int, n_out: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    block = ResBlock(n_in, n_out, 16).eval()
    nn.init.normal_(block.conv2.weight, std=0.05)
    x = torch.randn(2, n_in, 19, 6).to(memory_format=torch.channels_last)
    embedding = torch.randn(2, 16)
    kept, whole = x.clone(), block(x, embedding)
    monkeypatch.setattr(stripes, "LARGE", 1)
    monkeypatch.setattr(stripes, "STRIPE", 1)
    striped = block(x, embedding)
    assert torch.allclose(striped, whole, atol=1e-5)
    assert torch.equal(x, kept)  # a caller's map is nobody else's
