"""Which picture is drawn next: priority, then what is urgent, then a fair share for each client, then the queue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from darkroom.serve.jobs import Job

__all__ = ["Shares", "in_turn"]

URGENT = 3.0  # a job whose deadline is nearer than this many times its cost goes before others of its priority


def in_turn(jobs: Iterable[Job], served: Mapping[str, float], now: float, cost: Callable[[Job], float]) -> list[Job]:
    """`jobs` in the order in which they are to be drawn.

    `served`: what each client has had, in seconds of the network; who had least goes first. `cost`: the seconds that a
    job is expected to take.
    """

    def rank(job: Job) -> tuple[float, ...]:
        urgent = job.deadline is not None and job.deadline - now < URGENT * cost(job)
        return (
            -job.priority,
            job.deadline if urgent and job.deadline else now + 1e9,
            served.get(job.client, 0.0),
            job.place,
        )

    return sorted(jobs, key=rank)


class Shares:
    """What each client has had of the machine, in seconds; one who comes anew begins level with the least served of
    those who wait, so that nobody saves up turns."""

    def __init__(self) -> None:
        self.served: dict[str, float] = {}

    def arrive(self, client: str, waiting: Iterable[str]) -> None:
        """`client` has something to draw while the clients `waiting` have, too."""
        least = min((self.served.get(c, 0.0) for c in waiting), default=0.0)
        self.served[client] = max(self.served.get(client, 0.0), least)

    def charge(self, client: str, seconds: float) -> None:
        self.served[client] = self.served.get(client, 0.0) + seconds
