"""Many unlike clients at once: nothing is lost, doubled or mixed, whatever others do."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from darkroom.checkpoints.model import load_model
from darkroom.library import Model
from tests.serve.load import ENDS, Drawn, all_of, check


@pytest.mark.slow
def test_unlike_clients_get_what_each_would_get_alone(client: httpx.Client, tiny_folder: Path) -> None:
    drawn: Drawn = []
    ends: list[str] = []
    token = client.headers["Authorization"].removeprefix("Bearer ")
    for thread in all_of(6, str(client.base_url), token, drawn, ends, lambda i: i < 4):
        thread.join(240)
    assert len(ends) == 24
    assert set(ends) <= ENDS
    assert len(drawn) >= ends.count("done") > 0
    check(drawn, Model(load_model(str(tiny_folder))))
    end = time.monotonic() + 240
    while left := client.get("/v1/jobs", params={"state": "queued,running"}).json()["data"]:  # of lines just dropped
        assert time.monotonic() < end, left
        time.sleep(0.05)
