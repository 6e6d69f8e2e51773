"""Runs commands of `darkroom` that standard input names, from a process that has not imported PyTorch.

A line of input is the JSON of the arguments and the folder to be in, a line of output that of what the command said.
The last line on a command's standard error says whether it imported PyTorch.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from pathlib import Path

from darkroom_process import darkroom

from darkroom.cli import early, main
from darkroom.cli.app import app

__all__ = ["app", "early"]  # imported once for all commands


FORK = multiprocessing.get_context("fork")


def and_tell() -> None:
    try:
        main()
    finally:
        print("torch" in sys.modules, file=sys.stderr)


if __name__ == "__main__":
    for line in sys.stdin:
        arguments, folder = json.loads(line)
        done = darkroom(*arguments, cwd=Path(folder), program=and_tell, context=FORK, XDG_CONFIG_HOME=folder)
        print(json.dumps([done.stdout, done.stderr]), flush=True)
