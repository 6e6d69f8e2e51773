"""The command `darkroom`. Thin: parse, call, print; nothing heavy is imported before a command runs."""

from __future__ import annotations

import sys

from darkroom.errors import InputError

__all__ = ["main"]


def main() -> None:
    """Entry point. Bad input: one sentence on standard error and exit status 2."""
    from darkroom.cli.app import app

    try:
        app(prog_name="darkroom")
    except InputError as error:
        print(f"darkroom: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
