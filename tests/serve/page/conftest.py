"""A server that can go away and come back at its place, and the page of it in a browser."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import torch
import uvicorn
from forked import reserved_port
from narrow import narrow
from selenium.common.exceptions import StaleElementReferenceException

from darkroom.checkpoints.model import load_model
from darkroom.checkpoints.model_folders import ModelFolders
from darkroom.checkpoints.native import save_system
from darkroom.serve.app import make_app
from darkroom.serve.guard import GuardConfig
from darkroom.serve.service import Service, ServiceConfig
from darkroom.systems.build import build
from darkroom.systems.system import System

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

TOKEN = "a-token-for-the-page"


def until(holds: Callable[[], object], seconds: float = 240) -> None:
    """Wait until it holds; what is drawn anew while it is looked at is looked at again."""
    end = time.monotonic() + seconds
    while True:
        with suppress(StaleElementReferenceException):
            if holds():
                return
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.03)


class Server:
    """The tiny model behind HTTP; `stop` and `start` again keep the address and all jobs."""

    def __init__(self, folder: Path, model: Path, name: str = "tiny", folders: ModelFolders | None = None) -> None:
        self.model, self.name = model, name
        self.config = ServiceConfig(folder, folders=folders or ModelFolders(), drain=0.0)
        self.held = ExitStack()
        self.port = self.held.enter_context(reserved_port())
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=240)

    def start(self) -> None:
        service = Service(self.config, {self.name: lambda: load_model(str(self.model))})
        app = make_app(service, GuardConfig({TOKEN: "tester"}, rate=1e6))
        # Lines are kept, as in `serving`.
        config = uvicorn.Config(
            app, port=self.port, log_config=None, timeout_graceful_shutdown=1, timeout_keep_alive=600
        )
        self.uvicorn = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.uvicorn.run)
        self.thread.start()
        until(lambda: self.uvicorn.started)

    def stop(self) -> None:
        self.uvicorn.should_exit = True
        self.thread.join(240)

    def pictures(self) -> list[dict[str, Any]]:
        return self.http.get("/v1/pictures").json()["data"]

    def jobs(self) -> list[dict[str, Any]]:
        return self.http.get("/v1/jobs").json()["data"]

    def pause(self, paused: bool) -> None:
        self.http.post("/v1/queue", json={"paused": paused}).raise_for_status()

    def submit(self, count: int = 1, **request: Any) -> dict[str, Any]:
        return self.http.post("/v1/jobs", json={"request": request, "count": count}).raise_for_status().json()


class Page:
    """One window."""

    def __init__(self, browser: Chrome) -> None:
        self.browser = browser

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements("css selector", selector)

    def one(self, selector: str) -> WebElement:
        return self.browser.find_element("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        return [e.text for e in self.all(selector)]

    def keys(self, *keys: str) -> None:
        """To whatever has the focus."""
        self.browser.switch_to.active_element.send_keys(*keys)

    def waiting(self) -> list[str]:
        return self.browser.execute_script(
            "return [...document.querySelectorAll('#queue .said')].map((e) => e.textContent)"
        )

    until = staticmethod(until)

    def with_one(self, selector: str, act: Callable[[WebElement], None]) -> None:
        """Of what is drawn anew at each event, perhaps between the look for it and the act."""
        until(lambda: act(self.one(selector)) is None)

    def open(self, server: Server) -> None:
        self.browser.get(f"{server.url}/?token={TOKEN}")
        until(lambda: self.all("#f-prompt") and self.all("#model option"))


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path, tiny_folder: Path, control_folder: Path) -> Iterator[Server]:
    """Of the tiny model, or of the narrow copy of the system that the test's parameter names."""
    name, model = getattr(request, "param", None), tiny_folder
    if name is not None:
        model = tmp_path / "model"
        save_system(build(_with_names(narrow(name))).eval(), model, {}, torch.float32)
    server = Server(tmp_path / "server", model, name or "tiny", ModelFolders(controlnet=(control_folder,)))
    server.start()
    yield server
    server.stop()
    server.http.close()
    server.held.close()


def _with_names(system: System) -> System:
    """Its first classes called "thing 0" to "thing 8"."""
    names = tuple(f"thing {n}" for n in range(9))
    return replace(system, embedders=tuple(replace(e, names=names) for e in system.embedders))  # type: ignore[type-var]


@pytest.fixture
def page(browser: Chrome, server: Server) -> Iterator[Page]:
    page = Page(browser)
    page.open(server)
    yield page
    browser.execute_script("localStorage.clear()")
    wrong = [e for e in browser.get_log("browser") if e["level"] == "SEVERE" and "Failed to load" not in e["message"]]
    assert not [e for e in wrong if "net::" not in e["message"]]
