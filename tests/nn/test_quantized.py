import pytest
import torch
from torch import Tensor, nn

from darkroom.errors import InputError
from darkroom.nn.layers import Linear
from darkroom.nn.lora import Adapters, LowRank, attach, merge
from darkroom.nn.quantized import Format, QuantizedLinear, find_format, quantize


def exact(rows: Tensor, packed: Tensor, scale: Tensor) -> Tensor:
    """The product of every format, as it is defined."""
    return ((rows.double() @ packed.double().t()) * scale.double()).float()


INT8 = Format(torch.int8, 127.0, 127.0, Tensor.contiguous, exact)
FP8 = Format(torch.float8_e4m3fn, 448.0, 448.0, Tensor.contiguous, exact)


def layers(form: Format, inputs: int = 640, outputs: int = 512, *, bias: bool = True) -> tuple[Linear, QuantizedLinear]:
    torch.manual_seed(0)
    layer = Linear(inputs, outputs, bias=bias).requires_grad_(False)
    return layer, QuantizedLinear(layer, form)


def error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.fixture
def here() -> Format:
    try:
        return find_format("int8", torch.device("cpu"))
    except InputError:
        pytest.skip("this processor has no fast products in int8")


# Rounding to n steps on either side of rows whose largest value is about four deviations: 4 / n / √12 for normal inputs
# and 1.73 / n / √12 for uniform weights; e4m3 has three bits behind the first, 2⁻⁴ / √3 at most, for both.
@pytest.mark.parametrize(("form", "least", "most"), [(INT8, 0.005, 0.012), (FP8, 0.02, 0.05)])
@pytest.mark.parametrize("bias", [True, False])
def test_rounding_costs_what_it_must(form: Format, least: float, most: float, bias: bool) -> None:
    layer, quantized = layers(form, bias=bias)
    x = torch.randn(2, 9, 640)
    assert least < error(quantized(x), layer(x)) < most
    assert least / 4 < error(quantized.weight, layer.weight) < most
    half = quantized(x.bfloat16())
    assert half.dtype == torch.bfloat16
    assert error(half.float(), quantized(x.bfloat16().float())) < 2**-8


@pytest.mark.parametrize("form", [INT8, FP8])
def test_rows_have_scales_of_their_own(form: Format) -> None:
    _, quantized = layers(form, bias=False)
    x = torch.randn(4, 640)
    loud = x * torch.tensor([1e-6, 0.0, 1.0, 1e6])[:, None]
    for row, factor in ((0, 1e-6), (2, 1.0), (3, 1e6)):
        assert torch.allclose(quantized(loud)[row] / factor, quantized(x)[row], atol=1e-4)
    assert not quantized(loud)[1].any()
    assert torch.allclose(quantized(loud[:1]), quantized(loud)[:1], rtol=1e-5)  # alone as in a batch


def test_the_processors_product_is_the_defined_one(here: Format) -> None:
    """Also where all values are at their limits: nothing overflows on processors that add pairs in 16 bits."""
    torch.manual_seed(0)
    top, highest = int(here.highest), int(here.highest_weight)
    signs = torch.randint(0, 2, (40, 1000)) * 2 - 1
    cases = [(signs * top, signs[:32] * highest), (signs * 0 + top, signs[:32] * 0 - highest)]
    cases.append((torch.randint(-top, top + 1, (40, 1000)), torch.randint(-highest, highest + 1, (32, 1000))))
    scale = torch.rand(32) + 0.5
    for rows, weight in cases:
        rows, weight = rows.to(torch.int8), weight.to(torch.int8)
        assert torch.allclose(here.product(rows, here.pack(weight), scale), exact(rows, weight, scale), rtol=1e-6)
    layer, quantized = layers(here)
    x = torch.randn(2, 9, 640)
    assert error(quantized(x), layer(x)) < 0.016  # weights may have seven bits
    assert error(quantized.weight, layer.weight) < 0.01


def test_large_linear_layers_alone_are_replaced() -> None:
    class Odd(nn.Linear):
        """Not one of ours: what it does is unknown."""

    small, large, odd, uneven = Linear(256, 256), Linear(512, 512), Odd(512, 512), Linear(1000, 500)
    net = nn.Sequential(small, nn.Sequential(large, nn.GELU()), odd, uneven)
    quantize(net, INT8)
    assert [type(m).__name__ for m in net.modules() if not isinstance(m, nn.Sequential)] == [
        "Linear",
        "QuantizedLinear",
        "GELU",
        "Odd",
        "Linear",
    ]


def test_live_adapters_add_to_what_is_quantized_and_merged_ones_are_refused() -> None:
    layer, quantized = layers(INT8)
    x = torch.randn(3, 640)
    down, up = torch.randn(4, 640) / 25, torch.randn(512, 4) / 2
    before = quantized(x)
    for adapter in (LowRank(down, up), LowRank(down, up, magnitude=torch.rand(512) + 0.5)):
        net, whole = nn.Sequential(quantized), nn.Sequential(layer)
        plain = whole(x)
        live, like = attach(net, {"0": adapter}, 0.5), attach(whole, {"0": adapter}, 0.5)
        assert error(net(x) - before, whole(x) - plain) < 0.03
        live.detach()
        like.detach()
        assert torch.equal(net(x), before)
        with pytest.raises(InputError, match="0 is quantized and takes no merged adapters"):
            merge(net, Adapters.of([({"0": adapter}, 1.0)]))


def test_quantized_layers_neither_train_nor_are_written() -> None:
    _, quantized = layers(INT8)
    with pytest.raises(InputError, match="no gradients pass quantized layers"):
        quantized(torch.randn(3, 640, requires_grad=True))
    with pytest.raises(InputError, match="a quantized model is not written"):
        nn.Sequential(quantized).state_dict()


def test_formats_that_a_device_has_not_are_refused() -> None:
    for name, device, message in (
        ("int4", "cpu", "unknown quantization 'int4'; known are: int8, fp8"),
        ("fp8", "cpu", "cpu has no fast products in fp8"),
        ("int8", "meta", "meta has no fast products in int8"),
    ):
        with pytest.raises(InputError, match=message):
            find_format(name, torch.device(device))
