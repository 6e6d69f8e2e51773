"""The training loop. Every random number of step n comes from the seed and n, so that to resume is to run on."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from darkroom.errors import InputError
from darkroom.nn.device import find_device
from darkroom.training.config import LoopConfig
from darkroom.training.ema import EMA
from darkroom.training.log import Log, Tally
from darkroom.training.objective import Objective
from darkroom.training.run_folder import CHECKPOINT, claim, settled
from darkroom.whole_file import whole_file

__all__ = ["TrainingState", "train", "training_step"]


class TrainingState:
    """Networks, optimisers, running means and counts: what must be restored to go on exactly, listed once."""

    def __init__(self, objective: Objective, config: LoopConfig) -> None:
        self.step = 0
        self.seconds = 0.0
        self.tally = Tally()
        self.networks = objective.networks
        self.ema = EMA({k: objective.networks[k] for k in objective.ema}, config.ema_decay)
        self.optimisers = {
            name: torch.optim.AdamW(
                parameters, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay, fused=True
            )
            for name, parameters in objective.optimisers().items()
        }

    def save(self, path: Path) -> None:
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "tally": asdict(self.tally),
            "networks": self.networks.state_dict(),
            "ema": self.ema.state_dict(),
            "optimisers": {k: o.state_dict() for k, o in self.optimisers.items()},
        }
        fresh = path.with_suffix(".new")  # always of this name, so that kills leave no more than one behind
        try:
            with fresh.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, path)  # whole or not at all
        except (OSError, RuntimeError) as error:
            fresh.unlink(missing_ok=True)
            raise InputError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}") from None

    def load(self, path: Path) -> None:
        """Raises `InputError` for a file that is damaged or of other networks."""
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            self.networks.load_state_dict(state["networks"])
            self.ema.load_state_dict(state["ema"])
            for k, o in self.optimisers.items():
                o.load_state_dict(state["optimisers"][k])
            self.step, self.seconds = int(state["step"]), float(state["seconds"])
            self.tally.__dict__.update(asdict(Tally(**state.get("tally", {"since": self.seconds}))))
        except Exception as error:  # a damaged file can break the reader anywhere
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"{path} cannot be resumed from ({type(error).__name__}: {reason}); remove it to begin again"
            ) from None


def train(
    objective: Objective, config: LoopConfig, folder: Path, *, recipe: Any = None, minutes: float | None = None
) -> int:
    """Run `objective` to `config.steps` in `folder`, going on from the checkpoint there if there is one.

    Stops early, with a checkpoint, after `minutes`. When all steps are done, exports to `folder`/export. Returns the
    step reached. Writes log.jsonl, samples/ and TensorBoard events (if installed) to `folder`.
    """
    device = find_device(config.device)
    config = settled(config, folder)
    claim(folder, recipe, config)
    objective.networks.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = TrainingState(objective, config)
    if (folder / CHECKPOINT).exists():
        state.load(folder / CHECKPOINT)
    begin, began_at = time.monotonic(), state.seconds
    with Log(folder, state.step, config, state.tally) as log:
        while state.step < config.steps:
            losses = training_step(objective, state, config)
            state.step += 1
            state.seconds = began_at + time.monotonic() - begin
            log.step(state.step, losses, config.rate(state.step - 1), state.seconds)
            out_of_time = minutes is not None and time.monotonic() - begin > 60 * minutes
            if state.step % config.sample_every == 0 or state.step == config.steps:
                _sample(objective, state, config, folder)
            if state.step % config.save_every == 0 or state.step == config.steps or out_of_time:
                state.save(folder / CHECKPOINT)
            if out_of_time:
                break
    if state.step >= config.steps:
        with _finished(objective, state):
            facts = {"steps": state.step, "seconds": round(state.seconds), "precision": config.precision}
            objective.export(folder / "export", facts)
    return state.step


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
