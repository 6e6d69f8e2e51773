"""Desks between a run and the engine's: what a run asks for passes them on its way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from torch import Tensor

from darkroom.engine.ask import Ask
from darkroom.engine.engine import Draw
from darkroom.engine.run import Desk, Picture
from darkroom.types import Step

__all__ = ["exact"]

T = TypeVar("T")


def exact(draw: Draw) -> Draw:
    """`draw` with each call of the network for itself alone: its picture is bitwise the same in any company."""

    def drawn_alone(desk: Desk) -> Picture:
        return draw(_Alone(desk))

    return drawn_alone


class _Alone:
    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def estimate(self, ask: Ask) -> Tensor:
        return self.desk.estimate(replace(ask, exact=True))

    def report(self, step: Step, pass_number: int) -> None:
        self.desk.report(step, pass_number)

    def beside(self, work: Callable[[], T]) -> T:
        return self.desk.beside(work)
