"""Requests on one model through an engine of their own: what the library, the command line and evaluation call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from darkroom.checkpoints.embeddings import EmbeddingFolders
from darkroom.engine.controls import ControlShelf
from darkroom.engine.desks import exact as alone
from darkroom.engine.engine import Draw, Engine, Ticket
from darkroom.engine.loras import LoraShelf
from darkroom.engine.memory import check_memory
from darkroom.engine.run import Desk, Picture, Progress, Run
from darkroom.prompts.embeddings import with_embeddings
from darkroom.prompts.syntaxes import SYNTAXES
from darkroom.requests.plan import Plan, plan
from darkroom.systems.build import LatentDiffusion
from darkroom.types import Request, Step

__all__ = ["Pipeline", "drawn"]

Events = Iterator[Progress | tuple[int, Picture]]


class Pipeline:
    """Draws requests on one system. Nothing is kept between runs: the same request gives the same picture, alone or in
    any company (within 1/255 of each pixel in float32; with `exact` to the bit, at the price of joint calls).

    `lora_folders`, `embedding_folders`, `control_folders`: where the LoRAs and textual-inversion embeddings that
    prompts name, and the networks of control units, are looked for; LoRAs and networks may be named by their path, too,
    unless `paths` is off.
    """

    def __init__(
        self,
        model: LatentDiffusion,
        lora_folders: Sequence[Path] = (),
        embedding_folders: Sequence[Path] = (),
        control_folders: Sequence[Path] = (),
        *,
        exact: bool = False,
        paths: bool = True,
    ) -> None:
        self.model = model.eval()
        self.shelf = LoraShelf(lora_folders, paths=paths)
        self.controls = ControlShelf(control_folders, paths=paths)
        self.embeddings = EmbeddingFolders(embedding_folders, model.system)
        self.exact = exact

    def generate(self, requests: Sequence[Request], *, batch_size: int = 8) -> list[Picture]:
        """The pictures of `requests`, in order."""
        done = dict(e for e in self.run(requests, batch_size=batch_size) if not isinstance(e, Progress))
        return [done[i] for i in range(len(requests))]

    def run(self, requests: Sequence[Request], *, batch_size: int = 8) -> Events:
        """Yield every sampler step and every picture with its request's number, as they come.

        All requests are checked before any work. Stop iterating to cancel. At most `batch_size` pictures are under way
        at once, fewer in a call where memory does not hold them. An error of one picture is raised when the others are
        finished.
        """
        plans = [self.checked(request) for request in requests]
        return drawn([partial(self.draw, p) for p in plans], batch_size=batch_size, exact=self.exact)

    def submit(self, engine: Engine, request: Request, listen: Callable[[Step, int], None] | None = None) -> Ticket:
        """`request` on an engine that others share; `InputError` at once where it cannot be drawn."""
        draw = partial(self.draw, self.checked(request))
        return engine.submit(alone(draw) if self.exact else draw, listen)

    def checked(self, request: Request) -> Plan:
        """The plan of `request`; `InputError` where it is wrong or does not fit memory."""
        p = self.planned(request)
        check_memory(self.model, p)
        return p

    def planned(self, request: Request) -> Plan:
        """The plan of `request` with embeddings in the places of their names; `InputError` where it is wrong."""
        p = plan(request, self.model.system)
        embeddings = self.embeddings.also(self.shelf.embeddings(p.prompt.loras, self.model))
        bare = SYNTAXES[request.prompt_syntax].bare_names
        return p.read(lambda prompt: with_embeddings(prompt, embeddings, bare=bare))

    def draw(self, p: Plan, desk: Desk) -> Picture:
        """The work of one picture."""
        return Run(p, self.model, self.shelf, self.controls, desk).picture()


def drawn(draws: Sequence[Draw], *, batch_size: int = 8, exact: bool = False) -> Events:
    """The events of `draws` on an engine of their own, numbered in their order."""
    events: list[Progress | tuple[int, Picture]] = []

    def listen(index: int, step: Step, pass_number: int) -> None:
        events.append(Progress(index, step, pass_number))

    with Engine(most=batch_size) as engine:
        tickets = [engine.submit(alone(draw) if exact else draw, partial(listen, i)) for i, draw in enumerate(draws)]
        told: set[int] = set()
        while engine.busy:
            engine.tick()
            for i, ticket in enumerate(tickets):
                if ticket.done and i not in told:
                    told.add(i)
                    if ticket.error is None:
                        events.append((i, ticket.result()))
            yield from events
            events.clear()
    for ticket in tickets:
        if ticket.error is not None:
            raise ticket.error
