"""Minimal filtering against PyTorch's convolution in float64."""

import pytest
import torch
from torch.nn import functional as F

from darkroom.nn.layers import Conv2d
from darkroom.nn.native import build
from darkroom.nn.native.convolution import convolution_kernel, convolves, native_convolution

needs_kernel = pytest.mark.skipif(convolution_kernel() is None, reason="no C compiler at hand")


def error(y: torch.Tensor, exact: torch.Tensor) -> float:
    return float((y.double() - exact).abs().max() / exact.abs().max())


@needs_kernel
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("batch", "inputs", "outputs", "height", "width"),
    [(1, 64, 64, 32, 32), (2, 72, 64, 23, 24), (1, 64, 80, 1, 1025), (3, 320, 64, 33, 18)],
)
def test_agrees_with_float64_nearly_as_well_as_pytorch(
    threads: int, batch: int, inputs: int, outputs: int, height: int, width: int
) -> None:
    kernel = convolution_kernel()
    assert kernel is not None
    g = torch.Generator().manual_seed(0)
    x = torch.randn(batch, inputs, height, width, generator=g)
    w, b = torch.randn(outputs, inputs, 3, 3, generator=g), torch.randn(outputs, generator=g)
    assert convolves(x, w)
    exact = F.conv2d(x.double(), w.double(), b.double(), padding=1)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        plain = native_convolution(kernel, x, w, b)
        last = native_convolution(kernel, *(t.to(memory_format=torch.channels_last) for t in (x, w)), b)
        bare = native_convolution(kernel, x, w, None)
    finally:
        torch.set_num_threads(before)
    assert error(plain, exact) < 1e-5  # the plain convolution: 1e-6 to 3e-6
    assert torch.equal(plain, last)
    assert error(bare, exact - b.double()[:, None, None]) < 1e-5
    assert torch.equal(plain[-1:], native_convolution(kernel, x[-1:], w, b))  # whatever else is in the batch


@needs_kernel
def test_layers_filter_where_it_is_allowed_and_pays() -> None:
    torch.manual_seed(0)
    layer = Conv2d(64, 64, 3, padding=1).requires_grad_(False)
    x = torch.randn(1, 64, 40, 40)
    plain = layer(x)
    layer.minimal_filtering = True
    filtered = layer(x)
    assert not torch.equal(filtered, plain)
    assert torch.allclose(filtered, plain, atol=1e-5 * float(plain.abs().max()))
    small = x[:, :, :10, :10]
    layer.minimal_filtering = False
    expected = layer(small)
    layer.minimal_filtering = True
    assert torch.equal(layer(small), expected)  # too small to pay
    assert layer.requires_grad_(True)(x).requires_grad  # gradients take PyTorch's


@pytest.mark.parametrize("change", [{"stride": 2}, {"padding": 0}, {"dilation": 2, "padding": 2}, {"groups": 2}])
def test_other_convolutions_stay_as_they_are(change: dict[str, int]) -> None:
    layer = Conv2d(64, 64, 3, **{"padding": 1, **change}).requires_grad_(False)
    x = torch.randn(1, 64, 40, 40)
    expected = layer(x)
    layer.minimal_filtering = True
    assert torch.equal(layer(x), expected)


def test_without_a_compiler_pytorch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    convolution_kernel.cache_clear()
    monkeypatch.setenv(build.SWITCH, "0")
    try:
        assert convolution_kernel() is None
        layer = Conv2d(64, 64, 3, padding=1).requires_grad_(False)
        layer.minimal_filtering = True
        assert layer(torch.randn(1, 64, 40, 40)).shape == (1, 64, 40, 40)
    finally:
        convolution_kernel.cache_clear()
