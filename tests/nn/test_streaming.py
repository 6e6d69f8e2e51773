"""Weights that come to the device for their work. On the CPU the copies are real, yet nothing goes on beside them."""

import copy

import pytest
import torch
from torch import Tensor, nn

from darkroom.errors import InputError
from darkroom.nn.lora import Adapters, LowRank, attach, merge
from darkroom.nn.streaming import Streaming

CPU = torch.device("cpu")
CUDA = pytest.param(
    torch.device("cuda"), marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.wide = nn.Linear(8, width)
        self.back = nn.Linear(width, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.back(self.wide(x).relu())


class Network(nn.Module):
    """Runs its blocks in the order asked for, which is not that of their registration."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.blocks = nn.ModuleList(Block(width) for width in (16, 64, 32, 8))

    def forward(self, x: Tensor, order: tuple[int, ...] = (3, 0, 2, 1)) -> Tensor:
        x = self.first(x)
        for i in order:
            x = self.blocks[i](x)
        return x


@pytest.fixture(params=[CPU, CUDA])
def pair(request: pytest.FixtureRequest) -> tuple[Network, Network, Streaming]:
    """A network, its copy whose blocks are streamed, and what streams them."""
    torch.manual_seed(0)
    plain = Network().eval().requires_grad_(False)
    streamed = copy.deepcopy(plain)
    streamed.first.to(request.param)
    return plain.to(request.param), streamed, Streaming([streamed], (Block,), request.param)


def rows(network: Network) -> Tensor:
    """An input where the network computes."""
    return torch.randn(2, 8).to(network.first.weight.device)


def in_buffers(network: nn.Module, streaming: Streaming) -> set[str]:
    """The parameters that lie in one of the buffers now."""
    buffers = {b.untyped_storage().data_ptr() for b in streaming.buffers}
    return {name for name, p in network.named_parameters() if p.untyped_storage().data_ptr() in buffers}


def test_the_result_is_the_same_in_any_order(pair: tuple[Network, Network, Streaming]) -> None:
    plain, streamed, _ = pair
    x = rows(plain)
    with torch.inference_mode():
        for order in ((3, 0, 2, 1), (3, 0, 2, 1), (0, 2), (3, 3, 1, 0, 3), (3, 0, 2, 1)):  # guesses right and wrong
            assert torch.equal(plain(x, order), streamed(x, order))


def test_only_the_block_that_works_is_on_the_device(pair: tuple[Network, Network, Streaming]) -> None:
    _, streamed, streaming = pair
    seen = []
    for block in streamed.blocks:
        block.register_forward_hook(lambda *_: seen.append(in_buffers(streamed, streaming)))
    assert sum(b.numel() for b in streaming.buffers) < 2 * (2 * 64 * 8 + 64 + 8) * 4 + 2 * 4 * 256  # of the largest
    with torch.inference_mode():
        streamed(rows(streamed))
    assert seen == [{n for n, _ in streamed.named_parameters() if f"blocks.{i}." in n} for i in (3, 0, 2, 1)]
    assert in_buffers(streamed, streaming) == set()


def test_the_next_block_is_copied_before_the_present_one_works(pair: tuple[Network, Network, Streaming]) -> None:
    _, streamed, streaming = pair
    found = []

    def look(block: nn.Module, inputs: tuple[Tensor]) -> None:
        following = {3: 0, 0: 2, 2: 1}.get(list(streamed.blocks).index(block))
        if following is not None:
            weight = streamed.blocks[following].wide.weight
            wanted = weight.flatten().view(torch.uint8)
            if weight.device != streaming.buffers[0].device:
                torch.cuda.synchronize()
            found.append(any(torch.equal(b[: len(wanted)].cpu(), wanted) for b in streaming.buffers))

    for block in streamed.blocks:
        block.register_forward_pre_hook(look)  # behind that of the streaming
    with torch.inference_mode():
        streamed(rows(streamed))
        assert found == [False] * 3  # not known yet
        found.clear()
        streamed(rows(streamed))
    assert found == [True] * 3


def test_an_error_in_the_middle_leaves_the_network_as_it_was(pair: tuple[Network, Network, Streaming]) -> None:
    plain, streamed, _ = pair
    before = {name: p.data_ptr() for name, p in streamed.named_parameters()}

    def fail(*_: object) -> None:
        raise ValueError("in the middle")

    handle = streamed.blocks[2].wide.register_forward_hook(fail)
    with torch.inference_mode(), pytest.raises(ValueError, match="in the middle"):
        streamed(rows(streamed))
    handle.remove()
    assert {name: p.data_ptr() for name, p in streamed.named_parameters()} == before
    x = rows(plain)
    with torch.inference_mode():
        assert torch.equal(plain(x), streamed(x))


@pytest.mark.parametrize("dora", [False, True])
def test_adapters_live_and_merged(dora: bool, pair: tuple[Network, Network, Streaming]) -> None:
    plain, streamed, _ = pair
    torch.manual_seed(1)
    magnitude = torch.rand(64) if dora else None
    adapters = {"blocks.1.wide": LowRank(torch.randn(2, 8), torch.randn(64, 2), magnitude=magnitude)}
    x = rows(plain)
    adapters["blocks.1.wide"].to(x.device)
    with torch.inference_mode():
        bare = streamed(x)
        for change in (attach, lambda network, adapters: merge(network, Adapters.of([(adapters, 1.0)]))):
            changed = [change(network, adapters) for network in (plain, streamed)]
            torch.testing.assert_close(streamed(x), plain(x), rtol=0, atol=0 if x.device == CPU else 1e-5)
            assert not torch.equal(streamed(x), bare)
            for c in changed:
                c.detach() if hasattr(c, "detach") else c.undo()
            assert torch.equal(streamed(x), bare)


def test_gradients_are_refused(pair: tuple[Network, Network, Streaming]) -> None:
    _, streamed, streaming = pair
    with pytest.raises(InputError, match="no gradient goes through a model whose weights are streamed"):
        streamed(rows(streamed).requires_grad_())
    assert in_buffers(streamed, streaming) == set()
    streamed(rows(streamed))  # gradients are on, yet none is wanted


def test_layouts_and_types_are_kept() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3).double()).requires_grad_(False)
    network[0].to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    strides = [m.weight.stride() for m in network]
    found = []
    Streaming([network], (nn.Conv2d,), CPU)
    for m in network:
        m.register_forward_pre_hook(lambda m, _: found.append((m.weight.stride(), m.weight.dtype)))
    network[0](torch.randn(1, 4, 8, 8))
    network[1](torch.randn(1, 4, 8, 8, dtype=torch.float64))
    assert found == list(zip(strides, (torch.float32, torch.float64)))
