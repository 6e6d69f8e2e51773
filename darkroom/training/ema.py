"""The running mean of the parameters that sampling uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from darkroom.training.sharding import Rows, like, local

__all__ = ["EMA", "warmed"]


def warmed(decay: float) -> Callable[[int], float]:
    """`decay`, less in the first updates: min(decay, (1 + n) / (10 + n)) at update n (papers A.3)."""
    return lambda update: min(decay, (1 + update) / (10 + update))


class EMA:
    """mean ← d · mean + (1 − d) · parameter with d = `decay_at`(n) at update n, 1-based.

    Buffers (batch-norm statistics) are copied as they are.
    """

    def __init__(self, networks: Mapping[str, nn.Module], decay_at: Callable[[int], float]) -> None:
        self.networks = dict(networks)
        self.decay_at = decay_at
        self.updates = 0
        self.shadow: dict[str, Tensor] = {k: t.clone() for k, t in self._live().items()}
        live = self._live()  # the same memory from step to step
        floats = [k for k, t in live.items() if t.is_floating_point()]
        self._floats = [local(self.shadow[k]) for k in floats]
        self._live_floats = [local(live[k]) for k in floats]
        self._rest = [(self.shadow[k], live[k]) for k in live.keys() - set(floats)]

    def _live(self) -> dict[str, Tensor]:
        return {f"{k}.{n}": t.detach() for k, m in self.networks.items() for n, t in m.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        self.updates += 1
        share = 1 - self.decay_at(self.updates)
        torch._foreach_lerp_(self._floats, self._live_floats, share)
        for mean, t in self._rest:
            mean.copy_(t)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Inside the block the networks hold the means."""
        live = {k: t.clone() for k, t in self._live().items()}
        self.put_in_place()
        try:
            yield
        finally:
            self._load(live)

    def put_in_place(self, means: Mapping[str, Tensor | Rows] | None = None) -> None:
        """The means, or those of a saved state, in the networks, for good: what was there is lost."""
        self._load(self.shadow if means is None else means)

    @torch.no_grad()
    def _load(self, values: Mapping[str, Tensor | Rows]) -> None:
        for k, t in self._live().items():
            t.copy_(like(t, values[k]))

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "means": self.shadow}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.updates = state["updates"]
        for k, mean in self.shadow.items():
            mean.copy_(like(mean, state["means"][k]))  # wherever the networks are
