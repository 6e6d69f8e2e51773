"""The training loop. Every random number of step n comes from the seed and n, so that to resume is to run on."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import nn

from darkroom.config import to_dict
from darkroom.errors import InputError
from darkroom.training.ema import EMA
from darkroom.training.objective import Objective

__all__ = ["LoopConfig", "train"]

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class LoopConfig:
    """How long, how fast, how exactly."""

    steps: int
    batch_size: int
    learning_rate: float
    warmup: int = 0  # steps of linear rise
    decay: Literal["constant", "cosine"] = "constant"  # afterwards
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    accumulation: int = 1  # batches a step
    clip: float | None = 1.0  # norm of all gradients of an optimiser
    ema_decay: float = 0.9999
    precision: Literal["fp32", "bf16"] = "bf16"
    device: str = "cpu"
    seed: int = 0
    log_every: int = 20
    sample_every: int = 500
    save_every: int = 500

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation", "log_every", "sample_every", "save_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}, wanted is at least 1")
        if not self.learning_rate > 0:
            raise InputError(f"learning_rate is {self.learning_rate}, wanted is a number above 0")

    def rate(self, step: int) -> float:
        """Learning rate of `step` (0-based)."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.decay == "constant":
            return self.learning_rate * rise
        done = max(0.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return self.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


class _State:
    """What must be restored, listed once."""

    def __init__(self, objective: Objective, config: LoopConfig) -> None:
        self.step = 0
        self.seconds = 0.0
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
            "networks": self.networks.state_dict(),
            "ema": self.ema.state_dict(),
            "optimisers": {k: o.state_dict() for k, o in self.optimisers.items()},
        }
        fresh = path.with_suffix(".new")
        torch.save(state, fresh)
        os.replace(fresh, path)  # whole or not at all

    def load(self, path: Path) -> None:
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.networks.load_state_dict(state["networks"])
        self.ema.load_state_dict(state["ema"])
        for k, o in self.optimisers.items():
            o.load_state_dict(state["optimisers"][k])
        self.step, self.seconds = state["step"], state["seconds"]


def train(
    objective: Objective, config: LoopConfig, folder: Path, *, recipe: Any = None, minutes: float | None = None
) -> int:
    """Run `objective` to `config.steps` in `folder`, going on from the checkpoint there if there is one.

    Stops early, with a checkpoint, after `minutes`. When all steps are done, exports to `folder`/export. Returns the
    step reached. Writes log.jsonl, samples/ and TensorBoard events (if installed) to `folder`.
    """
    _prepare(folder, recipe)
    objective.networks.to(config.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = _State(objective, config)
    if (folder / CHECKPOINT).exists():
        state.load(folder / CHECKPOINT)
    log = _Log(folder, state.step, config)
    begin, began_at = time.monotonic(), state.seconds
    with log:
        while state.step < config.steps:
            losses = _step(objective, state, config)
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
        with state.ema.in_place():
            objective.networks.eval()
            objective.export(folder / "export", {"steps": state.step, "seconds": round(state.seconds)})
    return state.step


def _step(objective: Objective, state: _State, config: LoopConfig) -> dict[str, float]:
    """One change of every optimiser's parameters."""
    numbers: dict[str, float] = {}
    objective.networks.train()
    for micro in range(config.accumulation):
        index = state.step * config.accumulation + micro
        batch = objective.batch(index, config.batch_size)
        torch.manual_seed(config.seed * 1_000_003 + index)  # dropout
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + index)
        with torch.autocast(torch.device(config.device).type, torch.bfloat16, enabled=config.precision == "bf16"):
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


@torch.no_grad()
def _sample(objective: Objective, state: _State, config: LoopConfig, folder: Path) -> None:
    with state.ema.in_place():
        objective.networks.eval()
        with torch.autocast(torch.device(config.device).type, torch.bfloat16, enabled=config.precision == "bf16"):
            grid = objective.pictures(torch.Generator().manual_seed(config.seed))
    if grid is not None:
        (folder / "samples").mkdir(exist_ok=True)
        Image.fromarray(grid).save(folder / "samples" / f"{state.step:07d}.png")


def _prepare(folder: Path, recipe: Any) -> None:
    """Make the folder; refuse one that holds the run of another recipe."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = folder / "recipe.json"
        text = json.dumps(to_dict(recipe), indent=1, sort_keys=True)
        if written.exists() and written.read_text() != text and (folder / CHECKPOINT).exists():
            raise InputError(
                f"{folder} holds the run of another recipe (see {written}); resume it with the same settings or choose "
                "another folder"
            )
        written.write_text(text)
    except OSError as error:
        raise InputError(f"the run cannot be written to {folder}: {error.strerror}") from None


class _Log:
    """A progress bar, a line of JSON every so often, and TensorBoard where it is installed."""

    def __init__(self, folder: Path, step: int, config: LoopConfig) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.config = config
        self.path = folder / "log.jsonl"
        if self.path.exists():  # lines behind the checkpoint will be written again
            lines = [line for line in self.path.read_text().splitlines() if json.loads(line)["step"] <= step]
            self.path.write_text("".join(line + "\n" for line in lines))
        self.sums: dict[str, float] = {}
        self.count = 0
        self.since: float | None = None
        self.bar = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
        )
        self.task = self.bar.add_task("", total=config.steps, completed=step, text="")
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.board: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=step)
        except ImportError:
            self.board = None

    def __enter__(self) -> _Log:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
        if self.board is not None:
            self.board.close()

    def step(self, step: int, numbers: dict[str, float], rate: float, seconds: float) -> None:
        for name, value in numbers.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1
        self.bar.update(self.task, completed=step)
        if step % self.config.log_every and step != self.config.steps:
            return
        means = {name: total / self.count for name, total in self.sums.items()}
        line = {
            "step": step,
            "seconds": round(seconds, 1),
            "rate": rate,
            **{k: float(f"{v:.5g}") for k, v in means.items()},
        }
        if self.since is not None:
            pictures = self.count * self.config.batch_size * self.config.accumulation
            line["images_per_second"] = round(pictures / max(seconds - self.since, 1e-9), 1)
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if self.board is not None:
            for name, value in line.items():
                self.board.add_scalar(name, value, step)
        first = next((v for k, v in means.items() if k.startswith("loss/")), 0.0)
        self.bar.update(self.task, text=f"loss {first:.4f}, {line.get('images_per_second', 0):.0f} images/s")
        self.sums, self.count, self.since = {}, 0, seconds
