"""Who is let in, over a real socket."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from typing import Any

import httpx
import pytest

from darkroom.serve.guard import Guard, GuardConfig

TOKEN = "a-token-for-tests"
HEADERS = [(b"host", b"localhost"), (b"authorization", f"Bearer {TOKEN}".encode())]


@pytest.fixture
def stranger(shared_client: httpx.Client) -> httpx.Client:
    return httpx.Client(base_url=shared_client.base_url)


def test_a_token_is_asked_for_everywhere_but_by_probes(stranger: httpx.Client) -> None:
    for path in ("/", "/v1/jobs", "/v1/pictures/x.png", "/openapi.json", "/metrics", "/nothing"):
        answer = stranger.get(path)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
    assert stranger.get("/v1/jobs", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert stranger.get("/health").json() == {"status": "ok"}
    assert stranger.get("/ready").status_code == 200


def test_a_browser_without_the_token_is_told_where_it_is(stranger: httpx.Client) -> None:
    answer = stranger.get("/", headers={"Accept": "text/html,*/*"})
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "/?token=" in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_request_under_way_is_told_that_the_server_ends() -> None:
    async def asks() -> list[Any]:
        told: list[Any] = []

        async def waits(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(60)

        async def send(message: Any) -> None:
            told.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b""}

        scope = {"type": "http", "path": "/v1/jobs", "method": "GET", "headers": HEADERS}
        asking = asyncio.create_task(Guard(waits, GuardConfig({TOKEN: "tester"}))(scope, receive, send))
        await asyncio.sleep(0)
        asking.cancel()
        await asking
        return told

    start, body = asyncio.run(asks())
    assert start["status"] == 503
    assert json.loads(body["body"])["error"]["code"] == "shutting_down"


def test_a_password_and_a_cookie_are_tokens_too(stranger: httpx.Client) -> None:
    for pair in (f"user:{TOKEN}", f"{TOKEN}:"):
        basic = {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}
        assert stranger.get("/v1/jobs", headers=basic).status_code == 200
    opened = stranger.get("/", params={"token": TOKEN})
    assert opened.status_code == 303
    assert opened.headers["location"] == "/"
    assert "HttpOnly; SameSite=Strict" in opened.headers["set-cookie"]
    assert stranger.get("/v1/jobs").status_code == 200  # the client keeps the cookie
    assert stranger.get("/", params={"token": "wrong"}).status_code == 401


def test_names_and_origins_of_others_are_refused(shared_client: httpx.Client) -> None:
    assert shared_client.get("/v1/jobs", headers={"Host": "evil.example"}).status_code == 421
    assert shared_client.get("/v1/jobs", headers={"Host": "192.168.1.5:80"}).status_code == 200
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = shared_client.post("/v1/queue", json={"paused": False}, headers=headers)
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "wrong_origin"
    own = {"Origin": str(shared_client.base_url).rstrip("/")}
    assert shared_client.post("/v1/queue", json={"paused": False}, headers=own).status_code == 200


def test_large_bodies_are_refused(shared_client: httpx.Client) -> None:
    answer = shared_client.post("/v1/uploads", content=bytes(50 << 20))
    assert answer.status_code == 413
    assert answer.headers["x-content-type-options"] == "nosniff"
