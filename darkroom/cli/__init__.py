"""The command `darkroom`. Thin: parse, call, print; nothing heavy is imported before a command runs."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from types import FrameType

from darkroom.errors import InputError

__all__ = ["main", "run"]


def run() -> None:
    """The process `darkroom`: `main`, and an end without delay.

    Taking PyTorch and a model apart would take half a second. All files are whole and closed by then.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not in the background of a shell
        signal.signal(signal.SIGINT, _interrupted)
    try:
        main()
        status = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    with suppress(BrokenPipeError):  # whoever read the output has gone
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def _interrupted(number: int, frame: FrameType | None) -> None:
    """Ctrl-C. Modules that are being imported would swallow the exception, or stay behind half made and break what
    needs them; nothing is being written then, so the process leaves."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os._exit(128 + number)
        frame = frame.f_back
    raise KeyboardInterrupt


def main() -> None:
    """The command, as a function: bad input gives one sentence on standard error and `SystemExit` with status 2."""
    from darkroom.cli.app import app

    try:
        app(prog_name="darkroom")
    except InputError as error:
        print(f"darkroom: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
