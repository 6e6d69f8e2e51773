"""`darkroom` as a process that begins at once: forked, since to start Python and PyTorch anew takes seconds."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile

from darkroom.cli import run

__all__ = ["darkroom"]


def darkroom(
    *arguments: object, cwd: Path, program: Callable[[], object] = run, **environment: str
) -> subprocess.CompletedProcess[str]:
    """What a user types in `cwd`: how it ended and what it said. `environment` is added to that of the tests."""
    line = ["darkroom", *map(str, arguments)]
    with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        setting = program, line, cwd, environment, (out.fileno(), err.fileno())
        process = multiprocessing.get_context("fork").Process(target=_become, args=setting)
        process.start()
        process.join(240)
        status = process.exitcode
        process.kill()
        assert status is not None, f"{line} does not end"
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(line, status, out.read(), err.read())


def _become(
    program: Callable[[], object], line: list[str], cwd: Path, environment: dict[str, str], streams: tuple[int, int]
) -> None:
    for number, file in enumerate(streams, 1):
        os.dup2(file, number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8") for number in (1, 2))
    os.chdir(cwd)
    os.environ.update(environment)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)  # the others that the parent has are not here
    sys.argv = line
    program()
