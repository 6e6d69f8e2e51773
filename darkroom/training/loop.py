"""The training loop. Every random number of step n comes from the seed and n, so that to resume is to run on."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from darkroom.errors import InputError
from darkroom.nn.device import find_device
from darkroom.training.checkpoints import Checkpoints
from darkroom.training.config import LoopConfig
from darkroom.training.ema import EMA
from darkroom.training.interrupt import Interrupt
from darkroom.training.log import Log, Tally
from darkroom.training.muon import Muon, matrices
from darkroom.training.objective import Objective
from darkroom.training.run_folder import open_run, resolved
from darkroom.whole_file import whole_file

__all__ = ["TrainingEnd", "TrainingState", "train", "training_step"]


@dataclass(frozen=True)
class TrainingEnd:
    """Where a call of `train` ended."""

    step: int
    signal: int | None = None  # that asked it to leave


class TrainingState:
    """Networks, optimisers, running means and counts: what must be restored to go on exactly, listed once."""

    def __init__(self, objective: Objective, config: LoopConfig) -> None:
        self.step = 0
        self.seconds = 0.0
        self.tally = Tally()
        self.networks = objective.networks
        self.ema = EMA({k: objective.networks[k] for k in objective.ema}, config.ema_decay)
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        special = matrices(objective.networks) if config.optimizer == "muon" else set()
        for name, parameters in objective.optimisers().items():
            plain = [p for p in parameters if p not in special]
            self.optimisers[name] = torch.optim.AdamW(
                plain, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay, fused=True
            )
            if len(plain) < len(parameters):
                self.optimisers[name + "/matrices"] = Muon(
                    [p for p in parameters if p in special], config.learning_rate, weight_decay=config.weight_decay
                )

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "tally": asdict(self.tally),
            "networks": self.networks.state_dict(),
            "ema": self.ema.state_dict(),
            "optimisers": {k: o.state_dict() for k, o in self.optimisers.items()},
        }

    def load(self, path: Path, state: Mapping[str, Any]) -> None:
        """Take over `state`, which `path` held; `InputError` if it is of other networks."""
        try:
            self.networks.load_state_dict(state["networks"])
            self.ema.load_state_dict(state["ema"])
            for k, o in self.optimisers.items():
                o.load_state_dict(state["optimisers"][k])
            self.step, self.seconds = int(state["step"]), float(state["seconds"])
            self.tally = Tally(**state["tally"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path} is not of these networks: {type(error).__name__}: {reason}") from None

    def require_finite(self) -> None:
        """`InputError` that names the first parameter or running mean with a value that is no number."""
        averaged = {f"the running mean of {k}": t for k, t in self.ema.means.items()}
        for name, tensor in {**dict(self.networks.state_dict()), **averaged}.items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise InputError(f"step {self.step}: {name} is not finite; lower the learning rate or the weight decay")


def train(
    objective: Objective, config: LoopConfig, folder: Path, *, recipe: Any = None, minutes: float | None = None
) -> TrainingEnd:
    """Run `objective` to `config.steps` in `folder`, going on from the newest sound checkpoint there.

    Stops early, with a checkpoint, after `minutes` and on SIGINT or SIGTERM. When all steps are done, exports to
    `folder`/export. Writes log.jsonl, samples/ and TensorBoard events (if installed) to `folder`.
    """
    device = find_device(config.device)
    config = resolved(config, folder)
    with Interrupt() as interrupt, open_run(folder, recipe, config):
        objective.networks.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        state = TrainingState(objective, config)
        checkpoints = Checkpoints(folder, _warn)
        if (found := checkpoints.newest()) is not None:
            state.load(*found)
        _run(objective, state, config, folder, checkpoints, interrupt, minutes)
        if state.step >= config.steps:
            state.require_finite()
            with _finished(objective, state):
                facts = {"steps": state.step, "seconds": round(state.seconds), "precision": config.precision}
                objective.export(folder / "export", facts)
    return TrainingEnd(state.step, interrupt.signal)


def _run(
    objective: Objective,
    state: TrainingState,
    config: LoopConfig,
    folder: Path,
    checkpoints: Checkpoints,
    interrupt: Interrupt,
    minutes: float | None,
) -> None:
    begin, began_at = time.monotonic(), state.seconds
    with Log(folder, state.step, config, state.tally) as log:
        while state.step < config.steps:
            losses = training_step(objective, state, config)
            state.step += 1
            state.seconds = began_at + time.monotonic() - begin
            log.step(state.step, losses, config.rate(state.step - 1), state.seconds)
            last = state.step == config.steps
            out_of_time = minutes is not None and time.monotonic() - begin > 60 * minutes
            leaves = out_of_time or interrupt.signal is not None
            if (state.step % config.sample_every == 0 and not leaves) or last:
                _sample(objective, state, config, folder)
            if state.step % config.save_every == 0 or last or leaves:
                state.require_finite()
                checkpoints.save(state.step, state.state_dict())
            if leaves:
                break


def _warn(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def training_step(objective: Objective, state: TrainingState, config: LoopConfig) -> dict[str, float]:
    """One change of every optimiser's parameters."""
    numbers: dict[str, float] = {}
    objective.networks.train()
    for micro in range(config.accumulation):
        index = state.step * config.accumulation + micro
        batch = objective.batch(index, config.batch_size)
        torch.manual_seed(config.seed * 1_000_003 + index)  # dropout
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + index)
        with _autocast(config):
            for loss in objective.losses(batch, state.step, generator):
                (loss.value / config.accumulation).backward()
                for name, value in (("loss/" + loss.optimiser, loss.value.detach()), *loss.log.items()):
                    numbers[name] = numbers.get(name, 0.0) + float(value) / config.accumulation
    for name, optimiser in state.optimisers.items():
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        if config.clip is not None:
            norm = nn.utils.clip_grad_norm_(parameters, config.clip)
            numbers[f"gradient/{name}"] = float(norm)
        for group in optimiser.param_groups:
            group["lr"] = config.rate(state.step)
        optimiser.step()
    for optimiser in state.optimisers.values():
        optimiser.zero_grad()
    broken = [name for name, value in numbers.items() if not math.isfinite(value)]
    if broken:
        raise InputError(f"step {state.step + 1}: {', '.join(broken)} is not finite; lower the learning rate")
    state.ema.update()
    return numbers


def _autocast(config: LoopConfig) -> torch.autocast:
    return torch.autocast(torch.device(config.device).type, torch.bfloat16, enabled=config.precision == "bf16")


@contextmanager
def _finished(objective: Objective, state: TrainingState) -> Iterator[None]:
    """Inside the block the networks are as they would be used: running means in place, no dropout."""
    with state.ema.in_place():
        objective.networks.eval()
        yield


@torch.no_grad()
def _sample(objective: Objective, state: TrainingState, config: LoopConfig, folder: Path) -> None:
    with _finished(objective, state), _autocast(config):
        grid = objective.pictures(torch.Generator().manual_seed(config.seed))
    if grid is None:
        return
    (folder / "samples").mkdir(exist_ok=True)
    with whole_file(folder / "samples" / f"{state.step:07d}.png") as file:
        Image.fromarray(grid).save(file, format="PNG")
