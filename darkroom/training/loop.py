"""The training loop. Every random number comes from the seed and its place in the run: to resume is to run on."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from darkroom.diffusion.draws import RowDraws
from darkroom.errors import InputError
from darkroom.nn.device import find_device
from darkroom.training.checkpoints import Checkpoints
from darkroom.training.config import LoopConfig
from darkroom.training.feed import Piece, feed, naming_dead_workers
from darkroom.training.interrupt import Interrupt
from darkroom.training.ledger import Ledger
from darkroom.training.log import Log
from darkroom.training.objective import Objective, StepContext, Watched
from darkroom.training.run_folder import open_run, resolved
from darkroom.training.state import TrainingState
from darkroom.training.world import World
from darkroom.whole_file import whole_file

__all__ = ["TrainingEnd", "row_draws", "train", "training_step"]


@dataclass(frozen=True)
class TrainingEnd:
    """Where a call of `train` ended."""

    step: int
    signal: int | None = None  # that asked it to leave


def train(
    objective: Objective,
    config: LoopConfig,
    folder: Path,
    *,
    recipe: Any = None,
    minutes: float | None = None,
    world: World | None = None,
) -> TrainingEnd:
    """Run `objective` to `config.steps` in `folder`, going on from the newest sound checkpoint there.

    Stops early, with a checkpoint, after `minutes` and on SIGINT or SIGTERM. When all steps are done, exports to
    `folder`/export. Writes log.jsonl, ledger.jsonl, samples/ and TensorBoard events (if installed) to `folder`.
    """
    world = world or World()
    device = find_device(world.device(config.device))
    config = replace(resolved(config, folder), device=str(device)) if world.size > 1 else resolved(config, folder)
    owned = open_run(folder, recipe, config) if world.first else nullcontext()
    with Interrupt() as interrupt, owned:
        world.wait()  # nobody reads checkpoints before leftovers are swept
        for networks in (objective.trained, objective.frozen):
            networks.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        objective.frozen.eval().requires_grad_(False)
        state = TrainingState(objective, config)
        run = _Run(objective, state, config, folder, world, interrupt)
        with naming_dead_workers():
            run.to_the_end(minutes)
        if state.step >= config.steps and world.first:
            state.require_finite()
            with _finished(objective, state):
                metadata = {"steps": state.step, "seconds": round(state.seconds), "precision": config.precision}
                objective.export(folder / "export", metadata)
        world.wait()
    return TrainingEnd(state.step, interrupt.signal)


@dataclass
class _Run:
    """What a run works with. Of several processes the first alone writes."""

    objective: Objective
    state: TrainingState
    config: LoopConfig
    folder: Path
    world: World
    interrupt: Interrupt

    def to_the_end(self, minutes: float | None) -> None:
        """Step by step from the newest checkpoint to the last step, or until the time is up or a signal comes."""
        state, config, checkpoints = self.state, self.config, Checkpoints(self.folder, _warn)
        if (found := checkpoints.newest()) is not None:
            state.load(*found)
        begin, began_at = time.monotonic(), state.seconds
        steps = feed(self.objective, config, self.world, state.step)
        with (
            Log(self.folder, state.step, config, state.tally, writes=self.world.first) as log,
            Ledger(
                self.folder, state.step * config.step_size, self.objective.reader, writes=self.world.first
            ) as ledger,
        ):
            while state.step < config.steps:
                pieces = next(steps)
                numbers = training_step(self.objective, state, config, pieces, self.world)
                state.step += 1
                state.seconds = began_at + time.monotonic() - begin
                log.step(state.step, numbers, config.lr * config.lr_share(state.step - 1), state.seconds)
                used = self.world.gather([used for piece in pieces for used in piece.used])
                ledger.add(sorted(used, key=lambda one: one.number))
                self._require_sound(numbers, checkpoints)
                last = state.step == config.steps
                out_of_time = minutes is not None and time.monotonic() - begin > 60 * minutes
                leaves = self.world.any(out_of_time or self.interrupt.signal is not None)
                if (state.step % config.sample_every == 0 and not leaves) or last:
                    self._sample(log)
                if state.step % config.save_every == 0 or last or leaves:
                    state.require_finite()
                    ledger.flush()
                    if self.world.first:
                        checkpoints.save(state.step, state.state_dict())
                    self.world.wait()
                if leaves:
                    break

    def _require_sound(self, numbers: Mapping[str, float], checkpoints: Checkpoints) -> None:
        """`InputError` where a watched objective has collapsed; checkpoints of a time when it was not well are gone."""
        objective, step = self.objective, self.state.step
        if not isinstance(objective, Watched) or (trouble := objective.trouble(step, numbers)) is None:
            return
        kept = checkpoints.forget_after(objective.good_step) if self.world.first else None
        stands = "no state of a time before that is left: save more often"
        if kept is not None:
            stands = f"the state of step {kept} stands, the last one that was sound"
        raise InputError(f"step {step}: the run has collapsed and stops, {trouble}; {stands}")

    @torch.no_grad()
    def _sample(self, log: Log) -> None:
        if not self.world.first:
            return
        with _finished(self.objective, self.state), _autocast(self.config):
            grid = self.objective.samples()
        if grid is None:
            return
        (self.folder / "samples").mkdir(exist_ok=True)
        with whole_file(self.folder / "samples" / f"{self.state.step:07d}.png") as file:
            Image.fromarray(grid).save(file, format="PNG")
        log.image(self.state.step, grid)


def training_step(
    objective: Objective, state: TrainingState, config: LoopConfig, pieces: list[Piece], world: World
) -> dict[str, float]:
    """One change of every optimizer's parameters. Returns numbers for the log, means over the samples of the step."""
    numbers: dict[str, float] = {}
    objective.trained.train()
    for piece in pieces:
        share = len(piece.places) / config.step_size
        draws = row_draws([p.number for p in piece.places], config, state.step)
        torch.manual_seed(_seed(config.seed, piece.places[0].number))  # dropout within the networks
        with _autocast(config):
            for loss in objective.losses(piece.batch, StepContext(state.step, piece.places, draws)):
                (loss.value * share).backward()
                for name, value in (("loss/" + loss.optimizer, loss.value.detach()), *loss.log.items()):
                    numbers[name] = numbers.get(name, 0.0) + float(value) * share
                    numbers["of/" + name] = numbers.get("of/" + name, 0.0) + share
    world.sum_gradients(objective.trained.parameters())
    numbers = world.sum_numbers(numbers)
    shares = {name.removeprefix("of/"): numbers.pop(name) for name in list(numbers) if name.startswith("of/")}
    numbers = {name: value / shares[name] for name, value in numbers.items()}
    for name, optimizer in state.optimizers.items():
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if (most := state.max_grad_norms[name]) is not None:
            numbers[f"gradient/{name}"] = float(nn.utils.clip_grad_norm_(parameters, most))
        for group in optimizer.param_groups:
            group["lr"] = state.lrs[name] * config.lr_share(state.step)
    broken = [name for name, value in numbers.items() if not math.isfinite(value)]
    if broken:
        names = dict.fromkeys(used.name for piece in pieces for used in piece.used)
        among = f" (in the batch: {', '.join(list(names)[:8])})" if names else ""
        raise InputError(
            f"step {state.step + 1}: {', '.join(broken)} is not finite{among}; the last checkpoint stands, lower the "
            "learning rate"
        )
    for optimizer in state.optimizers.values():
        optimizer.step()
    for optimizer in state.optimizers.values():
        optimizer.zero_grad()
    state.ema.update()
    return numbers


def row_draws(numbers: Sequence[int], config: LoopConfig, step: int) -> RowDraws:
    """For the samples `numbers` of the run, all of `step`; each has one of the step's strata, in a random order."""
    size = config.step_size
    rng = np.random.default_rng((config.seed, step, size))
    strata = (rng.permutation(size) + rng.random(size)) / size
    own = torch.tensor([strata[n % size] for n in numbers], dtype=torch.float32)
    return RowDraws([_seed(config.seed, n) for n in numbers], own)


def _seed(seed: int, number: int) -> int:
    """A seed below 2⁶³ for sample `number` of the run."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0] >> 1)


def _autocast(config: LoopConfig) -> torch.autocast:
    return torch.autocast(torch.device(config.device).type, torch.bfloat16, enabled=config.precision == "bf16")


@contextmanager
def _finished(objective: Objective, state: TrainingState) -> Iterator[None]:
    """Inside the block the networks are as they would be used: running means in place, no dropout."""
    with state.ema.swapped_in():
        objective.trained.eval()
        yield


def _warn(sentence: str) -> None:
    print(sentence, file=sys.stderr)
