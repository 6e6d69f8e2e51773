"""Compiled blocks give what they gave before, for every size, prompt and hook, from code that is made once.

What the kernels for the CPU compute: `tests/checkpoints/test_model.py`, with a whole model.
"""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from darkroom.errors import InputError
from darkroom.nn.blocks import ResBlock, TransformerBlock
from darkroom.nn.compiled import compile_blocks
from darkroom.nn.lora import LowRank, attach

CPU = torch.device("cpu")


class Network(nn.Module):
    """Two residual blocks of one kind, two transformer blocks of another."""

    def __init__(self) -> None:
        super().__init__()
        self.residual = nn.ModuleList(ResBlock(32, 32, 16) for _ in range(2))
        self.transformers = nn.ModuleList(TransformerBlock(32, 24, 2, 16) for _ in range(2))

    def forward(self, x: Tensor, embedding: Tensor, tokens: Tensor) -> Tensor:
        for block in self.residual:
            x = block(x, embedding)
        y = x.permute(0, 2, 3, 1).flatten(1, 2)
        for block in self.transformers:
            y = block(y, tokens)
        return x + y.unflatten(1, x.shape[-2:]).permute(0, 3, 1, 2)


@pytest.fixture
def network() -> Network:
    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(0)
    network = Network().eval().requires_grad_(False)
    for p in network.parameters():
        p.copy_(torch.randn(p.shape) * 0.2)
    return network


@torch.inference_mode()
def run(network: nn.Module, batch: int, height: int, width: int, length: int) -> Tensor:
    g = torch.Generator().manual_seed(height * width)
    x, tokens = torch.randn(batch, 32, height, width, generator=g), torch.randn(batch, length, 24, generator=g)
    return network(x, torch.randn(batch, 16, generator=g), tokens)


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


def test_other_sizes_batches_and_prompts_need_no_new_code(network: Network) -> None:
    plain = copy.deepcopy(network)
    compile_blocks(network, CPU, backend="eager")
    run(network, 2, 8, 8, 77)  # equal sides are no rule
    assert graphs() == 2  # of four blocks
    assert not counters["graph_break"]
    for shape in ((2, 8, 8, 154), (2, 16, 8, 77), (4, 8, 24, 77), (6, 5, 7, 231)):
        assert torch.equal(run(network, *shape), run(plain, *shape))
    assert graphs() == 2
    for shape in ((1, 8, 8, 77), (1, 16, 8, 154)):
        assert torch.equal(run(network, *shape), run(plain, *shape))
    assert graphs() == 4


def test_adapters_that_come_later_are_not_passed_over(network: Network) -> None:
    plain = copy.deepcopy(network)
    compile_blocks(network, CPU, backend="eager")
    bare = run(network, 2, 8, 8, 77)
    adapters = {"transformers.1.attn1.to_q": LowRank(torch.randn(2, 32), torch.randn(32, 2))}
    attached = [attach(n, adapters) for n in (network, plain)]
    changed = run(network, 2, 8, 8, 77)
    assert torch.equal(changed, run(plain, 2, 8, 8, 77))
    assert not torch.allclose(changed, bare)
    for a in attached:
        a.detach()
    assert torch.equal(run(network, 2, 8, 8, 77), bare)
    assert graphs() == 2


def test_weights_that_change_are_seen(network: Network) -> None:
    compile_blocks(network, CPU, backend="eager")
    before = run(network, 2, 8, 8, 77)
    network.transformers[0].attn2.to_out.weight.mul_(2)
    assert not torch.allclose(run(network, 2, 8, 8, 77), before)
    assert graphs() == 2


def test_a_missing_compiler_is_told(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="compiling for the CPU needs a C\\+\\+ compiler"):
        compile_blocks(network, CPU)
