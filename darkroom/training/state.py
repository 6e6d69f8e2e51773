"""What must be restored for a run to go on exactly, listed once."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from darkroom.errors import InputError, cause
from darkroom.registry import nearest
from darkroom.training.config import LoopConfig
from darkroom.training.ema import EMA, warmed
from darkroom.training.log import Tally
from darkroom.training.loss_guard import LossGuard
from darkroom.training.objective import Objective
from darkroom.training.optimizers import Optimizers
from darkroom.training.power_ema import exponent, power_decay
from darkroom.training.sharding import like, local
from darkroom.training.validation import Best

__all__ = ["TrainingState"]


class TrainingState:
    """Networks, optimizers, running means and counts."""

    def __init__(self, objective: Objective, config: LoopConfig) -> None:
        self.step = 0
        self.seconds = 0.0
        self.tally = Tally()
        self.guard = LossGuard()
        self.best: Best | None = None
        self.networks = objective.trained
        averaged = {k: objective.trained[k] for k in objective.ema}
        self.ema = EMA(averaged, warmed(config.ema_decay))
        self.by_length = {
            length: EMA(averaged, functools.partial(power_decay, exponent(length))) for length in config.ema_lengths
        }
        named = objective.optimizers()
        for name in config.optimizers:
            if name not in named:
                known = ", ".join(nearest(name, list(named)))
                raise InputError(f"loop.optimizers.{name} is no optimizer of this recipe; known are: {known}")
        self.optimizers = Optimizers(named, objective.trained, config)

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "tally": asdict(self.tally),
            "guard": self.guard.state_dict(),
            "best": None if self.best is None else asdict(self.best),
            "networks": self.networks.state_dict(),
            "ema": self.ema.state_dict(),
            "by_length": {str(length): ema.state_dict() for length, ema in self.by_length.items()},
            "optimizers": self.optimizers.state_dict(),
        }

    def load(self, path: Path, state: Mapping[str, Any]) -> None:
        """Take over `state`, which `path` held; `InputError` if it is of other networks."""
        try:
            own = self.networks.state_dict()
            found = {k: like(own[k], t) if k in own else t for k, t in state["networks"].items()}
            self.networks.load_state_dict(found)
            self.ema.load_state_dict(state["ema"])
            for length, ema in self.by_length.items():
                ema.load_state_dict(state["by_length"][str(length)])
            self.optimizers.load_state_dict(state["optimizers"])
            self.step, self.seconds = int(state["step"]), float(state["seconds"])
            if not 0 <= self.step < 2**31 or not math.isfinite(self.seconds):
                raise ValueError(f"step {self.step:g} after {self.seconds:g} seconds")
            self.tally = Tally(**state["tally"])
            if "guard" in state:  # checkpoints of earlier versions have none
                self.guard.load_state_dict(state["guard"])
            self.best = Best(**best) if (best := state.get("best")) else None  # earlier versions had none
        except (LookupError, RuntimeError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InputError(f"{path} is not of these networks: {cause(error)}") from None

    def average(self) -> None:
        """Take the weights of a step into all running means."""
        for ema in (self.ema, *self.by_length.values()):
            ema.update()

    @torch.no_grad()
    def put_in_place(self, state: Mapping[str, Any]) -> None:
        """The networks of the saved `state` of this run with their running means, to be exported; they may be gathered
        already and learn no more."""
        for name, t in self.networks.state_dict().items():
            t.copy_(like(t, state["networks"][name]))
        self.ema.put_in_place(state["ema"]["means"])

    def require_finite(self) -> None:
        """`InputError` that names the first parameter or running mean with a value that is no number."""
        averaged = {f"the running mean of {k}": t for k, t in self.ema.shadow.items()}
        for name, tensor in {**dict(self.networks.state_dict()), **averaged}.items():
            if tensor.is_floating_point() and not bool(local(tensor).isfinite().all()):
                raise InputError(f"step {self.step}: {name} is not finite; lower the learning rate or the weight decay")
