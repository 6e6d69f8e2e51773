"""Who may ask: token, host and origin of every request, limits on its size and rate, safe headers on every answer."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ["Guard", "GuardConfig", "error_body"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = ("/health", "/ready")  # to probes, without a token
SAFE = ("GET", "HEAD", "OPTIONS")
BURST = 10  # times the rate
CLIENTS = 10_000  # whose rates are remembered
NO_TOKEN = b"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Darkroom</title>
<body style="font: 1rem/1.6 system-ui; max-width: 40rem; margin: 4rem auto; padding: 0 1rem; color-scheme: light dark">
<h1>This page needs a token</h1>
<p>When the server started it printed an address that ends in <code>/?token=...</code>. Open that address once; this
browser then keeps the token.</p>
<p>The token also stands in the file <code>token</code> in the server's folder, by default
<code>~/.local/share/darkroom/server</code>.</p>
</html>
"""
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"content-security-policy": (
        b"default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
        b"object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
}


def error_body(message: str, kind: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """What every error of the server looks like, as OpenAI has it."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


@dataclass(frozen=True)
class GuardConfig:
    """`tokens`: to the client that each stands for. `hosts`: names, besides addresses and localhost, under which the
    server may be asked. `body`: bytes; `rate`: requests that change something, a second and client."""

    tokens: Mapping[str, str]
    hosts: Iterable[str] = ()
    body: int = 48 << 20
    rate: float = 20.0


class Guard:
    """In front of `app`. Who is let in stands in the scope as `client_name`."""

    def __init__(self, app: App, config: GuardConfig) -> None:
        self.app, self.config = app, config
        self._buckets: dict[str, tuple[float, float]] = {}  # what is left, and when that was said

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        send = _with_headers(send)
        if not self._is_own_host(headers.get("host", "")):
            await _refuse(send, 421, "the server is not asked under this name; give it with --host-name", "wrong_host")
            return
        if scope["path"] in OPEN:
            await self.app(scope, receive, send)
            return
        if scope["path"] == "/" and (token := _query_token(scope)) is not None:
            await self._let_in(scope, token, send)
            return
        client = self._client(scope, headers)
        if client is None and scope["path"] == "/" and "text/html" in headers.get("accept", ""):
            await _answer(send, 401, NO_TOKEN, b"text/html; charset=utf-8")
            return
        if client is None:
            await _refuse(send, 401, "a token is expected: Authorization: Bearer TOKEN", "invalid_api_key")
            return
        if scope["method"] not in SAFE:
            if not _is_same_origin(headers):
                await _refuse(send, 403, "a page of another origin may not change anything here", "wrong_origin")
                return
            if (wait := self._wait(client)) > 0:
                await _refuse(send, 429, "too many requests; wait a little", "rate_limit_exceeded", wait)
                return
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self.config.body:
            await _refuse(send, 413, f"a request has at most {self.config.body} bytes", "too_large")
            return
        scope["client_name"] = client
        await self._through(scope, _limited(receive, self.config.body), send)

    async def _through(self, scope: Scope, receive: Receive, send: Send) -> None:
        """To the application. Requests that are under way when the server has to end are told so."""
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except asyncio.CancelledError:  # by uvicorn, which would log its traceback as an error of the application
            if not begun:
                await _refuse(send, 503, "the server is ending; its jobs go on at the next start", "shutting_down", 5)

    def _is_own_host(self, host: str) -> bool:
        """Names that an attacker's name server could point here are refused; addresses cannot be borrowed."""
        name = urlsplit(f"//{host}").hostname or ""
        if name == "localhost" or name in self.config.hosts:
            return True
        try:
            ip_address(name)
        except ValueError:
            return False
        return True

    def _client(self, scope: Scope, headers: Mapping[str, str]) -> str | None:
        """Whose token comes with the request, as a bearer, a password, or a cookie of this port."""
        kind, _, value = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self._owner(value.strip())
        if kind.lower() == "basic":
            try:
                user, _, password = base64.b64decode(value).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                return None
            return self._owner(password) or self._owner(user)
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return None
        morsel = cookies.get(_cookie(scope))
        return None if morsel is None else self._owner(morsel.value)

    def _owner(self, token: str) -> str | None:
        given = token.encode()
        found = [name for known, name in self.config.tokens.items() if hmac.compare_digest(known.encode(), given)]
        return found[0] if found else None

    async def _let_in(self, scope: Scope, token: str, send: Send) -> None:
        """The token in the page's address becomes a cookie, so that it stands in no history for long."""
        if self._owner(token) is None:
            await _refuse(send, 401, "the token in the address is not this server's", "invalid_api_key")
            return
        cookie = f"{_cookie(scope)}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=31536000"
        headers = [(b"location", b"/"), (b"set-cookie", cookie.encode()), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    def _wait(self, client: str) -> float:
        """Seconds until the client may ask again; 0 for at once."""
        rate, now = self.config.rate, time.monotonic()
        left, then = self._buckets.get(client, (rate * BURST, now))
        left = min(rate * BURST, left + (now - then) * rate)
        if len(self._buckets) >= CLIENTS:
            self._buckets.clear()
        self._buckets[client] = (max(left - 1, 0.0), now) if left >= 1 else (left, now)
        return 0.0 if left >= 1 else (1 - left) / rate


def _cookie(scope: Scope) -> str:
    """Cookies do not know ports; two servers on one machine must not log each other out."""
    return f"darkroom_{(scope.get('server') or ('', 0))[1]}"


def _query_token(scope: Scope) -> str | None:
    found = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token")
    return found[0] if found else None


def _is_same_origin(headers: Mapping[str, str]) -> bool:
    """Programs send no origin; browsers do with everything that changes something."""
    origin = headers.get("origin")
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    return origin is None or urlsplit(origin).netloc == headers.get("host")


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = {name.lower() for name, _ in message.get("headers", ())}
            more = [(name, value) for name, value in HEADERS.items() if name not in own]
            message["headers"] = [*message.get("headers", ()), *more]
        await send(message)

    return sending


def _limited(receive: Receive, most: int) -> Receive:
    """Bodies without a length are counted as they come; a longer one ends as if the client had gone."""
    got = 0

    async def receiving() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        return {"type": "http.disconnect"} if got > most else message

    return receiving


async def _refuse(send: Send, status: int, message: str, code: str, after: float | None = None) -> None:
    body = json.dumps(error_body(message, "invalid_request_error" if status < 500 else "server_error", code)).encode()
    more = [] if after is None else [(b"retry-after", str(max(1, round(after))).encode())]
    await _answer(send, status, body, b"application/json", more)


async def _answer(send: Send, status: int, body: bytes, kind: bytes, more: Iterable[tuple[bytes, bytes]] = ()) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *more]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
