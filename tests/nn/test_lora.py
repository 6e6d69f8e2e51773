"""Adapters: the live and the merged form are one function, they add up, come off exactly, and agree with the peer."""

import pytest
import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from torch import Tensor, nn

from darkroom.nn.lora import Adapter, Adapters, Full, Hadamard, Kronecker, LowRank, adapted, attach, merge


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.point = nn.Conv2d(8, 8, 1)
        self.linear = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(torch.tanh(self.point(torch.tanh(self.conv(x)))).mean((2, 3)))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().requires_grad_(False)


X = torch.randn(3, 6, 8, 8, generator=torch.Generator().manual_seed(1))


def r(*shape: int) -> Tensor:
    return torch.randn(*shape) * 0.5


ADAPTERS = {
    "linear": lambda: {"linear": LowRank(r(3, 8), r(10, 3), scale=0.5)},
    "convolution": lambda: {"conv": LowRank(r(3, 6, 3, 3), r(8, 3, 1, 1), scale=2.0)},
    "tucker": lambda: {"conv": LowRank(r(3, 6, 1, 1), r(8, 3, 1, 1), r(3, 3, 3, 3))},
    "linear factors on a 1x1 convolution": lambda: {"point": LowRank(r(3, 8), r(8, 3))},
    "1x1 factors on a linear layer": lambda: {"linear": LowRank(r(3, 8, 1, 1), r(10, 3, 1, 1))},
    "loha": lambda: {"linear": Hadamard((r(10, 2), r(2, 8), r(10, 2), r(2, 8)), scale=0.5)},
    "loha convolution": lambda: {"conv": Hadamard((r(8, 2), r(2, 54), r(8, 2), r(2, 54)))},
    "loha tucker": lambda: {"conv": Hadamard((r(2, 8), r(2, 6), r(2, 8), r(2, 6)), (r(2, 2, 3, 3), r(2, 2, 3, 3)))},
    "lokr": lambda: {"linear": Kronecker([r(2, 4)], [r(5, 2)])},
    "lokr factors": lambda: {"linear": Kronecker([r(2, 1), r(1, 4)], [r(5, 1), r(1, 2)])},
    "lokr convolution": lambda: {"conv": Kronecker([r(2, 3)], [r(4, 2, 3, 3)])},
    "lokr tucker": lambda: {"conv": Kronecker([r(2, 3)], [r(2, 4), r(2, 2), r(2, 2, 3, 3)])},
    "full": lambda: {"conv": Full(r(8, 6, 3, 3)), "linear": Full(r(10, 8))},
    "dora per output": lambda: {"conv": LowRank(r(3, 6, 3, 3), r(8, 3, 1, 1), magnitude=r(8, 1, 1, 1).abs())},
    "dora per input": lambda: {"linear": LowRank(r(3, 8), r(10, 3), magnitude=r(1, 8).abs())},
    "dora of a loha": lambda: {"linear": Hadamard((r(10, 2), r(2, 8), r(10, 2), r(2, 8)), magnitude=r(10).abs())},
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_live_equals_merged_and_both_come_off(net: Net, name: str) -> None:
    adapters: dict[str, Adapter] = ADAPTERS[name]()
    before, weights = net(X), {k: v.clone() for k, v in net.state_dict().items()}
    attached = attach(net, adapters, 0.7)
    live = net(X)
    attached.detach()
    assert not torch.allclose(live, before, atol=1e-3)
    assert torch.equal(net(X), before)
    merged = merge(net, Adapters.of([(adapters, 0.7)]))
    torch.testing.assert_close(net(X), live, rtol=1e-5, atol=1e-5)
    merged.undo()
    assert all(torch.equal(v, weights[k]) for k, v in net.state_dict().items())


def test_several_add_up_in_any_order(net: Net) -> None:
    first, second = ADAPTERS["dora per output"](), ADAPTERS["full"]()
    merged = merge(net, Adapters.of([(first, 0.5), (second, -0.3)]))
    expected = net(X)
    merged.undo()
    b, a = attach(net, second, -0.3), attach(net, first, 0.5)
    torch.testing.assert_close(net(X), expected, rtol=1e-5, atol=1e-5)
    a.detach()
    b.detach()


@pytest.mark.parametrize("name", ADAPTERS)
def test_each_row_gets_the_adapters_of_its_own_run(net: Net, name: str) -> None:
    weights = {k: v.clone() for k, v in net.state_dict().items()}
    one, two = Adapters.of([(ADAPTERS[name](), 0.7)]), Adapters.of([(ADAPTERS["full"](), 1), (ADAPTERS[name](), -0.2)])
    x = torch.cat([X, X + 1, X - 1])
    rows = [(2, one), (3, None), (1, one), (2, one), (1, two)]
    expected = []
    for (_, adapters), part in zip(rows, x.split([n for n, _ in rows])):
        merged = merge(net, adapters)
        expected.append(net(part))
        merged.undo()
    with adapted(net, rows):
        found = net(x)
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(v, weights[k]) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks for m in net.modules())


def test_rows_that_adapters_were_not_given_for_are_an_error_that_leaves_nothing_behind(net: Net) -> None:
    one = Adapters.of([(ADAPTERS["linear"](), 1.0)])
    before = net(X)
    with pytest.raises(ValueError, match="linear got 3 rows, expected are the 4"), adapted(net, [(1, one), (3, None)]):
        net(X)
    assert torch.equal(net(X), before)
    with adapted(net, [(1, one)]):  # alone all rows are its own: a prompt has a row for each of its chunks
        assert not torch.allclose(net(X)[2], before[2])
    assert Adapters.of([(ADAPTERS["linear"](), 0.0)]) is None


def test_strength_can_change_while_attached(net: Net) -> None:
    before = net(X)
    attached = attach(net, ADAPTERS["linear"](), 1.0)
    full = net(X)
    attached.strength = 0.0
    assert torch.equal(net(X), before)
    attached.strength = 0.5  # the last layer is linear in its weights
    torch.testing.assert_close(net(X), (before + full) / 2)


def test_merging_in_half_precision_comes_off_exactly(net: Net) -> None:
    net = net.to(torch.bfloat16)
    weights = {k: v.clone() for k, v in net.state_dict().items()}
    full = ADAPTERS["full"]()
    merge(
        net, Adapters.of([({n: a.bfloat16() for n, a in full.items()}, 1.0), (ADAPTERS["convolution"](), 0.1)])
    ).undo()
    assert full["conv"].change.dtype == torch.bfloat16  # adapters are values that other runs share
    assert all(torch.equal(v, weights[k]) for k, v in net.state_dict().items())


def test_merging_that_fails_in_the_middle_leaves_the_weights_as_they_were(net: Net) -> None:
    weights = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(RuntimeError, match="shape"):
        merge(net, Adapters.of([({**ADAPTERS["convolution"](), "linear": LowRank(r(3, 8), r(9, 3))}, 1.0)]))
    assert all(torch.equal(v, weights[k]) for k, v in net.state_dict().items())


def test_a_fresh_adapter_changes_nothing_and_learns(net: Net) -> None:
    before = net(X)
    attached = attach(net, {n: LowRank.fresh(getattr(net, n), 2, alpha=1) for n in ("conv", "point", "linear")})
    torch.testing.assert_close(net(X), before)
    optimiser = torch.optim.SGD(attached.parameters(), 2.0)
    target = torch.ones_like(before)
    losses = []
    for _ in range(20):
        loss = (net(X) - target).square().mean()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < losses[0] * 0.8
    attached.detach()
    assert torch.equal(net(X), before)


@pytest.mark.parametrize("kind", ["lora", "dora", "loha", "lokr"])
def test_agrees_with_peft(net: Net, kind: str) -> None:
    targets = ["conv", "point", "linear"]
    config = {
        "lora": LoraConfig(r=3, lora_alpha=5, target_modules=targets),
        "dora": LoraConfig(r=3, lora_alpha=5, target_modules=targets, use_dora=True),
        "loha": LoHaConfig(r=3, alpha=5, target_modules=targets, use_effective_conv2d=True),
        "lokr": LoKrConfig(r=2, alpha=5, target_modules=targets, decompose_both=True),
    }[kind]
    peer = get_peft_model(net, config)
    for name, parameter in peer.named_parameters():
        if "lora" in name or "hada" in name or "lokr" in name:
            nn.init.uniform_(parameter, 0.1, 0.5)
    expected = peer(X)
    adapters: dict[str, Adapter] = {}
    for name in targets:
        layer = getattr(peer.base_model.model, name)
        get = lambda field, layer=layer: getattr(layer, field)["default"].detach()  # noqa: E731
        if kind in ("lora", "dora"):
            down, up = layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()
            magnitude = layer.lora_magnitude_vector["default"].weight.detach().flatten() if kind == "dora" else None
            adapters[name] = LowRank(down, up, scale=5 / 3, magnitude=magnitude)
        elif kind == "loha":
            factors = tuple(get(f"hada_{n}") for n in ("w1_a", "w1_b", "w2_a", "w2_b"))
            kernels = (get("hada_t1"), get("hada_t2")) if "default" in layer.hada_t1 else None
            adapters[name] = Hadamard(factors, kernels, scale=5 / 3)
        else:
            parts = []
            for w in ("w1", "w2"):
                whole = "default" in getattr(layer, f"lokr_{w}")
                parts.append([get(f"lokr_{w}")] if whole else [get(f"lokr_{w}_a"), get(f"lokr_{w}_b")])
            adapters[name] = Kronecker(*parts, scale=5 / 2)
    base = peer.unload() if kind in ("lora", "dora") else peer.base_model.unload()
    attached = attach(base, adapters)
    torch.testing.assert_close(base(X), expected, rtol=1e-5, atol=1e-5)
    attached.detach()
