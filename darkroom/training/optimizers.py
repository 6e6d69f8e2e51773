"""The optimizers of a run: what each changes, how it is set, how its gradients are limited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from darkroom.errors import InputError
from darkroom.training.config import LoopConfig, OptimizerConfig
from darkroom.training.muon import Muon, matrices
from darkroom.training.sharding import Rows, grouped, like, local
from darkroom.training.world import World

__all__ = ["Optimizers", "clip_gradients"]


class Optimizers:
    """Those of an objective by name, each with the settings of its own or the loop's.

    Where one is "muon", its matrices have an optimizer beside it, `NAME/matrices`.
    """

    def __init__(self, named: Mapping[str, list[nn.Parameter]], networks: nn.Module, config: LoopConfig) -> None:
        self.config = config
        self.by_name: dict[str, torch.optim.Optimizer] = {}
        self.lrs: dict[str, float] = {}
        self.starts: dict[str, int] = {}
        self.max_grad_norms: dict[str, float | None] = {}
        self.names = {p: name for name, p in networks.named_parameters()}
        for name, parameters in named.items():
            self._add(name, parameters, networks, config.optimizers.get(name, OptimizerConfig()))

    def _add(self, name: str, parameters: list[nn.Parameter], networks: nn.Module, own: OptimizerConfig) -> None:
        config = self.config
        lr = config.lr if own.lr is None else own.lr
        decay = config.weight_decay if own.weight_decay is None else own.weight_decay
        kind = own.optimizer or config.optimizer
        special = matrices(networks) if kind == "muon" else set()
        plain = [{"params": group} for group in grouped(p for p in parameters if p not in special)]
        made: dict[str, torch.optim.Optimizer] = {}
        if plain or not special:
            make = _adamw8bit if kind == "adamw8bit" else _adamw
            made[name] = make(plain, lr=lr, betas=own.betas or config.betas, weight_decay=decay)
        if of_muon := [p for p in parameters if p in special]:
            made[f"{name}/matrices"] = Muon(of_muon, lr, weight_decay=decay)
        for each in made:
            self.lrs[each] = lr
            self.starts[each] = own.start_step
            self.max_grad_norms[each] = own.max_grad_norm or config.max_grad_norm
        self.by_name |= made

    def limit_gradients(self, world: World) -> dict[str, Tensor]:
        """Scale the gradients of each optimizer down to its largest norm; the norms before, by name."""
        norms = {}
        for name, optimizer in self.by_name.items():
            if (most := self.max_grad_norms[name]) is not None:
                norms[name] = clip_gradients(_parameters(optimizer), most, world)
        return norms

    def step(self, step: int) -> None:
        """Change the parameters by their gradients at the rates of `step` (0-based); then there are no gradients."""
        share = self.config.lr_share(step)
        for name, optimizer in self.by_name.items():
            if step < self.starts[name]:
                continue
            for group in optimizer.param_groups:
                if isinstance(group["lr"], Tensor):  # of compiled optimizers
                    group["lr"].fill_(self.lrs[name] * share)
                else:
                    group["lr"] = self.lrs[name] * share
            optimizer.step()
        for optimizer in self.by_name.values():
            optimizer.zero_grad()

    def state_dict(self) -> dict[str, dict[str, dict[str, Any]]]:
        """By optimizer and by the name of the parameter, so that how parameters are grouped or sharded is no matter."""
        return {
            name: {self.names[p]: dict(optimizer.state[p]) for p in _parameters(optimizer) if p in optimizer.state}
            for name, optimizer in self.by_name.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, optimizer in self.by_name.items():
            found = state[name]
            if "param_groups" in found:  # of earlier versions: by the parameter's number
                numbered = dict(enumerate(_parameters(optimizer)))
                found = {self.names[numbered[i]]: values for i, values in found["state"].items()}
            for p in _parameters(optimizer):
                if (values := found.get(self.names[p])) is not None:
                    optimizer.state[p] = {k: _placed(p, v) for k, v in values.items()}


def clip_gradients(parameters: Sequence[nn.Parameter], most: float, world: World) -> Tensor:
    """Scale the gradients of `parameters` so that their norm together is at most `most`; the norm before, 0-dim."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    whole = torch.nn.utils.get_total_norm([g for g in gradients if not isinstance(g, DTensor)])
    sharded = [g.to_local() for g in gradients if isinstance(g, DTensor)]
    if sharded:
        squares = torch.nn.utils.get_total_norm(sharded).square()
        whole = (whole.to(squares).square() + world.sum(squares)).sqrt()
    scale = (most / (whole + 1e-6)).clamp(max=1.0)
    if gradients:
        torch._foreach_mul_([local(g) for g in gradients], scale.to(gradients[0].device))
    return whole


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _placed(parameter: nn.Parameter, value: Any) -> Any:
    """A value of an optimizer's state where `parameter` is, and sharded as it is if there is one for each weight."""
    if isinstance(value, Tensor) and type(value) not in (Tensor, DTensor):  # of eight bits: a copy would have more
        return value.to(parameter.device)
    if isinstance(value, Tensor) and value.numel() == parameter.numel() and value.dim():
        value = like(parameter, value.view(parameter.shape))
    elif isinstance(value, Rows):
        value = like(parameter, value)
    elif isinstance(value, Tensor):
        return value.to(parameter.device)
    else:
        return value
    # In the order of the parameter's memory, which fused kernels take for granted.
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


def _adamw(groups: list[dict[str, Any]], **settings: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, fused=True, **settings)


def _adamw8bit(groups: list[dict[str, Any]], **settings: Any) -> torch.optim.Optimizer:
    try:
        from torchao.optim import AdamW8bit  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            "optimizer is 'adamw8bit', which needs torchao: pip install 'darkroom-diffusion[torchao]'"
        ) from None
    return AdamW8bit(groups, **settings)
