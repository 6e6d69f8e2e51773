"""Logs as lines of JSON, with the ids of jobs; what clients wrote stands in them only on request."""

from __future__ import annotations

import json
import logging
import sys
import time

__all__ = ["log_to_stderr"]

FIELDS = ("job", "client", "model", "error", "prompt")


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line = {"time": at, "level": record.levelname.lower(), "message": record.getMessage(), **said}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def log_to_stderr(level: int = logging.INFO) -> None:
    """Let the server's own logger write to standard error."""
    logger = logging.getLogger("darkroom.serve")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
