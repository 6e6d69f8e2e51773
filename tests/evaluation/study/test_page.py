"""The page of a study in a browser: before a server, and as one file."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from darkroom.evaluation.study.collection import Collection
from darkroom.evaluation.study.design import Design, Item
from darkroom.evaluation.study.page import static_page, take_votes
from darkroom.evaluation.study.report import report
from darkroom.evaluation.study.server import StudyServer
from darkroom.evaluation.study.votes import Votes

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

PROMPT = "a <b>red</b> house & </script> left of a tree"


def until(found: Callable[[], object], seconds: float = 240) -> None:
    """Wait until it holds; so long that a busy machine is no failure."""
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "the page did not get there"
        time.sleep(0.03)


def element(browser: Chrome, selector: str) -> WebElement:
    return browser.find_element("css selector", selector)


def press(browser: Chrome, *keys: str) -> None:
    element(browser, "body").send_keys(*keys)


def count(browser: Chrome) -> str:
    return element(browser, "#count").text


def ready(browser: Chrome, said: str) -> None:
    """The pair is there, both pictures drawn."""
    until(lambda: count(browser) == said and not browser.find_elements("css selector", ".waiting"))


@pytest.fixture
def design(tmp_path: Path) -> Design:
    """Two candidates whose first one is always the brighter."""
    design = Design(("A", "B"), tuple(Item(str(i), PROMPT) for i in range(3)), ("quality", "prompt"), 0.0, 0.0)
    collection = Collection(tmp_path)
    for c, level in enumerate((230, 60)):
        for i in range(3):
            collection.put(c, i, np.full((48, 64, 3), level + i, np.uint8))
    return design


@pytest.fixture
def server(design: Design, tmp_path: Path) -> Iterator[StudyServer]:
    with Votes(tmp_path / "votes.sqlite") as votes:
        server = StudyServer(design, Collection(tmp_path), votes)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_vote_by_keyboard_alone(browser: Chrome, server: StudyServer) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.get(server.address)
    assert "token" not in browser.current_url
    browser.switch_to.active_element.send_keys(Keys.ENTER)  # Begin has the focus
    ready(browser, "0 of 6")
    for n, key in enumerate((Keys.ARROW_LEFT, Keys.ARROW_RIGHT, " "), 1):
        press(browser, key)
        ready(browser, f"{n} of 6")
    press(browser, Keys.BACKSPACE)
    ready(browser, "2 of 6")
    press(browser, Keys.ARROW_DOWN)
    ready(browser, "3 of 6")
    assert [v.answer for v in server.votes.all()] == ["left", "right", "tie"]
    prompts = {v.trial.question for v in server.votes.all()}
    assert prompts == {"quality", "prompt"}
    browser.refresh()  # who comes back goes on
    element(browser, "#start").click()
    ready(browser, "3 of 6")
    for n in (4, 5, 6):
        press(browser, "1")
        ready(browser, f"{n} of 6")
    assert element(browser, "#thanks").is_displayed()
    assert not [e for e in browser.get_log("browser") if e["level"] == "SEVERE"]


def test_prompts_are_text_and_pictures_tell_nothing(browser: Chrome, server: StudyServer) -> None:
    browser.get(server.address)
    element(browser, "#start").click()
    ready(browser, "0 of 6")
    while element(browser, "#prompt").get_attribute("hidden"):
        done = int(count(browser).split()[0])
        press(browser, "2")
        ready(browser, f"{done + 1} of 6")
    assert element(browser, "#prompt").text.strip("“”") == PROMPT
    sources = [i.get_attribute("src") or "" for i in browser.find_elements("css selector", ".picture img")]
    assert len({s.rsplit("/", 1)[1] for s in sources}) == 2
    assert all(len(s.rsplit("/", 1)[1]) == 20 for s in sources)


def test_both_pictures_and_all_buttons_fit_a_phone(browser: Chrome, server: StudyServer) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 780, "deviceScaleFactor": 2, "mobile": True}
    )
    try:
        browser.get(server.address)
        element(browser, "#start").click()
        ready(browser, "0 of 6")
        for selector in ("[data-answer=left]", "[data-answer=right]", "#tie", "#back", "#ask"):
            box = element(browser, selector).rect
            assert box["x"] >= 0, selector
            assert box["x"] + box["width"] <= 390, selector
            assert box["y"] + box["height"] <= 780, selector
        assert element(browser, "[data-answer=left] img").rect["height"] > 200
        element(browser, "[data-answer=right]").click()
        ready(browser, "1 of 6")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_page_alone_saves_votes_that_the_study_takes(browser: Chrome, design: Design, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(static_page(design, Collection(tmp_path)), encoding="utf-8")
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    browser.get(page.as_uri())
    element(browser, "#start").click()
    for n in range(6):
        ready(browser, f"{n} of 6")
        brighter = browser.execute_script(
            """return [...document.querySelectorAll(".picture img")].map((image) => {
                 const canvas = document.createElement("canvas");
                 const context = canvas.getContext("2d");
                 context.drawImage(image, 0, 0);
                 return context.getImageData(9, 9, 1, 1).data[0];
               });"""
        )
        press(browser, "1" if brighter[0] > brighter[1] else "2")
    until(lambda: element(browser, "#end").is_displayed())
    element(browser, "#save").click()
    until(lambda: any(path.stat().st_size for path in tmp_path.glob("votes-*.json")))
    (saved,) = tmp_path.glob("votes-*.json")
    with Votes(tmp_path / "votes.sqlite") as votes:
        assert take_votes(design, votes, json.loads(saved.read_text()), saved.name) == 6
        found = report(design, votes.all())
    assert found.sections[0].duels[0].won == 3
    assert found.sections[1].duels[0].won == 3


def test_a_server_that_goes_away_loses_nothing(browser: Chrome, server: StudyServer) -> None:
    browser.get(server.address)
    element(browser, "#start").click()
    ready(browser, "0 of 6")
    browser.execute_cdp_cmd("Network.enable", {})
    gone = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", gone)
    press(browser, "1")
    until(lambda: "does not answer" in element(browser, "#problem").text)
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", {**gone, "offline": False})
    press(browser, "2")
    ready(browser, "1 of 6")
    assert not element(browser, "#problem").is_displayed()
    assert [v.answer for v in server.votes.all()] == ["right"]


def test_pictures_of_unlike_shapes_stand_side_by_side(browser: Chrome, server: StudyServer, tmp_path: Path) -> None:
    Image.new("RGB", (30, 200), "teal").save(server.collection.path(0, 0))
    for i in (1, 2):
        Image.new("RGB", (200, 30), "teal").save(server.collection.path(0, i))
    browser.get(server.address)
    element(browser, "#start").click()
    ready(browser, "0 of 6")
    pictures = browser.find_elements("css selector", ".picture img")
    for picture, button in zip(pictures, browser.find_elements("css selector", ".picture")):
        inner, outer = picture.rect, button.rect
        assert inner["y"] + inner["height"] <= outer["y"] + outer["height"]  # nothing is cut
    left, right = (i.rect for i in pictures)
    assert left["y"] == right["y"]
    assert left["width"] == right["width"]
    assert browser.execute_script("return document.documentElement.scrollHeight <= innerHeight")
