"""The training loop. Every random number comes from the seed and its place in the run: to resume is to run on."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from darkroom.diffusion.draws import RowDraws, sample_seed
from darkroom.errors import InputError, require
from darkroom.nn.checkpointing import checkpoint_blocks
from darkroom.nn.device import find_device
from darkroom.training.checkpoints import Checkpoints
from darkroom.training.config import LoopConfig
from darkroom.training.data_record import check_data
from darkroom.training.feed import Piece, feed, naming_dead_workers
from darkroom.training.interrupt import Interrupt
from darkroom.training.ledger import Ledger
from darkroom.training.log import Log
from darkroom.training.loss_guard import WINDOW
from darkroom.training.objective import Drawing, Objective, StepContext, Validated, Watched
from darkroom.training.power_ema import Snapshots
from darkroom.training.run_folder import open_run, resolved
from darkroom.training.sample_metrics import Measure, SampleSet
from darkroom.training.sharding import gather_in_place, shard
from darkroom.training.state import TrainingState
from darkroom.training.validation import MEASURE, Best, validate
from darkroom.training.world import World
from darkroom.whole_file import made_folder, whole_file

__all__ = ["TrainingEnd", "prepare", "row_draws", "train", "training_step"]


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
    measure: Measure | None = None,
) -> TrainingEnd:
    """Run `objective` to `config.steps` in `folder`, going on from the newest sound checkpoint there.

    Stops early, with a checkpoint, after `minutes` and on SIGINT or SIGTERM. When all steps are done, exports to
    `folder`/export, and what was best on validation to `folder`/best. `measure` gives the numbers of pictures that an
    objective with metrics draws. Writes log.jsonl, ledger.jsonl, samples/ and
    TensorBoard events (if installed) to `folder`.
    """
    world = world or World()
    metrics = objective.metrics if isinstance(objective, Drawing) else None
    require(metrics is None or measure is not None, "metrics", "given", "nothing where train() gets no measure")
    device = find_device(world.device(config.device))
    config = replace(resolved(config, folder), device=str(device)) if world.size > 1 else resolved(config, folder)
    owned = open_run(folder, recipe, config) if world.first else nullcontext()
    with Interrupt() as interrupt, owned:
        world.wait()  # nobody reads checkpoints before leftovers are swept
        prepare(objective, config, device, world)
        state = TrainingState(objective, config)
        run = _Run(objective, state, config, folder, world, interrupt, metrics, measure)
        with naming_dead_workers():
            run.to_the_end(minutes)
        if state.step >= config.steps:
            world.together(state.require_finite)
            run.export()
        world.wait()
    return TrainingEnd(state.step, interrupt.signal)


def prepare(objective: Objective, config: LoopConfig, device: torch.device, world: World) -> None:
    """Bring the networks of `objective` to `device` and attach to them what `config` asks for."""
    for networks in (objective.trained, objective.frozen):
        networks.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.compile:
            from darkroom.nn.compiled import compile_blocks  # takes seconds to import

            compile_blocks(networks, device)
        if config.gradient_checkpointing:
            checkpoint_blocks(networks)
        if config.data_parallel == "fsdp" and world.size > 1:
            each = f"a multiple of {world.size}, the number of processes, under fsdp"
            require(config.batch_size % world.size == 0, "loop.batch_size", config.batch_size, each)
            shard(networks, world)
    objective.frozen.eval().requires_grad_(False)


@dataclass
class _Run:
    """What a run works with. Of several processes the first alone writes."""

    objective: Objective
    state: TrainingState
    config: LoopConfig
    folder: Path
    world: World
    interrupt: Interrupt
    metrics: SampleSet | None
    measure: Measure | None

    def to_the_end(self, minutes: float | None) -> None:
        """Step by step from the newest checkpoint to the last step, or until the time is up or a signal comes."""
        state, config, checkpoints = self.state, self.config, Checkpoints(self.folder, _warn, self.world)
        found = checkpoints.newest()
        data = self.objective.reader.dataset
        self.world.decided(lambda: check_data(self.folder, data, resumes=found is not None))
        if found is not None:
            state.load(*found)
        snapshots = Snapshots(self.folder)
        if self.world.first:
            snapshots.forget_after(state.step)
        begin, began_at = time.monotonic(), state.seconds
        with (
            closing(feed(self.objective, config, self.world, state.step)) as steps,
            Log(self.folder, state.step, config, state.tally, writes=self.world.first) as log,
            Ledger(
                self.folder, state.step * config.step_size, self.objective.reader, writes=self.world.first
            ) as ledger,
        ):
            while state.step < config.steps:
                asked_at = time.monotonic()
                pieces = next(steps)
                waited = time.monotonic() - asked_at
                numbers = training_step(self.objective, state, config, pieces, self.world)
                state.step += 1
                state.seconds = began_at + time.monotonic() - begin
                log.step(state.step, numbers, config.lr * config.lr_share(state.step - 1), state.seconds, waited)
                last = state.step == config.steps
                out_of_time = minutes is not None and time.monotonic() - begin > 60 * minutes
                leaves = out_of_time or self.interrupt.signal is not None
                told = self.world.gather([(leaves, [used for piece in pieces for used in piece.used])])
                leaves = any(one for one, _ in told)
                ledger.add(sorted((one for _, used in told for one in used), key=lambda one: one.number))
                self._require_sound(numbers, checkpoints, [used.name for piece in pieces for used in piece.used])
                if (state.step % config.sample_every == 0 and not leaves) or last:
                    self._sample(log)
                if state.by_length and (state.step % config.snapshot_every == 0 or last):
                    snapshots.write(state.step, {k: ema.shadow for k, ema in state.by_length.items()}, self.world)
                self._measure_drawn(log, last=last)
                improved = self._validate(log, last=last)
                if state.step % config.save_every == 0 or last or leaves or improved:
                    self.world.together(state.require_finite)
                    ledger.flush()
                    checkpoints.save(state.step, state.state_dict(), state.best and state.best.step)
                if leaves:
                    break

    def _require_sound(self, numbers: Mapping[str, float], checkpoints: Checkpoints, names: Sequence[str]) -> None:
        """`InputError` where a loss has exploded or a watched objective collapsed; checkpoints of a time when it was
        not well are gone. `names` are the pictures of the step."""
        objective, step = self.objective, self.state.step
        if (trouble := self.state.guard.trouble(numbers)) is not None:
            what, good = f"the loss explodes{_among(names)} and the run stops", step - WINDOW
        elif isinstance(objective, Watched) and (trouble := objective.trouble(step, numbers)) is not None:
            what, good = "the run has collapsed and stops", objective.good_step
        else:
            return
        kept = self.world.decided(lambda: checkpoints.forget_after(good))
        stands = "no state of a time before that is left: save more often"
        if kept is not None:
            stands = f"the state of step {kept} stands, the last one that was sound"
        raise InputError(f"step {step}: {what}, {trouble}; {stands}")

    def _validate(self, log: Log, *, last: bool) -> bool:
        """At its steps measure the objective on what it is validated on; whether it was never as good before."""
        objective, state = self.objective, self.state
        validation = objective.validation if isinstance(objective, Validated) else None
        if validation is None or (state.step % validation.every and not last):
            return False
        with _finished(objective, state), _autocast(self.config):
            found = validate(validation, self.world)
        log.measured(state.step, found, state.seconds)
        if not math.isfinite(found[MEASURE]):
            raise InputError(f"step {state.step}: {MEASURE} is not finite; lower the learning rate")
        if state.best is not None and found[MEASURE] >= state.best.loss:
            return False
        state.best = Best(state.step, found[MEASURE])
        return True

    @property
    def _draws(self) -> bool:
        """Whether this process draws: under fsdp all do, together."""
        return self.world.first or self.config.data_parallel == "fsdp"

    @torch.no_grad()
    def _measure_drawn(self, log: Log, *, last: bool) -> None:
        """Draw the recipe's pictures at its intervals, and at the end, and write their numbers."""
        metrics, step = self.metrics, self.state.step
        if metrics is None or self.measure is None or (step % metrics.config.every and not last) or not self._draws:
            return
        with _finished(self.objective, self.state), _autocast(self.config):
            drawn = metrics.drawn()
        if self.world.first:
            log.measured(step, self.measure(drawn), self.state.seconds)

    @torch.no_grad()
    def _sample(self, log: Log) -> None:
        if not self._draws:
            return
        with _finished(self.objective, self.state), _autocast(self.config):
            grid = self.objective.samples()
        if grid is None or not self.world.first:
            return
        samples = made_folder(self.folder / "samples")
        with whole_file(samples / f"{self.state.step:07d}.png") as file:
            Image.fromarray(grid).save(file, format="PNG")
        log.image(self.state.step, grid)

    def export(self) -> None:
        """The finished networks to `folder`/export; what was sharded is whole afterwards and learns no more."""
        state, objective = self.state, self.objective
        state.ema.put_in_place()
        gather_in_place(objective.trained)
        gather_in_place(objective.frozen)
        self._write_export("export", state.step, {"seconds": round(state.seconds)})
        if state.best is not None:
            found = Checkpoints(self.folder, _warn, self.world).sound(state.best.step)
            if found is not None:
                state.put_in_place(found)
                self._write_export("best", state.best.step, {MEASURE: state.best.loss})

    def _write_export(self, name: str, step: int, told: Mapping[str, Any]) -> None:
        if self.world.first:
            self.objective.trained.eval()
            with torch.no_grad():
                self.objective.export(self.folder / name, {"steps": step, **told, "precision": self.config.precision})


def training_step(
    objective: Objective, state: TrainingState, config: LoopConfig, pieces: list[Piece], world: World
) -> dict[str, float]:
    """One change of every optimizer's parameters. Returns numbers for the log, means over the samples of the step."""
    found: list[tuple[str, float | Tensor, float]] = []
    objective.trained.train()
    for piece in pieces:
        share = len(piece.places) / config.step_size
        draws = row_draws([p.number for p in piece.places], config, state.step)
        torch.manual_seed(sample_seed(config.seed, piece.places[0].number))  # dropout within the networks
        with _autocast(config):
            for loss in objective.losses(piece.batch, StepContext(state.step, piece.places, draws)):
                (loss.value * share).backward()
                found.append((f"loss/{loss.optimizer}", loss.value.detach(), share))
                found += [(name, value, share) for name, value in loss.log.items()]
    world.sum_gradients(objective.trained.parameters())
    norms = state.optimizers.limit_gradients(world)
    numbers = _means(found, world) | dict(zip([f"gradient/{name}" for name in norms], _floats([*norms.values()])))
    broken = [name for name, value in numbers.items() if not math.isfinite(value)]
    if broken:
        among = _among([used.name for piece in pieces for used in piece.used])
        raise InputError(
            f"step {state.step + 1}: {', '.join(broken)} is not finite{among}; what was saved before stands, lower the "
            "learning rate"
        )
    state.optimizers.step(state.step)
    state.average()
    return numbers


def _among(names: Sequence[str]) -> str:
    return f" (in the batch: {', '.join(list(dict.fromkeys(names))[:8])})" if names else ""


def _means(found: Sequence[tuple[str, float | Tensor, float]], world: World) -> dict[str, float]:
    """Of each (name, value, share of the step), over all processes: the mean of those samples that have it."""
    sums: dict[str, float] = {}
    for (name, _, share), value in zip(found, _floats([value for _, value, _ in found])):
        sums[name] = sums.get(name, 0.0) + value * share
        sums[f"of/{name}"] = sums.get(f"of/{name}", 0.0) + share
    sums = world.sum_numbers(sums)
    return {name: total / sums[f"of/{name}"] for name, total in sums.items() if not name.startswith("of/")}


def _floats(values: Sequence[float | Tensor]) -> list[float]:
    """All of them in one go: each reading of a device's memory waits for the device."""
    tensors = [v.float() for v in values if isinstance(v, Tensor)]
    read = iter(torch.stack(tensors).tolist() if tensors else ())
    return [next(read) if isinstance(v, Tensor) else float(v) for v in values]


def row_draws(numbers: Sequence[int], config: LoopConfig, step: int) -> RowDraws:
    """For the samples `numbers` of the run, all of `step`; each has one of the step's strata, in a random order."""
    size = config.step_size
    rng = np.random.default_rng((config.seed, step, size))
    strata = (rng.permutation(size) + rng.random(size)) / size
    own = torch.tensor([strata[n % size] for n in numbers], dtype=torch.float32)
    return RowDraws([sample_seed(config.seed, n) for n in numbers], own)


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
