"""Lean blocks compute what the blocks say, in less memory."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.nn import lean, row_tiles
from darkroom.nn.blocks import FeedForward, ResBlock, group_norm
from darkroom.nn.lean import make_lean
from darkroom.nn.resample import Upsample


class Net(nn.Module):
    def __init__(self, n_in: int = 32, n_out: int = 64, **options: bool) -> None:
        super().__init__()
        self.block = ResBlock(n_in, n_out, 16, **options)  # type: ignore[arg-type]
        self.up = Upsample(n_out)
        self.ff = FeedForward(n_out)
        self.norm_out = group_norm(n_out)
        self.conv_out = nn.Conv2d(n_out, 3, 3, padding=1)
        nn.init.normal_(self.block.conv2.weight, std=0.05)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        x = self.up(self.block(x, embedding))
        return self.out(x + self.ff(x.flatten(2).mT).mT.view_as(x))

    def out(self, x: Tensor) -> Tensor:
        return self.conv_out(F.silu(self.norm_out(x)))


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every map counts as large."""
    monkeypatch.setattr(row_tiles, "LARGE", 1)
    monkeypatch.setattr(row_tiles, "TILE", 1)
    monkeypatch.setattr(lean, "BLOCK", 100)


def inputs(channels: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, channels, 19, 6).to(memory_format=torch.channels_last), torch.randn(2, 16)


@pytest.mark.parametrize(("n_in", "n_out"), [(32, 32), (32, 64), (64, 32)])
@pytest.mark.parametrize("tiled", [False, True])
@torch.no_grad()
def test_everything_is_as_written(n_in: int, n_out: int, tiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = Net(n_in, n_out).eval()
    x, embedding = inputs(n_in)
    kept, expected = x.clone(), net(x, embedding)
    if tiled:
        small(monkeypatch)
    make_lean(net)
    torch.testing.assert_close(net(x, embedding), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(x, kept)  # a caller's map is nobody else's


@torch.no_grad()
def test_blocks_that_scale_and_shift_stay_as_written() -> None:
    net = Net(32, 32, scale_shift=True).eval()
    x, embedding = inputs(32)
    expected = net(x, embedding)
    make_lean(net)
    torch.testing.assert_close(net(x, embedding), expected)


def test_gradients_training_and_hooks_take_the_blocks_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net(32, 32).eval()
    x, embedding = inputs(32)
    x.requires_grad_()  # else PyTorch 2.13 crashes in the backward pass of a group norm of channels last
    expected = net(x, embedding)
    expected.sum().backward()
    gradients = [p.grad for p in net.parameters()]
    net.zero_grad()
    small(monkeypatch)
    make_lean(net)
    found = net(x, embedding)
    found.sum().backward()
    assert torch.equal(found, expected)
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), gradients))  # type: ignore[arg-type]
    dropped: list[Tensor] = []
    net.block.dropout.register_forward_hook(lambda _, inputs, output: dropped.append(output))
    seen: list[torch.Size] = []
    net.up.conv.register_forward_hook(lambda _, inputs, output: seen.append(output.shape))  # a live adapter
    with torch.no_grad():
        net.train()(x, embedding)
        assert [len(dropped), seen] == [1, [torch.Size([2, 32, 38, 12])]]
        net.eval()(x, embedding)
    assert [len(dropped), len(seen)] == [1, 2]


@torch.no_grad()
def test_a_copy_is_lean_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net().eval()
    make_lean(net)
    x, embedding = inputs(32)
    expected = net(x, embedding)
    copy = deepcopy(net)
    for p in net.parameters():
        p.zero_()
    assert torch.equal(copy(x, embedding), expected)
    small(monkeypatch)
    copied: list[int] = []
    copy.block.dropout.register_forward_hook(lambda *_: copied.append(1))
    torch.testing.assert_close(copy(x, embedding), expected, rtol=1e-4, atol=1e-5)
    assert not copied
