"""(IA)³, OFT, BOFT and GLoRA are what their papers and trainers define, live and merged."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import IA3Config, get_peft_model
from torch import Tensor, nn

from darkroom.nn.lora import Adapter, Adapters, adapted, merge
from darkroom.nn.multiplicative import GeneralLowRank, InputRotation, Rotation, Scaling, rotations


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


LAYERS = {"linear": nn.Linear(6, 8), "convolution": nn.Conv2d(6, 8, 3, padding=1)}


def changes(kind: str) -> dict[str, Adapter]:
    kernel = (3, 3) if kind == "convolution" else ()
    factors = (random(6, 2), random(2, 6)), (random(8, 2), random(2, 6, *kernel))
    return {
        "outputs": Scaling(random(8), on_input=False),
        "inputs": Scaling(random(6), on_input=True),
        "with bias": Scaling(random(8), on_input=False, with_bias=True),
        "oft": Rotation(rotations(random(2, 4, 4))),
        "rescaled": Rotation(rotations(random(2, 4, 4)), random(8)),
        "boft": Rotation(rotations(random(2, 2, 4, 4))),
        "inputs turned": InputRotation(rotations(random(1, 27 if kernel else 3, 2, 2)), random(8)),
        "glora": GeneralLowRank(*factors, 0.5),
        "dora": GeneralLowRank(
            (random(6, 2), random(2, 6)), (random(8, 2), random(2, 6, *kernel)), 0.5, random(8).abs()
        ),
    }


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("change", changes("linear"))
@torch.no_grad()
def test_live_row_by_row_and_merged_are_one(kind: str, change: str) -> None:
    network, adapter = nn.Sequential(LAYERS[kind]), changes(kind)[change]
    x = random(3, 6, 5, 5) if kind == "convolution" else random(3, 4, 6)
    adapters = Adapters.of([({"0": adapter}, 0.7)])
    plain = network(x)
    with adapted(network, [(1, None), (2, adapters)]):
        live = network(x)
    merged = merge(network, adapters)
    whole = network(x)
    merged.undo()
    torch.testing.assert_close(live[0], plain[0])
    torch.testing.assert_close(live[1:], whole[1:], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(live[1:], plain[1:], atol=1e-2)
    assert torch.equal(network(x), plain)


@pytest.mark.parametrize(("name", "feedforward"), [("q", False), ("q", True), ("conv", False), ("conv", True)])
@torch.no_grad()
def test_scaling_as_peft_has_it(name: str, feedforward: bool) -> None:
    layers: Any = nn.ModuleDict({"q": nn.Linear(6, 8), "conv": nn.Conv2d(6, 8, 3)})
    layer = layers[name]
    x = random(2, 6) if name == "q" else random(2, 6, 5, 5)
    plain = layer(x)
    targets = {"target_modules": [name], "feedforward_modules": [name] if feedforward else []}
    peer = get_peft_model(layers, IA3Config(**targets))
    vector = peer.base_model.model[name].ia3_l["default"]
    vector.copy_(random(*vector.shape))
    adapter = Scaling(vector - 1, on_input=feedforward, with_bias=True)
    torch.testing.assert_close(plain + adapter.addition(layer, x), peer.base_model.model[name](x))


def test_rotations_keep_angles_and_their_bound() -> None:
    turned = rotations(random(2, 3, 4, 4))
    one = torch.eye(4).expand(2, 3, 4, 4)
    torch.testing.assert_close(turned @ turned.mT, one, rtol=0, atol=1e-5)
    bounded = rotations(100 * random(2, 4, 4), bound=0.1)
    q = torch.linalg.solve(torch.eye(4) + bounded, bounded - torch.eye(4))
    torch.testing.assert_close(q.norm(), torch.tensor(0.1), rtol=1e-3, atol=0)
    assert torch.equal(rotations(torch.zeros(2, 4, 4)), torch.eye(4).expand(2, 4, 4))


def test_butterflies_join_all_outputs() -> None:
    """Two rounds of blocks of four reach from every output to every other; each keeps lengths."""
    weight = torch.eye(8)
    changed = weight + Rotation(rotations(random(2, 2, 4, 4))).difference(weight)
    assert (changed.abs() > 1e-6).all()
    torch.testing.assert_close(changed @ changed.T, weight, rtol=0, atol=1e-5)
    plain = weight + Rotation(rotations(random(2, 4, 4))).difference(weight)
    blocks = torch.block_diag(*rotations(random(2, 4, 4)))
    torch.testing.assert_close(plain, blocks.T)


def test_butterflies_by_their_indices() -> None:
    """Round i turns outputs that lie 2 ** i half blocks apart, written out index by index."""
    rounds, out = rotations(random(3, 4, 4, 4)), 16
    expected = torch.eye(out)
    for i, blocks in enumerate(rounds):
        stride = 2**i * 2
        order = [
            c * 2 * stride + g * stride + k for c in range(out // (2 * stride)) for k in range(stride) for g in (0, 1)
        ]
        matrix = torch.zeros(out, out)
        for n, block in enumerate(blocks):
            places = order[4 * n : 4 * n + 4]
            for a in range(4):
                for b in range(4):
                    matrix[places[a], places[b]] = block[a, b]
        expected = matrix @ expected
    found = torch.eye(out) + Rotation(rounds).difference(torch.eye(out))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
