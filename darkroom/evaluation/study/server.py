"""The page before voters: an HTTP server of the standard library, on loopback unless told otherwise, behind a token."""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from darkroom.errors import InputError, cause
from darkroom.evaluation.study.collection import Collection
from darkroom.evaluation.study.design import Design
from darkroom.evaluation.study.page import page, shown
from darkroom.evaluation.study.trials import next_trial, regular_count
from darkroom.evaluation.study.votes import Vote, Votes
from darkroom.json_file import real

__all__ = ["StudyServer"]

MAX_BODY = 4096
LOOPBACK = ("127.0.0.1", "localhost", "::1")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}


class StudyServer(ThreadingHTTPServer):
    """Serves one study. `port` 0: any free one. `address` is what to open in a browser."""

    daemon_threads = True

    def __init__(
        self, design: Design, collection: Collection, votes: Votes, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.design, self.collection, self.votes = design, collection, votes
        self.exhibits = design.exhibits()
        self.token = secrets.token_urlsafe(16)
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise InputError(f"nothing can be served at {host}:{port}: {cause(error)}") from None

    @property
    def address(self) -> str:
        return f"http://{self.server_address[0]}:{self.server_address[1]}/?token={self.token}"

    def next_for(self, rater: str) -> dict[str, Any]:
        """The pair that `rater` has not answered yet, or a new one, as the page takes it."""
        with self.votes.lock:
            mine = self.votes.of(rater)
            if mine and mine[-1].answer is None:
                return self._told(mine[-1], mine)
            trial = next_trial(self.design, rater, mine, self.votes.shown())
            if trial is None:
                return {"done": len(mine), "of": len(mine)}
            return self._told(self.votes.show(rater, trial), mine)

    def again_for(self, rater: str) -> dict[str, Any]:
        """The pair that `rater` has answered last, to be answered anew."""
        mine = self.votes.of(rater)
        answered = [v for v in mine if v.answer is not None]
        return self._told(answered[-1], answered[:-1]) if answered else self.next_for(rater)

    def _told(self, vote: Vote, before: list[Vote]) -> dict[str, Any]:
        others = [v for v in before if v.id != vote.id]
        left = regular_count(self.design) - sum(v.trial.kind == "vote" for v in others)
        done = len(others)
        return {**shown(self.design, vote.trial), "id": vote.id, "done": done, "of": done + max(1, left)}


class _Handler(BaseHTTPRequestHandler):
    server: StudyServer
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        self._respond(self._get)

    def do_POST(self) -> None:
        self._respond(self._post)

    def _respond(self, answer: Callable[[], None]) -> None:
        try:
            answer()
        except InputError as error:
            self._fail(400, str(error))

    def _get(self) -> None:
        url = _split(self.path)
        if not self._is_for_us():
            return self._fail(403, "this address is not served")
        given = parse_qs(url.query).get("token")
        if url.path == "/" and given and hmac.compare_digest(given[0].encode(), self.server.token.encode()):
            cookie = f"study={self.server.token}; HttpOnly; SameSite=Strict; Path=/"
            return self._send(303, b"", "text/plain", {"Location": "/", "Set-Cookie": cookie})
        if not self._is_known():
            return self._fail(401, "open the address that `darkroom compare` printed")
        if url.path == "/":
            return self._send(200, page().encode(), "text/html; charset=utf-8", {"Cache-Control": "no-store"})
        if url.path.startswith("/picture/"):
            exhibit = self.server.exhibits.get(url.path.removeprefix("/picture/"))
            if exhibit is not None:
                data = self.server.collection.png(exhibit)
                return self._send(200, data, "image/png", {"Cache-Control": "private, max-age=86400, immutable"})
        return self._fail(404, "there is nothing here")

    def _post(self) -> None:
        if not self._is_for_us():
            return self._fail(403, "this address is not served")
        if not self._is_known():
            return self._fail(401, "open the address that `darkroom compare` printed")
        return self._json(self._answered(_split(self.path).path, self._body()))

    def _answered(self, path: str, said: dict[str, Any]) -> dict[str, Any]:
        rater = said.get("rater")
        if not isinstance(rater, str) or not 1 <= len(rater) <= 64 or not rater.isalnum():
            raise InputError("rater is missing, expected are 1 to 64 letters and digits")
        if path == "/next":
            return self.server.next_for(rater)
        if path == "/again":
            return self.server.again_for(rater)
        if path != "/answer" or not isinstance(said.get("id"), int):
            raise InputError("expected is /next, /again, or /answer with an id")
        self.server.votes.answer(said["id"], rater, str(said.get("answer")), real(said.get("seconds")))
        return self.server.next_for(rater)

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or len(length) > 9 or int(length) > MAX_BODY:
            self.close_connection = True
            raise InputError(f"the body has {length or 'unknown'} bytes, accepted are at most {MAX_BODY}")
        try:
            said = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            raise InputError("the body is not JSON") from None
        if not isinstance(said, dict):
            raise InputError("the body is no JSON object")
        return said

    def _is_for_us(self) -> bool:
        """No page of another site may use this server: names that resolve here, and requests from elsewhere."""
        host = _split(f"//{self.headers.get('Host', '')}")
        origin = self.headers.get("Origin")
        if self.server.server_address[0] in LOOPBACK and host.hostname not in LOOPBACK:
            return False
        return origin is None or _split(origin).netloc == host.netloc

    def _is_known(self) -> bool:
        try:
            morsel = SimpleCookie(self.headers.get("Cookie", "")).get("study")
        except CookieError:
            return False
        return morsel is not None and hmac.compare_digest(morsel.value.encode(), self.server.token.encode())

    def _json(self, value: dict[str, Any], status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), "application/json", {"Cache-Control": "no-store"})

    def _fail(self, status: int, message: str) -> None:
        self.close_connection = True  # a body may be left unread
        self._json({"error": {"message": message}}, status)

    def _send(self, status: int, data: bytes, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, **headers, "Content-Type": kind, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Voters leave no lines on the terminal."""


def _split(address: str) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError:
        raise InputError("the address cannot be read") from None
