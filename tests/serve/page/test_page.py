"""The page in a browser, before a real server: drawing, queue, masks, keys, two windows, a server that comes back."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from conftest import Page, Server

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys


def test_a_picture_is_drawn_looked_at_and_repeated(page: Page, server: Server) -> None:
    assert page.one("#empty").is_displayed()
    page.one("#f-prompt").send_keys("a red <cat>")
    page.one("#f-steps").send_keys("3")
    page.one("#draw").click()
    page.until(lambda: len(page.all(".tile")) == 1)
    (picture,) = server.pictures()
    assert picture["request"]["prompt"] == "a red <cat>"
    assert picture["request"]["steps"] == 3
    assert picture["seed"] > 0  # another each time
    page.browser.execute_script("localStorage.clear()")
    page.browser.refresh()
    page.until(lambda: len(page.all(".tile")) == 1)
    page.one(".tile .open").click()
    assert page.one("dialog .prompt").text == "a red <cat>"
    page.one("dialog[open] [data-act=u]").click()
    page.until(lambda: page.one("#f-seed").get_attribute("value") == str(picture["seed"]))
    page.one("#draw").click()
    page.until(lambda: len(server.pictures()) == 2)
    first, second = (server.http.get(p["url"]).content for p in server.pictures())
    assert np.array_equal(*(np.asarray(Image.open(io.BytesIO(c))) for c in (first, second)))


def test_what_waits_is_moved_and_cancelled(page: Page, server: Server) -> None:
    server.pause(True)
    for name in ("one", "two", "three"):
        server.submit(prompt=name, steps=2)
    page.until(lambda: page.waiting() == ["one", "two", "three"])
    page.with_one("#queue li:nth-child(3) [data-act=up]", lambda button: button.click())
    page.until(lambda: page.waiting() == ["one", "three", "two"])
    page.with_one("#queue li:nth-child(1)", lambda row: row.send_keys(Keys.ALT, Keys.ARROW_DOWN))
    page.until(lambda: page.waiting() == ["three", "one", "two"])
    page.until(lambda: page.one("#queue li:focus .said").text == "one")
    page.with_one("#queue li:focus", lambda row: row.send_keys(Keys.DELETE))
    page.until(lambda: page.waiting() == ["three", "two"])
    assert page.one("#waiting").text == "Paused"
    page.one("#pause").click()
    page.until(lambda: len(page.all(".tile")) == 2)
    assert [j["state"] for j in server.jobs()].count("cancelled") == 1
    page.until(lambda: not page.one("#tray").is_displayed())


def test_a_running_picture_grows_and_can_be_cancelled(page: Page, server: Server) -> None:
    server.submit(16, prompt="long", steps=200, width=64, height=64)
    page.until(lambda: page.all(".growing img:not([hidden])"))
    page.until(lambda: (page.one(".growing img").get_attribute("src") or "").startswith("data:image/jpeg"))
    assert "of 3200" in page.one(".growing .steps").text
    page.with_one(".growing [data-act=cancel]", lambda button: button.click())
    page.until(lambda: server.jobs()[0]["state"] == "cancelled")
    page.until(lambda: not page.all(".growing"))


def test_what_the_server_refuses_stands_beside_the_button(page: Page, server: Server) -> None:
    page.one("#f-prompt").send_keys("a cat")
    page.one("#f-steps").send_keys("999")
    page.one("#draw").click()
    page.until(lambda: page.one("#refused").is_displayed())
    assert "number of steps is 999" in page.one("#refused").text
    assert page.one("#f-prompt").get_attribute("value") == "a cat"
    assert not server.jobs()


def test_a_painted_mask_is_what_is_drawn_anew(page: Page, server: Server) -> None:
    server.submit(prompt="base", steps=2, seed=5)
    page.until(lambda: page.all(".tile"))
    page.one(".tile .open").send_keys(Keys.ENTER)
    page.keys("m")
    page.until(lambda: page.all(".painting canvas"))
    page.keys(" ")  # a dab in the middle, by keys alone
    page.one(".painting [data-act=done]").click()
    page.until(lambda: not page.all("dialog") and page.all("[data-path=mask] .slot.held"))
    page.browser.find_element(By.ID, "draw").click()
    page.until(lambda: len(server.pictures()) == 2)
    done = server.pictures()[0]
    assert set(done["images"]) == {"image", "mask"}
    mask = np.asarray(Image.open(io.BytesIO(server.http.get(f"/v1/uploads/{done['images']['mask']}").content)))[..., 0]
    assert mask.shape == (32, 32)
    assert set(np.unique(mask)) == {0, 255}
    assert mask[16, 16] == 255
    assert mask[0, 0] == 0
    base, drawn = (
        np.asarray(Image.open(io.BytesIO(server.http.get(p["url"]).content))) for p in (server.pictures()[1], done)
    )
    assert np.array_equal(base[mask == 0], drawn[mask == 0])


def test_everything_by_keys(page: Page, server: Server) -> None:
    page.browser.switch_to.active_element.send_keys("/")
    page.keys("a blue boat")
    page.keys(Keys.CONTROL, Keys.ENTER)
    page.until(lambda: page.all(".tile"))
    page.browser.execute_script("document.activeElement.blur()")
    page.keys("g")
    page.keys(Keys.ENTER)
    assert page.one("dialog .prompt").text == "a blue boat"
    page.keys(Keys.ESCAPE)
    page.until(lambda: not page.all("dialog"))
    assert "open" in (page.browser.switch_to.active_element.get_attribute("class") or "")
    page.keys("c")
    assert page.one("#chosen").text == "1 chosen"
    page.keys("?")
    assert "Draw" in page.one("dialog .keys").text


def test_two_windows_agree(page: Page, server: Server) -> None:
    first = page.browser.current_window_handle
    page.browser.switch_to.new_window("window")
    try:
        page.open(server)
        page.one("#pause")
        server.pause(True)
        page.one("#f-prompt").send_keys("from the second")
        page.one("#draw").click()
        page.until(lambda: page.waiting() == ["from the second"])
        second = page.browser.current_window_handle
        page.browser.switch_to.window(first)
        page.until(lambda: page.waiting() == ["from the second"])
        assert page.one("#waiting").text == "Paused"
        page.one("#pause").click()
        page.until(lambda: len(page.all(".tile")) == 1)
        page.browser.switch_to.window(second)
        page.until(lambda: len(page.all(".tile")) == 1 and not page.waiting())
        page.browser.close()
    finally:
        page.browser.switch_to.window(first)


def test_a_server_that_goes_and_comes_back_gets_what_was_asked_once(page: Page, server: Server) -> None:
    server.stop()
    page.until(lambda: "does not answer" in page.one("#connection").text)
    page.one("#f-prompt").send_keys("meanwhile")
    page.one("#draw").click()
    page.until(lambda: "is sent when it is back" in page.one("#connection").text)
    server.start()
    page.until(lambda: len(page.all(".tile")) == 1)
    assert page.one("#connection").text == ""
    assert [j["request"]["prompt"] for j in server.jobs()] == ["meanwhile"]


def test_the_form_follows_the_schema(page: Page, server: Server) -> None:
    schema = server.http.get("/v1/schema").json()["properties"]
    paths = set()
    for name, one in schema.items():
        paths |= {f"{name}.{inner}" for inner in one["properties"]} if one.get("properties") else {name}
    shown = page.browser.execute_script(
        "return [...document.querySelectorAll('[data-path]')].map((e) => e.dataset.path)"
    )
    assert set(shown) == paths
    unlabelled = page.browser.execute_script(
        """return [...document.querySelectorAll("input, select, textarea, button")].filter((e) =>
             !(e.labels?.length || e.getAttribute("aria-label") || e.textContent.trim() || e.tabIndex < 0))
             .map((e) => e.outerHTML)"""
    )
    assert unlabelled == []


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_wider_than_the_window(page: Page, server: Server, width: int) -> None:
    server.submit(prompt="a " + "very" * 60 + " long word", steps=1)
    page.until(lambda: page.all(".tile"))
    emulated = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", emulated)
    try:
        for details in page.all("details"):
            page.browser.execute_script("arguments[0].open = true", details)
        assert page.browser.execute_script("return document.documentElement.scrollWidth") <= width
        page.browser.execute_script("document.querySelector('.tile .open').click()")
        assert page.browser.execute_script("return document.querySelector('dialog').scrollWidth") <= width
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
