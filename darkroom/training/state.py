"""What must be restored for a run to go on exactly, listed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from darkroom.errors import InputError
from darkroom.registry import nearest
from darkroom.training.config import LoopConfig, OptimizerConfig
from darkroom.training.ema import EMA
from darkroom.training.log import Tally
from darkroom.training.muon import Muon, matrices
from darkroom.training.objective import Objective

__all__ = ["TrainingState"]


class TrainingState:
    """Networks, optimizers, running means and counts."""

    def __init__(self, objective: Objective, config: LoopConfig) -> None:
        self.step = 0
        self.seconds = 0.0
        self.tally = Tally()
        self.networks = objective.trained
        self.ema = EMA({k: objective.trained[k] for k in objective.ema}, config.ema_decay)
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.max_grad_norms: dict[str, float | None] = {}
        self.lrs: dict[str, float] = {}
        named = objective.optimizers()
        for name in config.optimizers:
            if name not in named:
                known = ", ".join(nearest(name, list(named)))
                raise InputError(f"loop.optimizers.{name} is no optimizer of this recipe; known are: {known}")
        for name, parameters in named.items():
            self._add(name, parameters, config, config.optimizers.get(name, OptimizerConfig()))

    def _add(self, name: str, parameters: list[torch.nn.Parameter], config: LoopConfig, own: OptimizerConfig) -> None:
        lr = config.lr if own.lr is None else own.lr
        decay = config.weight_decay if own.weight_decay is None else own.weight_decay
        special = matrices(self.networks) if (own.optimizer or config.optimizer) == "muon" else set()
        plain = [p for p in parameters if p not in special]
        self.optimizers[name] = torch.optim.AdamW(
            plain, lr=lr, betas=own.betas or config.betas, weight_decay=decay, fused=True
        )
        made = [name]
        if len(plain) < len(parameters):
            made.append(f"{name}/matrices")
            self.optimizers[made[-1]] = Muon([p for p in parameters if p in special], lr, weight_decay=decay)
        for optimizer in made:
            self.lrs[optimizer] = lr
            self.max_grad_norms[optimizer] = own.max_grad_norm or config.max_grad_norm

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "tally": asdict(self.tally),
            "networks": self.networks.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizers": {k: o.state_dict() for k, o in self.optimizers.items()},
        }

    def load(self, path: Path, state: Mapping[str, Any]) -> None:
        """Take over `state`, which `path` held; `InputError` if it is of other networks."""
        try:
            self.networks.load_state_dict(state["networks"])
            self.ema.load_state_dict(state["ema"])
            for k, o in self.optimizers.items():
                o.load_state_dict(state["optimizers"][k])
            self.step, self.seconds = int(state["step"]), float(state["seconds"])
            self.tally = Tally(**state["tally"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path} is not of these networks: {type(error).__name__}: {reason}") from None

    def require_finite(self) -> None:
        """`InputError` that names the first parameter or running mean with a value that is no number."""
        averaged = {f"the running mean of {k}": t for k, t in self.ema.shadow.items()}
        for name, tensor in {**dict(self.networks.state_dict()), **averaged}.items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise InputError(f"step {self.step}: {name} is not finite; lower the learning rate or the weight decay")
