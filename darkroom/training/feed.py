"""Batches for the loop, made ahead of their step by a thread or by worker processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from darkroom.data.order import Place
from darkroom.data.reader import Used
from darkroom.errors import InputError
from darkroom.training.config import LoopConfig
from darkroom.training.objective import Objective
from darkroom.training.world import World

__all__ = ["THREAD", "Piece", "feed", "naming_dead_workers"]

AHEAD = 2  # steps that a thread or a process has made or is making
THREAD = "batches"  # name of the thread


@dataclass(frozen=True)
class Piece:
    """A micro-batch of this process."""

    places: Sequence[Place]
    batch: Any
    used: Sequence[Used]


class _Steps(Dataset[list[Piece]]):
    """The pieces of each step, by its number."""

    def __init__(self, objective: Objective, config: LoopConfig, world: World) -> None:
        self.objective, self.config, self.world = objective, config, world

    def __getitem__(self, index: int) -> list[Piece]:
        reader = self.objective.reader
        share = reader.order.share(index, self.world.rank, self.world.size, self.config.grad_accumulation)
        return [Piece(places, self.objective.batch(places), reader.drain()) for places in share]


def feed(objective: Objective, config: LoopConfig, world: World, first: int) -> Generator[list[Piece]]:
    """The pieces of the steps from `first` on, in order. Close it: a thread may be at work."""
    steps, numbers, workers = _Steps(objective, config, world), range(first, config.steps), config.workers
    if workers is None and torch.device(config.device).type != "cpu":
        workers = min(8, max(1, (os.cpu_count() or 2) - 1))
    if workers is None:
        return _by_thread(steps, numbers)
    if workers:
        return _by_processes(steps, numbers, workers)
    return (steps[number] for number in numbers)


def _by_thread(steps: _Steps, numbers: range) -> Generator[list[Piece]]:
    """Most of what makes a batch leaves Python to other threads, and a step's work on a CPU does."""
    pool = ThreadPoolExecutor(1, THREAD)
    try:
        ahead = deque(pool.submit(steps.__getitem__, number) for number in numbers[:AHEAD])
        rest = iter(numbers[AHEAD:])
        while ahead:
            made = ahead.popleft().result()
            ahead.extend(pool.submit(steps.__getitem__, number) for number in islice(rest, 1))
            yield made
    finally:
        pool.shutdown(cancel_futures=True)


def _by_processes(steps: _Steps, numbers: range, workers: int) -> Generator[list[Piece]]:
    loader = DataLoader(
        steps,
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=False,
        prefetch_factor=AHEAD,
        multiprocessing_context="fork",
        worker_init_fn=_begin,
    )
    try:
        yield from loader
    except (OSError, EOFError) as error:  # a dead worker breaks the loader in many places
        raise _died(error) from None


@contextmanager
def naming_dead_workers() -> Iterator[None]:
    """`InputError` for a worker process that dies while this is open.

    PyTorch raises that out of the handler of a signal, so it may come anywhere in the main thread.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise _died(error) from None


def _died(error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(f"a process that made batches has died ({reason}); the same command goes on")


def _as_it_is(pieces: list[Piece]) -> list[Piece]:
    return pieces


def _begin(worker: int) -> None:
    """Signals are for the process of the loop, which ends its workers; and where it is killed they end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait for the end of the process of the loop, then leave at once, whatever the worker is at.

    PyTorch looks every five seconds, between batches, and not while what it has made waits in a full pipe.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
