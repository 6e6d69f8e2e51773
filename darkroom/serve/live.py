"""A job on its way: what of it has begun, what is under way, and how it looks by now."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from darkroom.serve.jobs import Job
from darkroom.serve.residents import Resident

if TYPE_CHECKING:
    from darkroom.engine.engine import Ticket
    from darkroom.types import Request

__all__ = ["Live"]


@dataclass(eq=False)
class Live:
    """A job that is not over. `todo`: the numbers of pictures that have not begun; `tickets`: those under way; `mine`:
    whether this server has claimed it, no other draws it then."""

    job: Job
    todo: deque[int]
    request: Request | None = None  # of its first picture, once its uploads were read
    tickets: dict[int, Ticket] = field(default_factory=dict)
    mine: bool = False
    step: int = 0  # of all pictures together
    steps: int | None = None
    previewed: dict[int, float] = field(default_factory=dict)  # when each was last shown
    latest: dict[int, tuple[Resident, Any]] = field(default_factory=dict)  # clean estimates (1, C, h, w), their models
    error: tuple[str, str] | None = None  # (message, code) that ends it once nothing of it is under way
    cancelled: bool = False

    @property
    def waits(self) -> bool:
        """Whether a picture of it may begin."""
        return self.error is None and not self.cancelled and bool(self.todo)

    def look(self, number: int) -> bytes | None:
        """What a picture of the job looks like at this moment, as JPEG; None where it is not under way."""
        if (latest := self.latest.get(number)) is None:
            return None
        resident, x0 = latest
        return resident.jpeg(x0)
