"""Faults of the machine, for real: processes killed at any moment, full disks, flipped bits, two owners.

A tiny run of training is done whole once; every case breaks one, lets it go on as a user would, and compares the final
weights and the log bit for bit. Each case is decided by its seed but for the moments at which processes are killed.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from forked import forked_world, steps_written
from PIL import Image
from test_loop import CONFIG, Toy, Undropped, numbers_of, train_as_one_of

from darkroom.errors import InputError
from darkroom.pictures.picture_file import numbered_paths, write_new_picture
from darkroom.training.config import LoopConfig
from darkroom.training.log import WAITING
from darkroom.training.loop import train
from darkroom.whole_file import temporary_prefix

__all__ = ["FAULTS", "try_fault", "unbroken_run"]

RUN = replace(CONFIG, steps=12, save_every=3, sample_every=6)
PATIENCE = 120.0  # seconds for any child: machines may be busy


def unbroken_run(folder: Path) -> Path:
    """The run that all others are compared with; in this process, so that its children find imported what it needs."""
    with redirect_stderr(StringIO()), redirect_stdout(StringIO()):
        train(Toy(), RUN, folder / "unbroken")
    return folder / "unbroken"


def _child(
    run: Path, config: LoopConfig, *, pause: float = 0.0, before: Callable[[], None] | None = None
) -> BaseProcess:
    """A process that trains in `run`; status 2 and the sentence in `run`.sentence where it is refused."""

    def work() -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        try:
            if before is not None:
                before()
            train(Toy(pause), config, run)
        except InputError as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            _sentence(run).write_text(str(error))
            os._exit(2)
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def _sentence(run: Path) -> Path:
    return run.with_name(f"{run.name}.sentence")


def _ends(process: BaseProcess) -> int | None:
    process.join(PATIENCE)
    if process.is_alive():
        process.kill()
        process.join()
        return None
    return process.exitcode


def _killed_on_the_way(run: Path, rng: random.Random) -> None:
    """A run that is killed at a random moment between its first and its last step."""
    process, until = _child(run, RUN, pause=0.004), rng.randrange(RUN.steps)
    while process.is_alive() and steps_written(run) < until:
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.02))
    process.kill()
    process.join()


def _differs(run: Path, unbroken: Path, *, log: bool = True) -> str | None:
    """How the finished `run` differs from the unbroken one."""
    files = [torch.load(place / "export" / "net.pt", weights_only=True) for place in (run, unbroken)]
    if not all(torch.equal(files[0][name], files[1][name]) for name in files[1]):
        return "the final weights differ"
    if log and _told(run) != _told(unbroken):
        return "the log differs"
    left = [p.name for p in run.rglob(".*") if p.name != ".lock"]
    return f"{left[0]} is left" if left else None


def _told(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith(("seconds", "images", WAITING))} for line in lines]


def _goes_on(run: Path, unbroken: Path, *, log: bool = True) -> str | None:
    """The same command again comes to the same end."""
    if (status := _ends(_child(run, RUN))) != 0:
        return f"it does not go on, status {status}: {_said(run)}"
    return _differs(run, unbroken, log=log)


def _said(run: Path) -> str:
    return _sentence(run).read_text() if _sentence(run).exists() else ""


def killed(run: Path, unbroken: Path, rng: random.Random) -> str | None:
    """SIGKILL at a random moment, up to three times."""
    for _ in range(rng.randrange(1, 4)):
        _killed_on_the_way(run, rng)
    return _goes_on(run, unbroken)


def killed_in_saving(run: Path, unbroken: Path, rng: random.Random) -> str | None:
    """SIGKILL just before a random one of the calls by which files get to the disk and to their names."""
    left = rng.randrange(1, 40)

    def before() -> None:
        counted = count(1)

        def dying(call: Callable[..., Any]) -> Callable[..., Any]:
            def called(*arguments: Any, **named: Any) -> Any:
                if next(counted) == left:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*arguments, **named)

            return called

        for name in ("fsync", "replace", "mkdir", "unlink", "rmdir"):
            setattr(os, name, dying(getattr(os, name)))

    status = _ends(_child(run, RUN, before=before))
    if status not in (0, -signal.SIGKILL):
        return f"status {status}"
    return _goes_on(run, unbroken)


def disk_full(run: Path, unbroken: Path, rng: random.Random) -> str | None:
    """No file may grow beyond a random size: a sentence, nothing half-written, and it goes on when there is room."""
    room = int(10 ** rng.uniform(1.5, 4.3))

    def before() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))

    status = _ends(_child(run, RUN, before=before))
    if status == 2:
        if "cannot be written" not in _said(run):
            return f"a file of {room} bytes: {_said(run)}"
    elif status != 0:
        return f"status {status} where files may have {room} bytes"
    return _goes_on(run, unbroken)


def flipped(run: Path, unbroken: Path, rng: random.Random) -> str | None:
    """A bit of any file of an unfinished run: it goes on to the same weights, or a sentence says what is damaged."""
    while not (run / "checkpoints").exists() or not any((run / "checkpoints").glob("[0-9]*")):
        _killed_on_the_way(run, rng)
    path = rng.choice(sorted(p for p in run.rglob("*") if p.is_file() and p.stat().st_size))
    content = bytearray(path.read_bytes())
    at, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
    content[at] ^= bit
    path.write_bytes(content)
    what = f"bit {bit} of byte {at} of {path.relative_to(run)}"
    status = _ends(_child(run, RUN))
    if status == 0:
        found = _differs(run, unbroken, log=path.name != "log.jsonl")
        return f"{what}: {found}" if found else None
    if status != 2 or not _said(run).isprintable():
        return f"{what}: status {status}"
    content[at] ^= bit
    path.write_bytes(content)
    return _goes_on(run, unbroken)


def two_owners(run: Path, unbroken: Path, rng: random.Random) -> str | None:
    """The second process is told who the first one is, which does not notice."""
    first = _child(run, RUN, pause=0.05)
    while first.is_alive() and not (run / ".lock").exists():
        time.sleep(0.002)
    while first.is_alive() and not (run / ".lock").read_text():
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.2))
    status = _ends(_child(run, RUN)) if first.is_alive() else 2
    if status != 2 or f"process {first.pid} " not in _said(run):
        return f"the second owner has status {status}: {_said(run)}"
    return f"the first owner has status {status}" if (status := _ends(first)) else _differs(run, unbroken)


def worker_killed(run: Path, unbroken: Path, rng: random.Random) -> str | None:
    """A process that reads the data is gone: a sentence, and the same command goes on."""
    process = _child(run, replace(RUN, workers=2), pause=0.03)
    until = rng.randrange(1, RUN.steps - 4)
    while process.is_alive() and steps_written(run) < until:
        time.sleep(0.002)
    if (worker := _first_child(process)) is not None:
        os.kill(worker, signal.SIGKILL)
    status = _ends(process)
    if status == 2 and not _said(run).isprintable():
        return _said(run)
    return _goes_on(run, unbroken) if status in (0, 2) else f"status {status}"


def _first_child(process: BaseProcess) -> int | None:
    """The number of a child of `process`; None where it has none any more."""
    try:
        told = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    except OSError:
        told = []
    return int(told[0]) if told else None


def processes_changed(run: Path, unbroken: Path, rng: random.Random) -> str | None:
    """One process, then two, then one, at random steps: the numbers of one process, to rounding."""
    first, second = sorted(rng.sample(range(1, RUN.steps), 2))
    config = replace(RUN, batch_size=rng.choice((2, 4)), grad_accumulation=2)
    alone = run / "alone"
    with redirect_stderr(StringIO()), redirect_stdout(StringIO()):
        train(Undropped(), config, alone)
        train(Undropped(), replace(config, steps=first), run)
        forked_world(2, train_as_one_of, replace(config, steps=second), run)
        train(Undropped(), config, run)
    same = np.allclose(numbers_of(run), numbers_of(alone), rtol=2e-4, atol=1e-6)
    return None if same else f"two processes from step {first} to {second} change the numbers"


def writers_killed(folder: Path, unbroken: Path, rng: random.Random) -> str | None:
    """Two processes write pictures into one folder as `generate` does, one is killed: every picture there is whole, all
    of the other's are there, and the next writer sweeps what is left."""
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)

    def work(pictures: int, name: str) -> None:
        for number in range(pictures):
            write_new_picture(numbered_paths(folder, 0, ".png"), pixels, f"{name} {number}")

    fork = multiprocessing.get_context("fork")
    lasting, dying = fork.Process(target=work, args=(12, "lasting")), fork.Process(target=work, args=(10_000, "dying"))
    lasting.start()
    dying.start()
    time.sleep(rng.uniform(0, 0.15))
    dying.kill()
    dying.join()
    if (status := _ends(lasting)) != 0:
        return f"status {status}"
    write_new_picture(numbered_paths(folder, 0, ".png"), pixels, "last")
    told = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            if not path.name.startswith(temporary_prefix()):
                return f"{path.name} is left"
            continue
        with Image.open(path) as picture:
            if not np.array_equal(np.asarray(picture), pixels):
                return f"{path.name} is not whole"
            told.append(picture.info["parameters"])
    expected = {"last", *(f"lasting {number}" for number in range(12))}
    return None if expected <= set(told) and len(told) == len(set(told)) else "pictures are lost or doubled"


FAULTS: dict[str, Callable[[Path, Path, random.Random], str | None]] = {
    "killed": killed,
    "killed in saving": killed_in_saving,
    "disk full": disk_full,
    "bits flipped": flipped,
    "two owners": two_owners,
    "worker killed": worker_killed,
    "processes changed": processes_changed,
    "writers killed": writers_killed,
}


def try_fault(name: str, unbroken: Path, folder: Path, seeds: Iterator[int]) -> list[str]:
    """What went wrong, a line a case."""
    found = []
    for seed in seeds:
        run = folder / f"{name} {seed}"
        told = FAULTS[name](run, unbroken, random.Random(f"{name} {seed}"))
        if told is not None:
            found.append(f"seed {seed}: {told}")
        shutil.rmtree(run, ignore_errors=True)
        _sentence(run).unlink(missing_ok=True)
    return found
