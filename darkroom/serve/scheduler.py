"""Which picture is drawn next: priority, then what is urgent, then a fair share for each client, then the queue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from darkroom.serve.jobs import Job

__all__ = ["Costs", "Shares", "in_turn"]

LEARNING = 0.3  # share of a new measurement in what is expected
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


class Costs:
    """The seconds of the machine that a step takes, by model and number of pixels: learned from finished pictures."""

    def __init__(self) -> None:
        self._step: dict[tuple[str, int], float] = {}

    def learn(self, model: str, pixels: int, steps: int, seconds: float) -> None:
        """A picture of so many steps has taken `seconds` of the machine, its share where others ran beside it."""
        if steps <= 0:
            return
        key, now = (model, pixels), seconds / steps
        before = self._step.get(key, now)
        self._step[key] = before + LEARNING * (now - before)

    def seconds(self, model: str, pixels: int, steps: int) -> float | None:
        """What a picture is expected to take; None for a model of which none was drawn. Sizes that were not drawn are
        told from the nearest one, in proportion to the pixels."""
        known = [(abs(p - pixels), p, s) for (m, p), s in self._step.items() if m == model]
        if not known:
            return None
        _, nearest, step = min(known)
        return step * steps * pixels / nearest
