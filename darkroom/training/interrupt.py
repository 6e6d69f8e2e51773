"""Ctrl-C and SIGTERM ask a run to save and leave; a second one leaves at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Interrupt"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """While entered, the first signal sets `signal`, which the loop looks at between steps."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():  # no other may set handlers
            self._former = {s: signal.signal(s, self._asked) for s in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            os.write(2, b"\nleaving at once; what was saved before stands\n")
            os._exit(128 + number)
        self.signal = number
        # Buffered streams may be in the middle of a line; this one has no buffer.
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"\nsaving and leaving; once more leaves at once\n")
