import pytest
import torch
from torch import nn
from torch.nn import functional as F

from darkroom.nn import stripes
from darkroom.nn.resample import Upsample


def _plus_one(module: nn.Module, inputs: object, y: torch.Tensor) -> torch.Tensor:
    return y + 1


def plain(layer: Upsample, x: torch.Tensor) -> torch.Tensor:
    return layer.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


@pytest.mark.parametrize("shape", [(2, 6, 5, 8), (1, 6, 1, 1), (1, 6, 4, 1)])
@torch.no_grad()
def test_enlarging_by_small_kernels_is_the_convolution_of_the_enlarged_map(shape: tuple[int, int, int, int]) -> None:
    torch.manual_seed(0)
    layer, x = Upsample(6).eval(), torch.randn(shape)
    assert not layer._whole(x)
    assert torch.allclose(layer(x), plain(layer, x), atol=1e-5)


@pytest.mark.parametrize("height", [1, 6, 7, 12, 23])
@torch.no_grad()
def test_large_maps_are_enlarged_by_stripes(height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer, x = Upsample(6).eval(), torch.randn(2, 6, height, 5)
    monkeypatch.setattr(stripes, "LARGE", 1)
    monkeypatch.setattr(stripes, "STRIPE", 1)
    assert torch.allclose(layer(x), plain(layer, x), atol=1e-5)


@torch.no_grad()
def test_changed_weights_are_seen() -> None:
    torch.manual_seed(0)
    layer, x = Upsample(4).eval(), torch.randn(1, 4, 3, 3)
    layer(x)
    layer.conv.weight.mul_(2)
    assert torch.allclose(layer(x), plain(layer, x), atol=1e-5)
    layer.load_state_dict(Upsample(4).state_dict())
    assert torch.allclose(layer(x), plain(layer, x), atol=1e-5)
    layer.conv.register_forward_hook(_plus_one)  # a live adapter
    assert torch.allclose(layer(x), plain(layer, x), atol=1e-5)


def test_training_reaches_the_weights() -> None:
    layer, x = Upsample(4), torch.randn(1, 4, 3, 3)
    layer(x).square().sum().backward()
    assert layer.conv.weight.grad is not None
    assert list(layer.state_dict()) == ["conv.weight", "conv.bias"]
