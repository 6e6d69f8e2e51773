"""The loop on a toy: a linear map learns a linear map."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contexts import first_places, numbers
from forked import forked, forked_world, steps_written
from torch import Tensor, nn

from darkroom.data.order import Place
from darkroom.errors import InputError
from darkroom.training.config import LoopConfig, OptimizerConfig
from darkroom.training.ema import EMA, warmed
from darkroom.training.feed import THREAD
from darkroom.training.loop import TrainingEnd, train
from darkroom.training.objective import Loss, StepContext
from darkroom.training.run_folder import natural_precision
from darkroom.training.validation import Validation
from darkroom.training.world import open_world


class Toy:
    """Two players, dropout, noise from the loop's generator: everything that resuming must restore."""

    ema = ("net",)

    def __init__(self, pause: float = 0.0, stop: int | None = None, wait: int | None = None) -> None:
        torch.manual_seed(0)
        self.pause, self.stop, self.wait = pause, stop, wait
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 1))
        self.other = nn.Linear(4, 1)
        self.trained = nn.ModuleDict({"net": self.net, "other": self.other})
        self.frozen = nn.ModuleDict()
        self.reader = numbers(100, 8)

    def optimizers(self) -> dict[str, list[nn.Parameter]]:
        return {"net": list(self.net.parameters()), "other": list(self.other.parameters())}

    def batch(self, places: Sequence[Place]) -> Tensor:
        time.sleep(600 if places[0].number == self.wait else self.pause)
        if places[0].number == self.stop:
            raise KeyboardInterrupt
        return torch.stack([torch.randn(4, generator=torch.Generator().manual_seed(p.index)) for p in places])

    def losses(self, batch: Tensor, context: StepContext) -> Iterator[Loss]:
        noise = 0.1 * context.draws.normal(1)
        target = batch.sum(dim=1, keepdim=True) + noise
        yield Loss("net", (self.net(batch) - target).square().mean(), {"noise": noise.mean()})
        yield Loss("other", (self.other(batch) - target).square().mean(), {})

    def samples(self) -> np.ndarray | None:
        return np.zeros((4, 4, 3), np.uint8)

    def export(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.net.state_dict(), folder / "net.pt")


CONFIG = LoopConfig(
    steps=40, batch_size=8, lr=0.02, warmup_steps=5, ema_decay=0.9, precision="fp32", workers=0, log_every=1,
    sample_every=20, save_every=7,
)  # fmt: skip


def lines(folder: Path) -> list[dict[str, float]]:
    keep = ("step", "lr", "loss/net", "loss/other", "noise", "gradient/net")
    return [{k: v for k, v in json.loads(text).items() if k in keep} for text in (folder / "log.jsonl").open()]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    assert train(Toy(), CONFIG, folder).step == CONFIG.steps
    return folder


def test_it_learns_and_leaves_log_samples_and_export(unbroken: Path) -> None:
    log = lines(unbroken)
    assert [line["step"] for line in log] == list(range(1, 41))
    waits = [json.loads(line)["waiting for data"] for line in (unbroken / "log.jsonl").open()]
    assert all(0 <= share < 1 for share in waits)
    assert np.mean([line["loss/net"] for line in log[-10:]]) < 0.3 * np.mean([line["loss/net"] for line in log[:5]])
    assert sorted(p.name for p in (unbroken / "samples").iterdir()) == ["0000020.png", "0000040.png"]
    assert (unbroken / "export" / "net.pt").exists()


def test_a_killed_run_goes_on_as_if_nothing_had_happened(unbroken: Path, tmp_path: Path) -> None:
    """SIGKILL at random moments, of processes that never come to the end by themselves, then one lives to it."""
    chance = random.Random(7)

    for steps in (12, 24, 36):
        process = forked(train, Toy(0.01, wait=steps * CONFIG.batch_size), CONFIG, tmp_path)
        while steps_written(tmp_path) < steps - 6:  # let it make some steps first
            assert process.is_alive()
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.1))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    train(Toy(), CONFIG, tmp_path)
    assert lines(tmp_path) == lines(unbroken)
    ours = torch.load(tmp_path / "export" / "net.pt", weights_only=True)
    theirs = torch.load(unbroken / "export" / "net.pt", weights_only=True)
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)


def test_a_time_limit_leaves_a_checkpoint_to_go_on_from(unbroken: Path, tmp_path: Path) -> None:
    assert train(Toy(), CONFIG, tmp_path, minutes=0.0).step == 1
    assert not (tmp_path / "export").exists()
    assert train(Toy(), CONFIG, tmp_path).step == CONFIG.steps
    assert lines(tmp_path) == lines(unbroken)


class Measured(Toy):
    """Validated on a fixed batch; its learning rate, too high, makes it worse again."""

    def __init__(self) -> None:
        super().__init__()
        held_out = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))

        def measure(places: Sequence[Place]) -> Mapping[str, Tensor]:
            assert not self.net.training
            found = (self.net(held_out).sum(dim=1) - held_out.sum(dim=1)).square()[[p.index for p in places]]
            return {"loss": found, "first": found[:1]}

        places = first_places(numbers(8, 8), 8)
        self.validation = Validation(3, [places[:3], places[3:6], places[6:]], measure)


def test_what_was_best_on_validation_is_kept_and_exported(tmp_path: Path) -> None:
    config = replace(CONFIG, lr=0.5, ema_decay=0.5, save_every=100)
    train(Measured(), config, tmp_path / "whole")

    def measured(folder: Path) -> dict[int, float]:
        found = [json.loads(line) for line in (folder / "log.jsonl").open()]
        return {line["step"]: line["validation/loss"] for line in found if "validation/loss" in line}

    losses = measured(tmp_path / "whole")
    best = min(losses, key=lambda step: losses[step])
    assert list(losses) == [*range(3, 40, 3), 40]
    assert best < 40
    assert sorted(int(p.name) for p in (tmp_path / "whole" / "checkpoints").iterdir()) == [best, 40]
    train(Measured(), replace(config, steps=best), tmp_path / "shorter")
    kept, alone = (tmp_path / name for name in ("whole/best/net.pt", "shorter/export/net.pt"))
    kept, alone = torch.load(kept, weights_only=True), torch.load(alone, weights_only=True)
    assert all(torch.equal(kept[k], alone[k]) for k in alone)
    train(Measured(), config, tmp_path / "broken", minutes=0.0)
    train(Measured(), config, tmp_path / "broken")
    assert measured(tmp_path / "broken") == losses
    again = torch.load(tmp_path / "broken" / "best" / "net.pt", weights_only=True)
    assert all(torch.equal(kept[k], again[k]) for k in alone)


class Undropped(Toy):
    """Without dropout, whose masks are drawn for whole micro-batches."""

    def __init__(self) -> None:
        super().__init__()
        self.net[1] = nn.Identity()


def numbers_of(folder: Path) -> list[float]:
    """Losses, gradients and final weights."""
    logged = [v for line in lines(folder) for k, v in line.items() if k != "step"]
    state = torch.load(folder / "export" / "net.pt", weights_only=True)
    return [*logged, *(float(x) for t in state.values() for x in t.flatten())]


@pytest.mark.parametrize(("batch_size", "grad_accumulation"), [(4, 2), (1, 8), (2, 4)])
def test_however_a_step_is_cut_it_is_the_same_step(batch_size: int, grad_accumulation: int, tmp_path: Path) -> None:
    config = replace(CONFIG, steps=6)
    train(Undropped(), config, tmp_path / "whole")
    cut = replace(config, batch_size=batch_size, grad_accumulation=grad_accumulation)
    train(Undropped(), cut, tmp_path / "cut")
    assert numbers_of(tmp_path / "cut") == pytest.approx(numbers_of(tmp_path / "whole"), rel=2e-4, abs=1e-6)


def train_as_one_of(rank: int, size: int, port: int, config: LoopConfig, folder: Path) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    with open_world("cpu") as world:
        train(Undropped(), config, folder, world=world)


def test_several_processes_make_the_run_of_one(tmp_path: Path) -> None:
    """8 samples a step on three processes, unevenly; then gone on with one. On two: `tests/fuzz/faults.py`."""
    config = replace(CONFIG, steps=6, grad_accumulation=2, batch_size=4)
    train(Undropped(), config, tmp_path / "one")
    forked_world(3, train_as_one_of, replace(config, steps=4), tmp_path / "several")
    train(Undropped(), config, tmp_path / "several")
    assert numbers_of(tmp_path / "several") == pytest.approx(numbers_of(tmp_path / "one"), rel=2e-4, abs=1e-6)


@pytest.mark.parametrize("workers", [None, 1, 2])
def test_batches_may_come_from_a_thread_or_from_worker_processes(
    workers: int | None, unbroken: Path, tmp_path: Path
) -> None:
    train(Toy(), replace(CONFIG, workers=workers), tmp_path)
    assert lines(tmp_path) == lines(unbroken)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(THREAD)]


def test_the_ledger_knows_what_a_thread_read_while_samples_were_drawn(tmp_path: Path) -> None:
    class Reads(Toy):
        def batch(self, places: Sequence[Place]) -> Tensor:
            for place in places:
                self.reader.read(place)
            return super().batch(places)

        def samples(self) -> np.ndarray | None:
            self.reader.read(self.reader.order.batch(0)[0])
            self.reader.drain()
            return None

    train(Reads(0.002), replace(CONFIG, steps=6, workers=None, sample_every=1), tmp_path)
    ledger = [json.loads(line) for line in (tmp_path / "ledger.jsonl").open()]
    assert [line["number"] for line in ledger if "number" in line] == list(range(48))


def test_worker_processes_end_with_a_run_that_is_killed(tmp_path: Path) -> None:
    """Each holds the end of a pipe, which is closed when the last one is gone."""
    reads, writes = os.pipe()
    process = forked(train, Toy(wait=24), replace(CONFIG, workers=2), tmp_path, daemon=False)
    os.close(writes)
    while steps_written(tmp_path) < 3:
        assert process.is_alive()
        time.sleep(0.02)
    process.kill()
    process.join()
    assert os.read(reads, 1) == b""
    os.close(reads)


def test_a_worker_that_is_killed_is_one_sentence(unbroken: Path, tmp_path: Path) -> None:
    class Killed(Toy):
        def batch(self, places: Sequence[Place]) -> Tensor:
            if places[0].number == 80:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().batch(places)

    with pytest.raises(InputError, match="a process that made batches has died"):
        train(Killed(), replace(CONFIG, workers=1), tmp_path)
    train(Toy(), CONFIG, tmp_path)
    assert lines(tmp_path) == lines(unbroken)


def test_optimizers_have_settings_of_their_own(tmp_path: Path) -> None:
    own = {"other": OptimizerConfig(lr=1e-6, max_grad_norm=0.1)}
    toy = Toy()
    before = toy.other.weight.detach().clone()
    train(toy, replace(CONFIG, steps=5, optimizers=own), tmp_path / "run")
    assert (toy.other.weight - before).abs().max() < 1e-5
    assert min(line["gradient/net"] for line in lines(tmp_path / "run")) > 0
    with pytest.raises(
        InputError, match=r"loop.optimizers.ohter is no optimizer of this recipe; known are: other, net"
    ):
        train(Toy(), replace(CONFIG, optimizers={"ohter": OptimizerConfig()}), tmp_path / "other")


def test_an_infinite_loss_names_the_step(tmp_path: Path) -> None:
    class Broken(Toy):
        def losses(self, batch: Tensor, context: StepContext) -> Iterator[Loss]:
            yield Loss("other", self.other(batch).mean() * (float("nan") if context.step == 2 else 1.0), {})

    with pytest.raises(InputError, match=r"step 3: .*loss/other.* is not finite"):
        train(Broken(), CONFIG, tmp_path)


def test_a_loss_that_explodes_ends_the_run_at_the_last_sound_state(tmp_path: Path) -> None:
    class Exploding(Toy):
        def losses(self, batch: Tensor, context: StepContext) -> Iterator[Loss]:
            yield Loss("net", self.net(batch).square().mean() * 0 + 0.5 + max(0, context.step - 59), {})

    config = replace(CONFIG, steps=200, save_every=20)
    with pytest.raises(
        InputError,
        match=r"step 69: the loss explodes and the run stops, loss/net is 2.75 over the last 20 steps, it began at "
        r"0.5; the state of step 40 stands, the last one that was sound",
    ):
        train(Exploding(), config, tmp_path)
    assert not (tmp_path / "export").exists()


def test_log_lines_do_not_depend_on_where_a_run_was_broken(tmp_path: Path) -> None:
    """A line tells of the steps since the last one, also of those before the checkpoint."""
    config = replace(CONFIG, steps=12, log_every=6, save_every=4)
    train(Toy(), config, tmp_path / "unbroken")
    assert train(Toy(), config, tmp_path / "broken", minutes=0.0).step == 1
    with pytest.raises(KeyboardInterrupt):
        train(Toy(stop=64), config, tmp_path / "broken")
    train(Toy(), config, tmp_path / "broken")
    assert lines(tmp_path / "broken") == lines(tmp_path / "unbroken")
    assert [line["step"] for line in lines(tmp_path / "broken")] == [6, 12]


def test_a_torn_log_line_is_no_obstacle(unbroken: Path, tmp_path: Path) -> None:
    train(Toy(), CONFIG, tmp_path, minutes=0.0)
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(b'{"step": 1, \xff}\n{"step": 2, "sec')  # damaged, and torn
    train(Toy(), CONFIG, tmp_path)
    assert lines(tmp_path) == lines(unbroken)


def test_a_checkpoint_of_other_networks_is_named(tmp_path: Path) -> None:
    train(Toy(), CONFIG, tmp_path, minutes=0.0)
    toy = Toy()
    toy.trained["third"] = nn.Linear(1, 1)
    with pytest.raises(InputError, match=r"checkpoints/00000001 is not of these networks: .*third"):
        train(toy, CONFIG, tmp_path)


def test_what_is_not_finite_is_neither_saved_nor_exported(tmp_path: Path) -> None:
    """A loss may still be a number when the step has made the weights infinite."""
    with pytest.raises(InputError, match=r"step 1: net.0.weight is not finite"):
        train(Toy(), replace(CONFIG, steps=1, weight_decay=1e300), tmp_path)
    assert not (tmp_path / "export").exists()
    assert not list(tmp_path.glob("checkpoints/0*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_leaves_and_the_run_goes_on(number: int, unbroken: Path, tmp_path: Path) -> None:
    class Asked(Toy):
        def batch(self, places: Sequence[Place]) -> Tensor:
            if places[0].number == 72:
                os.kill(os.getpid(), number)
            return super().batch(places)

    before = signal.getsignal(number)
    end = train(Asked(), CONFIG, tmp_path)
    assert end == TrainingEnd(10, number)
    assert signal.getsignal(number) == before
    assert train(Toy(), CONFIG, tmp_path) == TrainingEnd(CONFIG.steps)
    assert lines(tmp_path) == lines(unbroken)


def test_a_second_signal_leaves_at_once(tmp_path: Path) -> None:
    class Slow(Toy):
        def batch(self, places: Sequence[Place]) -> Tensor:
            (tmp_path / "began").touch()
            time.sleep(600)
            raise AssertionError

    process = forked(train, Slow(), CONFIG, tmp_path)
    while not (tmp_path / "began").exists():
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.2)
    assert process.is_alive()
    while process.is_alive():  # two that come before it wakes are one
        os.kill(process.pid, signal.SIGINT)
        process.join(0.2)
    assert process.exitcode == 130


def test_the_precision_that_was_taken_is_told_with_the_weights(tmp_path: Path) -> None:
    told: dict[str, Any] = {}

    class Telling(Toy):
        def export(self, folder: Path, metadata: Mapping[str, Any]) -> None:
            told.update(metadata)

    train(Telling(), replace(CONFIG, precision="auto", steps=2), tmp_path)
    assert (told["steps"], told["precision"]) == (2, natural_precision("cpu"))


def test_an_unknown_device_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no device 'cudaa' here; there are: cpu"):
        train(Toy(), replace(CONFIG, device="cudaa"), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_the_running_mean_follows_its_formula_and_swaps_in_and_out() -> None:
    net = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    ema = EMA({"net": net}, warmed(0.9))
    mean = 0.0
    for n in range(1, 200):
        nn.init.constant_(net.weight, float(n))
        ema.update()
        decay = min(0.9, (1 + n) / (10 + n))
        mean = decay * mean + (1 - decay) * n
        with ema.swapped_in():
            assert float(net.weight.detach()) == pytest.approx(mean, rel=1e-5)
        assert float(net.weight.detach()) == n
