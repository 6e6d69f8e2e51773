"""Batches for the loop, made in worker processes ahead of their step."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from darkroom.data.order import Place
from darkroom.data.reader import Used
from darkroom.errors import InputError
from darkroom.training.config import LoopConfig
from darkroom.training.objective import Objective
from darkroom.training.world import World

__all__ = ["Piece", "feed", "naming_dead_workers"]


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


def feed(objective: Objective, config: LoopConfig, world: World, first: int) -> Iterator[list[Piece]]:
    """The pieces of the steps from `first` on, in order."""
    workers = _workers(config)
    loader = DataLoader(
        _Steps(objective, config, world),
        batch_size=None,
        sampler=range(first, config.steps),
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=False,
        prefetch_factor=2 if workers else None,
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=_quiet,
    )
    try:
        yield from loader
    except (OSError, EOFError) as error:  # a dead worker breaks the loader in many places
        if not workers:
            raise
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


def _workers(config: LoopConfig) -> int:
    if config.workers is not None:
        return config.workers
    return 0 if torch.device(config.device).type == "cpu" else min(8, max(1, (os.cpu_count() or 2) - 1))


def _as_it_is(pieces: list[Piece]) -> list[Piece]:
    return pieces


def _quiet(worker: int) -> None:
    """Signals are for the process of the loop, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
