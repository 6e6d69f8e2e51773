"""Processes of a test's own: forked, since to start Python and PyTorch anew takes seconds."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

__all__ = ["forked", "forked_world", "reserved_port", "steps_written"]


def forked(function: Callable[..., Any], *arguments: Any, daemon: bool = True) -> BaseProcess:
    """A running process that calls `function`; its standard output and errors go nowhere. A daemon has no children."""
    process = multiprocessing.get_context("fork").Process(target=_silent, args=(function, arguments), daemon=daemon)
    process.start()
    return process


def forked_world(size: int, function: Callable[..., Any], *arguments: Any) -> None:
    """`function`(rank, size, port, *arguments) in `size` processes, which must end well."""
    with reserved_port() as port:
        several = [forked(function, rank, size, port, *arguments) for rank in range(size)]
        for process in several:
            process.join(300)
            assert process.exitcode == 0


def steps_written(folder: Path) -> int:
    """Whole lines in the log of a run that may be writing one just now."""
    return (folder / "log.jsonl").read_bytes().count(b"\n") if (folder / "log.jsonl").exists() else 0


@contextmanager
def reserved_port() -> Iterator[int]:
    """A free port that the system gives to nobody until the end; who asks for it with SO_REUSEADDR may listen on it."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def _silent(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    function(*arguments)
