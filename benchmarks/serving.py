"""`python -m benchmarks.serving`: what joining pictures of several clients brings, over HTTP on this machine.

The same number of pictures is asked for in turns: one by one (a single client), as equal requests (other seeds) at
once, as requests that differ in prompt, steps, sampler and guidance at once, with as many rows and steps in all.
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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from socket import create_server
from typing import Any

import uvicorn

from darkroom.checkpoints.model import load_model
from darkroom.serve.app import make_app
from darkroom.serve.guard import GuardConfig
from darkroom.serve.service import Service, ServiceConfig

TOKEN = "benchmark"
WORDS = ("red", "blue", "green", "yellow", "black", "white", "pink", "brown")
THINGS = ("house", "tree", "boat", "car", "kite", "cat", "dog", "cow")
SAMPLERS = ("Euler", "DDIM", "DPM++ 2M", "UniPC")  # one evaluation a step


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("-m", "--model", default="picturebook")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--pictures", type=int, default=8, help="of each way and turn")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--size", type=int, default=None, help="pixels a side; default: the model's")
    parser.add_argument("--turns", type=int, default=3)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, served(a.model, a.device, Path(folder), max(a.clients)) as address:
        ask(address, {"prompt": "warm", "steps": 1})
        print("| clients | asked | pictures a second | median, s | p99, s |\n|---|---|---|---|---|")
        for clients in a.clients:
            found: dict[str, list[tuple[float, list[float]]]] = {"equal": [], "unlike": []}
            for turn in range(a.turns):
                for kind, times in found.items():
                    times.append(measured(address, list(requests(kind, a.pictures, a.steps, a.size, turn)), clients))
            for kind, times in found.items():
                speed = statistics.median(a.pictures / whole for whole, _ in times)
                each = sorted(t for _, one in times for t in one)
                p99 = each[min(len(each) - 1, round(0.99 * len(each)))]
                print(f"| {clients} | {kind} | {speed:.2f} | {statistics.median(each):.2f} | {p99:.2f} |", flush=True)


def requests(kind: str, count: int, steps: int, size: int | None, turn: int) -> Iterator[dict[str, Any]]:
    """`count` requests of two rows a step; unlike ones have more and fewer steps in pairs, `steps` on average."""
    rng = random.Random(turn)
    for i in range(count):
        request: dict[str, Any] = {"prompt": "a red house", "seed": 100 * turn + i, "steps": steps, "sampler": "Euler"}
        if size is not None:
            request |= {"width": size, "height": size}
        if kind == "unlike":
            request |= {
                "prompt": f"a {rng.choice(WORDS)} {rng.choice(THINGS)}",
                "steps": steps + (1 if i % 2 else -1),
                "sampler": rng.choice(SAMPLERS),
                "guidance_scale": rng.choice((2.0, 4.0, 7.0)),
            }
        yield request


def measured(address: str, asked: Sequence[dict[str, Any]], clients: int) -> tuple[float, list[float]]:
    """(Seconds for all, seconds of each), `clients` at a time."""

    def one(request: dict[str, Any]) -> float:
        begun = time.perf_counter()
        ask(address, request)
        return time.perf_counter() - begun

    begun = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        each = list(pool.map(one, asked))
    return time.perf_counter() - begun, each


def ask(address: str, request: dict[str, Any]) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    body = json.dumps({**request, "response_format": "url"}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{address}/v1/images/generations", body, headers)) as answer:
        answer.read()


@contextmanager
def served(model: str, device: str, folder: Path, most: int) -> Iterator[str]:
    """A server in this process; the address."""
    load: Callable[[], Any] = lambda: load_model(model, device)  # noqa: E731
    service = Service(ServiceConfig(folder, most=most, drain=0.0), {"model": load})
    app = make_app(service, GuardConfig({TOKEN: "benchmark"}, rate=1e6))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    with create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


if __name__ == "__main__":
    main()
