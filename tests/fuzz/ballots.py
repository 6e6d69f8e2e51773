"""Cases for the page of a study: what voters' browsers, and others that find the port, may send."""

from __future__ import annotations

import json
import random
import socket
from pathlib import Path
from typing import Any

import numpy as np

from darkroom.errors import InputError
from darkroom.evaluation.study.collection import Collection
from darkroom.evaluation.study.design import Design, Item
from darkroom.evaluation.study.server import StudyServer
from darkroom.evaluation.study.votes import Votes
from tests.fuzz.mutation import NASTY, json_bytes, mutate_bytes
from tests.fuzz.run import Case

__all__ = ["ballots"]

WORDS = [b"[", b"]", b"%00", b"\xb2", b"9" * 5000, b"\r\n", b": ", b"//[", b"Content-Length: 99\r\n", b"Host: [\r\n"]
POSTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/next", {"rater": "me"}),
    ("/again", {"rater": "me"}),
    ("/answer", {"rater": "me", "id": 1, "answer": "left", "seconds": 2.5}),
)


def ballots(folder: Path) -> Case:
    """Requests to the handler itself, over a pair of sockets: what it raises is seen here."""
    design = Design(("a", "b"), (Item("x", "a cat", {"seed": 1}), Item("y")), ("quality", "prompt"))
    collection, votes = Collection(folder), Votes(folder / "votes.db")
    for candidate in (0, 1):
        for item in (0, 1):
            collection.put(candidate, item, np.zeros((8, 8, 3), np.uint8))
    server = StudyServer(design, collection, votes)
    server.socket.close()
    gets = ["/", f"/?token={server.token}", *(f"/picture/{name}" for name in list(server.exhibits)[:3])]

    def request(rng: random.Random) -> bytes:
        method, path, body = "GET", rng.choice(gets), b""
        if rng.random() < 0.6:
            method = "POST"
            path, said = rng.choice(POSTS)
            body = json_bytes(said, rng) if rng.random() < 0.8 else json.dumps(said).encode()
        if rng.random() < 0.2:
            path += rng.choice(NASTY[:6]).encode("utf-8", "replace").decode("latin-1")
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: study={server.token}\r\n"
        head += f"Content-Length: {len(body)}\r\nOrigin: http://127.0.0.1\r\nConnection: close\r\n\r\n"
        start = head.encode("latin-1")
        return (mutate_bytes(start, rng, WORDS) if rng.random() < 0.5 else start) + body

    def case(rng: random.Random) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.sendall(request(rng))
            ours.shutdown(socket.SHUT_WR)
            server.RequestHandlerClass(theirs, ("127.0.0.1", 0), server)
            theirs.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: ours.recv(1 << 16), b""))
        status, _, rest = answer.partition(b"\r\n")
        if b" 200 " in status or b" 303 " in status or not answer:
            return
        body = rest.partition(b"\r\n\r\n")[2]
        assert b" 500 " not in status, answer[:200]
        raise InputError(json.loads(body)["error"]["message"] if body.startswith(b"{") else "no request of HTTP")

    return case
