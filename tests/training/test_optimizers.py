"""What each optimizer of a run changes, and when."""

from __future__ import annotations

import torch
from torch import nn

from darkroom.training.config import LoopConfig, OptimizerConfig
from darkroom.training.optimizers import Optimizers


def test_what_starts_later_stays_as_it_is_until_then() -> None:
    torch.manual_seed(0)
    networks = nn.ModuleDict({"new": nn.Linear(16, 16), "old": nn.Linear(16, 16)})
    config = LoopConfig(
        steps=4,
        batch_size=1,
        lr=0.1,
        weight_decay=0.5,
        optimizer="muon",
        optimizers={"old": OptimizerConfig(start_step=2)},
    )
    optimizers = Optimizers({n: list(m.parameters()) for n, m in networks.items()}, networks, config)
    moved: dict[str, list[bool]] = {"new": [], "old": []}
    for step in range(4):
        before = {name: [p.detach().clone() for p in m.parameters()] for name, m in networks.items()}
        networks["old"](networks["new"](torch.ones(1, 16))).square().sum().backward()
        optimizers.step(step)
        kept = optimizers.state_dict()  # as a run does that is stopped here and goes on
        optimizers = Optimizers({n: list(m.parameters()) for n, m in networks.items()}, networks, config)
        optimizers.load_state_dict(kept)
        assert all(p.grad is None for p in networks.parameters()), "what rests gathers no gradients"
        for name, m in networks.items():
            changes = [not torch.equal(p, b) for p, b in zip(m.parameters(), before[name])]
            assert len(set(changes)) == 1, "matrices and the rest alike"
            moved[name].append(changes[0])
    assert moved == {"new": [True] * 4, "old": [False, False, True, True]}
