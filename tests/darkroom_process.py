"""`darkroom` as a process that begins at once: forked from one that has imported what commands need.

That one runs no threads. The tests' own process may, and what is forked from it would wait for ever for what they held.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from multiprocessing.context import BaseContext
from pathlib import Path
from tempfile import TemporaryDirectory

from darkroom.cli import run

__all__ = ["darkroom"]

# `__main__`: else each process would run the module that started the tests.
IMPORTED = ("__main__", "darkroom.cli.app", "darkroom.cli.draw", "darkroom.engine.planned", "darkroom.training.plan")
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(list(IMPORTED))


def darkroom(
    *arguments: object,
    cwd: Path,
    program: Callable[[], object] = run,
    context: BaseContext = SERVER,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """What a user types in `cwd`: how it ended and what it said. `environment` is added to that of the tests.

    `program` may be another than the command; an error that it does not catch ends it with 1.
    """
    line = ["darkroom", *map(str, arguments)]
    with TemporaryDirectory() as folder:
        said = Path(folder, "out"), Path(folder, "err")
        setting = program, line, cwd, {**os.environ, **environment}, said
        process = context.Process(target=_become, args=setting)  # type: ignore[attr-defined]
        process.start()
        process.join(240)
        status = process.exitcode
        process.kill()
        assert status is not None, f"{line} does not end"
        return subprocess.CompletedProcess(line, status, *(path.read_text("utf-8") for path in said))


def _become(
    program: Callable[[], object], line: list[str], cwd: Path, environment: Mapping[str, str], said: tuple[Path, Path]
) -> None:
    for number, path in enumerate(said, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8") for number in (1, 2))
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = line
    program()
