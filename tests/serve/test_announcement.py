"""How a server is found, and that one which cannot be found serves."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import pytest

from darkroom.serve.announcement import Announcement, announced, find_server

SERVER = Announcement("http://127.0.0.1:1", "secret", os.getpid(), {"m": "m"}, (), (), (), "cpu", "float32")


def test_a_server_is_found_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with announced(SERVER):
        found = find_server()
        assert found is not None
        assert (found.address, found.token) == (SERVER.address, SERVER.token)
        assert stat.S_IMODE((tmp_path / "darkroom" / "server.json").stat().st_mode) == 0o600
    assert find_server() is None


@pytest.mark.parametrize("folder", ["/dev/null", "file"])
def test_where_nothing_can_be_written_it_serves_unfound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, folder: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / folder))
    with caplog.at_level(logging.WARNING, "darkroom.serve"), announced(SERVER):
        assert find_server() is None
    assert "do not find the server" in caplog.text
