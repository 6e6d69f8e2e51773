"""The only caller of the network: which asks go into one call, and what is done where memory does not hold them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from darkroom.engine.ask import Ask, Told, answer
from darkroom.engine.costs import Costs
from darkroom.engine.memory import fitting_rows
from darkroom.nn.memory import is_out_of_memory, out_of_memory
from darkroom.tasks.guide import Guide

__all__ = ["Batcher", "Called"]

Called = Callable[[int, float], None]  # hears of each call: its rows, and its seconds

REPEATED = 2  # prompts share a call where this many times the longest holds each a whole number of times


class Batcher:
    """Joins asks of one company, whatever their prompts, steps, samplers or guidance.

    The ask that has waited longest chooses the company, so none starves however many equals keep coming. With `costs`
    it learns how many rows are worth joining; without, it joins all that memory holds. `called` hears of each call.
    """

    def __init__(self, costs: Costs | None = None, called: Called | None = None) -> None:
        self.costs, self.called = costs, called
        self.calls: list[int] = []  # rows of the last calls, for who measures
        self._most: dict[tuple[object, ...], int] = {}  # rows that memory held, after it once did not
        self._last: tuple[list[Guide], Told] | None = None  # calls of the same guides follow each other

    def call(self, asks: Sequence[Ask]) -> Iterator[tuple[Ask, Tensor | Exception]]:
        """One joint call for the first of `asks`, those that waited longest first; what it or its error gives each.

        Rows that memory does not hold together are tried again in smaller calls. An error of a joint call is the
        error of those asks alone that fail alone, too.
        """
        chosen = self._chosen(asks)
        try:
            answers = self._answer(chosen)
        except Exception as error:
            if len(chosen) == 1:
                yield chosen[0], self._told(chosen[0], error)
                return
            if is_out_of_memory(error):
                self._most[chosen[0].company] = sum(a.rows for a in chosen) // 2
        else:
            yield from zip(chosen, answers)
            return
        for ask in chosen:
            yield from self.call([ask])

    def alone(self, ask: Ask) -> Tensor:
        """The estimates for one ask, at once."""
        return self._answer([ask])[0]

    def _answer(self, asks: Sequence[Ask]) -> list[Tensor]:
        rows = sum(a.rows for a in asks)
        self.calls = [*self.calls[-999:], rows]
        guides = [a.guide for a in asks]
        if self._last is None or self._last[0] != guides:
            self._last = (guides, Told.of(guides))
        if self.costs is None and self.called is None:
            return answer(asks, self._last[1])
        began = _now(asks[0].x.device)
        found = answer(asks, self._last[1])
        seconds = _now(asks[0].x.device) - began
        if self.costs is not None and not asks[0].alone:
            self.costs.add(asks[0].company, rows, seconds)
        if self.called is not None:
            self.called(rows, seconds)
        return found

    def _chosen(self, asks: Sequence[Ask]) -> list[Ask]:
        first = asks[0]
        company = [a for a in asks if a.company == first.company]
        if len(company) == 1:
            return company
        controls = max(len(a.controls) for a in company)
        most = fitting_rows(first.model, first.x.shape, sum(a.rows for a in company), controls)
        most = min(most, self._most.get(first.company, most))
        if self.costs is not None:
            most = min(most, self.costs.most(first.company, first.rows, min(most, sum(a.rows for a in company))))
        chosen, rows, length, longest = [first], first.rows, first.tokens, first.tokens
        for ask in company[1:]:
            if rows + ask.rows > most:
                break
            joined = math.lcm(length, ask.tokens)
            if joined > REPEATED * max(longest, ask.tokens):
                continue  # its turn comes: prompts of 3 and 4 chunks would be repeated to 12
            chosen.append(ask)
            rows, length, longest = rows + ask.rows, joined, max(longest, ask.tokens)
        return chosen

    @staticmethod
    def _told(ask: Ask, error: Exception) -> Exception:
        height, width = (s * ask.model.autoencoder.config.factor for s in ask.x.shape[2:])
        return out_of_memory(f"drawing {width}x{height}") if is_out_of_memory(error) else error


def _now(device: torch.device) -> float:
    """Seconds of a clock, when all that was begun on `device` is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
