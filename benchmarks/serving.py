"""`python -m benchmarks.serving`: what joining pictures of several clients brings, over HTTP on this machine.

Ways take turns until a work's seconds are spent: the library without a server, one client that asks one by one, several
that ask for equal pictures (of other seeds) or unlike ones (prompt, steps, sampler and guidance differ; as many rows
and steps in all) at once, and the peer's pipeline behind a server of the same kind. Beside the time stands what the
process used of the processors: it tells ways apart where other programs disturb the clock. "Rows a call" is what the
server joined on average, two for each picture: where joining does not pay it learns so and stays at two.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from socket import create_server
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from fastapi.responses import Response

from benchmarks.checkpoint import write_checkpoint
from benchmarks.measure import machine
from benchmarks.pictures import by_diffusers, load_diffusers
from darkroom.checkpoints.load import load_checkpoint
from darkroom.checkpoints.model import LoadedModel, load_model
from darkroom.library import Model
from darkroom.pictures.picture_file import encoded
from darkroom.requests.change import changed
from darkroom.serve.app import make_app
from darkroom.serve.guard import GuardConfig
from darkroom.serve.service import Service, ServiceConfig
from darkroom.systems.narrow import narrowed
from darkroom.systems.system import SYSTEMS
from darkroom.types import Request

__all__ = ["PeerServer", "Way", "Work", "prepared", "requests", "server"]

TOKEN = "benchmark"
WORDS = ("red", "blue", "green", "yellow", "black", "white", "pink", "brown")
THINGS = ("house", "tree", "boat", "car", "kite", "cat", "dog", "cow")
SAMPLERS = ("Euler", "DDIM", "DPM++ 2M", "UniPC")  # one evaluation a step
Ask = Callable[[Mapping[str, Any]], None]  # get one picture
Calls = Callable[[], tuple[int, float]]


@dataclass(frozen=True)
class Work:
    """Pictures of one size by one model; `narrow`: by a system of few channels and random weights, and by the peer."""

    model: str
    side: int
    steps: int
    narrow: bool


WORKS = {
    "shipped-128": Work("picturebook", 128, 8, narrow=False),
    "narrow-512": Work("sd-v1-5", 512, 4, narrow=True),
    "narrow-1024": Work("sd-v1-5", 1024, 2, narrow=True),
}


@dataclass
class Way:
    """One way of asking, and what it took: seconds, and seconds of processors, of a picture in each turn; and from
    asking for a picture until it was there. `calls`: (how often the network was called so far, with how many rows).
    """

    who: str
    kind: str  # of `requests`
    clients: int
    ask: Ask
    calls: Calls | None = None
    turns: list[float] = field(default_factory=list)
    used: list[float] = field(default_factory=list)
    each: list[float] = field(default_factory=list)
    called: list[tuple[int, float]] = field(default_factory=list)

    def turn(self, asked: Sequence[Mapping[str, Any]]) -> None:
        """Ask for all of `asked`, `clients` at a time."""

        def one(request: Mapping[str, Any]) -> float:
            begun = time.perf_counter()
            self.ask(request)
            return time.perf_counter() - begun

        before = (0, 0.0) if self.calls is None else self.calls()
        begun, used = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(self.clients) as pool:
            self.each += pool.map(one, asked)
        self.turns.append((time.perf_counter() - begun) / len(asked))
        self.used.append((time.process_time() - used) / len(asked))
        if self.calls is not None:
            times, rows = self.calls()
            self.called.append((times - before[0], rows - before[1]))

    def line(self, base: Way) -> str:
        """A row of the table. Throughput beside that of `base`, in the same turns."""
        times = statistics.median(b / t for b, t in zip(base.turns, self.turns))
        used = statistics.median(b / t for b, t in zip(base.used, self.used))
        each = sorted(self.each)
        p99 = each[min(len(each) - 1, round(0.99 * len(each)))]
        speed, middle = 1 / statistics.median(self.turns), statistics.median(each)
        joined = sum(rows for _, rows in self.called) / max(1, sum(times for times, _ in self.called))
        rows = f"{joined:.1f}" if self.called else ""
        found = (f"{speed:.2f}", f"{times:.2f}", f"{used:.2f}", rows, f"{middle:.2f}", f"{p99:.2f}", str(len(each)))
        return f"| {self.who} | {self.kind} | {self.clients} | {' | '.join(found)} |"


HEAD = (
    "| who | asked | clients | pictures a second | × one by one | × in processor time | rows a call "
    "| median, s | p99, s | pictures |\n"
    "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|"
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("work", nargs="*", help=f"of {', '.join(WORKS)}; default: all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--pictures", type=int, default=8, help="of each way and turn, at least one of each client")
    parser.add_argument("--seconds", type=float, default=60, help="for each work; every way has one turn at least")
    parser.add_argument("--steps", type=int, help="in place of each work's own")
    a = parser.parse_args()
    if unknown := [name for name in a.work if name not in WORKS]:
        parser.error(f"unknown work {unknown[0]!r}; known are: {', '.join(WORKS)}")
    print(machine(torch.device(a.device)), flush=True)
    for name in a.work or WORKS:
        work = replace(WORKS[name], steps=a.steps or WORKS[name].steps)
        with tempfile.TemporaryDirectory() as folder, prepared(work, a.device, Path(folder), a.clients) as ways:
            for way in ways:
                way.ask({**next(requests(work, "equal", 1, 0)), "steps": 1})  # the first pays for much
            end, turn = time.monotonic() + a.seconds, 0
            while turn == 0 or time.monotonic() < end:
                for way in ways if turn % 2 == 0 else reversed(ways):
                    way.turn(list(requests(work, way.kind, max(a.pictures, way.clients), turn)))
                turn += 1
        print(f"\n{name}: {work.side}², {work.steps} steps, {turn} turns\n\n{HEAD}")
        base = next(way for way in ways if way.who == "darkroom" and way.clients == 1)
        print("\n".join(way.line(base) for way in ways), flush=True)


def requests(work: Work, kind: str, count: int, turn: int) -> Iterator[dict[str, Any]]:
    """`count` requests of two rows a step; unlike ones have more and fewer steps in pairs, `work.steps` on average."""
    rng = random.Random(turn)
    for i in range(count):
        request: dict[str, Any] = {"prompt": "a red house", "seed": 100 * turn + i, "sampler": "DDIM"}
        request |= {"width": work.side, "height": work.side, "steps": work.steps, "guidance_scale": 4.0}
        if kind == "unlike":
            request |= {
                "prompt": f"a {rng.choice(WORDS)} {rng.choice(THINGS)}",
                "steps": work.steps + (1 if i % 2 else -1),
                "sampler": rng.choice(SAMPLERS),
                "guidance_scale": rng.choice((2.0, 4.0, 7.0)),
            }
        yield request


@contextmanager
def prepared(work: Work, device: str, folder: Path, clients: Sequence[int]) -> Iterator[list[Way]]:
    """The ways of one work; their servers are there as long as the context."""
    with ExitStack() as stack:
        peer: list[Way] = []
        if work.narrow:
            system = narrowed(SYSTEMS[work.model])
            stage = replace(
                system.autoencoder, decoder_res_blocks=2
            )  # the peer's decoder has one more than its encoder
            system = replace(system, autoencoder=stage)
            checkpoint = write_checkpoint(system, folder)
            read = load_checkpoint(checkpoint.file, torch.float32, device, system=system, channels_last=True)
            loaded = LoadedModel(read.model, work.model, read.hashed)
            theirs = PeerServer(load_diffusers(checkpoint, system, torch.device(device)))
            ask = asking(stack.enter_context(server(theirs.app())), "/draw")
            peer = [Way("diffusers", "equal", count, ask) for count in sorted({1, clients[-1]})]
        else:
            loaded = load_model(work.model, device)
        model = Model(loaded)
        service = Service(ServiceConfig(folder / "server", drain=0.0), {"model": lambda: loaded})
        app = make_app(service, GuardConfig({TOKEN: "benchmark"}, rate=1e6))
        ask = asking(stack.enter_context(server(app)), "/v1/images/generations")
        while service.residents.shown()[0]["state"] != "loaded":  # it takes the weights, also the library's, to memory
            time.sleep(0.05)
        calls = service.worker.metrics.call_rows.seen

        def by_library(request: Mapping[str, Any]) -> None:
            model.draw(changed(Request(), request)).save(folder / "picture.png")

        yield [
            Way("library", "one by one", 1, by_library),
            Way("darkroom", "one by one", 1, ask, calls),
            *(Way("darkroom", kind, n, ask, calls) for n in clients if n > 1 for kind in ("equal", "unlike")),
            *peer,
        ]


class PeerServer:
    """The peer's pipeline behind HTTP, as its own example of a server has it: one picture after another."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline, self._lock = pipeline, threading.Lock()

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/draw")
        def draw(settings: dict[str, Any]) -> Response:
            known = {name: value for name, value in settings.items() if name != "response_format"}
            with self._lock:
                drawn = by_diffusers(self._pipeline, changed(Request(), known))
            return Response(encoded("png", drawn.pixels, "", 95), media_type="image/png")

        return app


def asking(address: str, path: str) -> Ask:
    """Asks a server for one picture and reads its answer."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}

    def ask(request: Mapping[str, Any]) -> None:
        body = json.dumps({**request, "response_format": "url"}).encode()
        with urllib.request.urlopen(urllib.request.Request(address + path, body, headers)) as answer:
            answer.read()

    return ask


@contextmanager
def server(app: Any) -> Iterator[str]:
    """A server in this process; the address."""
    running = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    with create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            running.should_exit = True
            thread.join()


if __name__ == "__main__":
    main()
