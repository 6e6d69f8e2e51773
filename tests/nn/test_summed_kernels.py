import pytest
import torch
from torch.nn import functional as F

from darkroom.nn import row_tiles
from darkroom.nn.layers import Conv2d
from darkroom.nn.summed_kernels import SummedKernels


def convolution(channels: int) -> Conv2d:
    torch.manual_seed(0)
    return Conv2d(channels, channels, 3, padding=1)


def plain(conv: Conv2d, x: torch.Tensor) -> torch.Tensor:
    return conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


@pytest.mark.parametrize("shape", [(2, 6, 5, 8), (1, 6, 1, 1), (1, 6, 4, 1)])
@torch.no_grad()
def test_enlarging_by_small_kernels_is_the_convolution_of_the_enlarged_map(shape: tuple[int, int, int, int]) -> None:
    conv, x = convolution(6), torch.randn(shape)
    assert torch.allclose(SummedKernels(conv).enlarged(x), plain(conv, x), atol=1e-5)


@pytest.mark.parametrize("height", [1, 6, 7, 12, 23])
@torch.no_grad()
def test_large_maps_are_enlarged_by_tiles(height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    conv, x = convolution(6), torch.randn(2, 6, height, 5)
    monkeypatch.setattr(row_tiles, "LARGE", 1)
    monkeypatch.setattr(row_tiles, "TILE", 1)
    assert torch.allclose(SummedKernels(conv).enlarged(x), plain(conv, x), atol=1e-5)


@torch.no_grad()
def test_changed_weights_are_seen() -> None:
    conv, x = convolution(4), torch.randn(1, 4, 3, 3)
    kernels = SummedKernels(conv)
    kernels.enlarged(x)
    conv.weight.mul_(2)
    assert torch.allclose(kernels.enlarged(x), plain(conv, x), atol=1e-5)
    conv.load_state_dict({"weight": torch.randn(4, 4, 3, 3), "bias": torch.randn(4)})
    assert torch.allclose(kernels.enlarged(x), plain(conv, x), atol=1e-5)
