"""What lies around the form: grids, pictures side by side, larger canvases, layouts, maps of classes, completion."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

if TYPE_CHECKING:
    from conftest import Page, Server


def uploaded(server: Server, id: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(server.http.get(f"/v1/uploads/{id}").content)))


def test_a_grid_draws_every_pair_of_values_with_one_seed(page: Page, server: Server) -> None:
    page.one("#f-prompt").send_keys("a house")
    page.one("#grid").click()
    columns, rows = page.all(".axis")
    columns.find_element(By.TAG_NAME, "input").send_keys("1-2")
    page.one("dialog[open] .primary").click()
    page.until(lambda: len(page.all("table.grid td img")) == 2)
    assert page.texts("table.grid th") == ["Steps 1", "Steps 2"]
    page.keys(Keys.ESCAPE)
    page.one("#grid").click()
    columns, rows = page.all(".axis")
    columns.find_element(By.TAG_NAME, "input").send_keys("1, 2")
    Select(rows.find_element(By.TAG_NAME, "select")).select_by_value("sampler")
    rows.find_element(By.TAG_NAME, "input").send_keys("Euler, Euler a")
    page.one("dialog[open] .primary").click()
    page.until(lambda: len(server.pictures()) == 6)
    made = server.pictures()[:4]
    assert {(p["request"]["steps"], p["request"]["sampler"]) for p in made} == {
        (steps, sampler) for steps in (1, 2) for sampler in ("Euler", "Euler a")
    }
    assert len({p["seed"] for p in made}) == 1


def test_pictures_stand_side_by_side_with_what_differs(page: Page, server: Server) -> None:
    for steps in (1, 2):
        server.submit(prompt="same", steps=steps, seed=3)
    page.until(lambda: len(page.all(".tile")) == 2)
    for tile in page.all(".tile .open"):
        tile.send_keys("c")
    page.one("#compare").click()
    assert page.texts("dialog .beside dt") == ["Steps", "Steps"]
    assert sorted(page.texts("dialog .beside dd")) == ["1", "2"]
    assert len(page.all("dialog .beside img")) == 2


def test_a_picture_is_extended_by_its_border(page: Page, server: Server) -> None:
    server.submit(prompt="base", steps=1, seed=3)
    page.until(lambda: page.all(".tile"))
    page.one(".tile .open").click()
    page.keys("o")
    page.one("dialog input[aria-label$=Right]").send_keys(Keys.CONTROL, "a")
    page.keys("16")
    page.one("dialog[open] .primary").click()
    page.until(lambda: not page.all("dialog") and page.all("[data-path=mask] .slot.held"))
    page.one("#draw").click()
    page.until(lambda: len(server.pictures()) == 2)
    done, base = server.pictures()
    assert (done["width"], done["height"]) == (48, 32)
    canvas, mask = (uploaded(server, done["images"][name])[..., :3] for name in ("image", "mask"))
    before = np.asarray(Image.open(io.BytesIO(server.http.get(base["url"]).content)))
    assert np.array_equal(canvas, np.pad(before, ((0, 0), (0, 16), (0, 0)), mode="edge"))
    assert np.array_equal(mask[..., 0], np.pad(np.zeros((32, 32), np.uint8), ((0, 0), (0, 16)), constant_values=255))


def test_a_control_has_its_name_its_picture_and_comes_back_with_the_settings(page: Page, server: Server) -> None:
    server.submit(prompt="a hint", steps=1, seed=3)
    page.until(lambda: len(page.all(".tile")) == 1)
    page.one("#f-prompt").send_keys("a house")
    page.one("#f-steps").send_keys("1")
    page.one("details:has([data-path=controls]) summary").click()
    page.browser.execute_script("arguments[0].click()", page.one("[data-path=controls] .layout > button"))
    assert Select(page.one("[aria-label='Model of control 1']")).first_selected_option.text == "edges"
    Select(page.one("[aria-label='Preprocessor of control 1']")).select_by_visible_text("canny")
    page.one("[aria-label='Weight of control 1']").send_keys(Keys.CONTROL, "a")
    page.keys("0.5")
    hint = Path(server.config.folder) / "pictures" / f"{server.pictures()[0]['id']}.png"
    page.one("[data-path='controls.image'] input[type=file]").send_keys(str(hint))
    page.until(lambda: page.all("[data-path='controls.image'] .held"))
    page.one("#draw").click()
    page.until(lambda: len(server.pictures()) == 2)
    drawn = server.pictures()[0]
    (unit,) = drawn["request"]["controls"]
    assert (unit["model"], unit["preprocessor"], unit["weight"]) == ("edges", "canny", 0.5)
    assert server.http.get(f"/v1/uploads/{drawn['images']['controls.0.image']}").content == hint.read_bytes()
    page.one("[aria-label='Remove control 1']").click()
    assert not page.all("[data-path='controls.image']")
    page.until(lambda: len(page.all(".tile")) == 2)
    page.browser.execute_script("document.querySelector('.tile .open').click()")
    page.one("dialog[open] [data-act=u]").click()
    page.until(lambda: page.all("[data-path='controls.image'] .held"))
    assert page.one("[aria-label='Weight of control 1']").get_attribute("value") == "0.5"


@pytest.mark.parametrize("server", ["ldm_cin256-v2"], indirect=True)
def test_classes_have_names_and_make_the_columns_of_a_grid(page: Page, server: Server) -> None:
    page.until(lambda: page.one("[data-path='inputs.class']").get_attribute("hidden") is None)
    for name, value in (("width", "32"), ("height", "32"), ("steps", "1")):
        page.one(f"#f-{name}").send_keys(value)
    page.one("details:has([data-path='inputs.class']) summary").click()
    page.one("[data-path='inputs.class'] input").send_keys("2")
    assert page.one("[data-path='inputs.class'] small").text == "thing 2"
    page.one("#grid").click()
    columns, _ = page.all(".axis")
    Select(columns.find_element(By.TAG_NAME, "select")).select_by_value("inputs.class")
    columns.find_element(By.TAG_NAME, "input").send_keys("0, 4")
    page.one("dialog[open] .primary").click()
    page.until(lambda: len(server.pictures()) == 2)
    assert sorted(p["request"]["inputs.class"] for p in server.pictures()) == [0, 4]
    assert page.texts("table.grid th") == ["Class thing 0", "Class thing 4"]


@pytest.mark.parametrize("server", ["ldm_layout2img-coco256"], indirect=True)
def test_a_layout_is_drawn_or_typed(page: Page, server: Server) -> None:
    page.until(lambda: page.one("[data-path='inputs.boxes']").get_attribute("hidden") is None)
    assert not page.one("#f-prompt").is_displayed()  # this model reads none
    page.one("#f-width").send_keys("32")
    page.one("#f-height").send_keys("32")
    page.one("#f-steps").send_keys("1")
    details = page.one("details:has([data-path='inputs.boxes'])")
    details.find_element(By.TAG_NAME, "summary").click()
    area = page.one("[data-path='inputs.boxes'] .area")
    page.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", area)
    half = area.rect["width"] / 2
    drag = ActionChains(page.browser).move_to_element(area).click_and_hold()
    drag.move_by_offset(half * 0.5, half * 0.5).release().perform()
    page.until(lambda: len(page.all(".boxes li")) == 1)
    add = page.one("[data-path='inputs.boxes'] .layout > button")
    page.browser.execute_script("arguments[0].click()", add)
    page.keys(Keys.CONTROL, "a")
    page.keys("7")
    assert page.browser.switch_to.active_element.get_attribute("title") == "thing 7"
    assert page.one("#classes-boxes option:nth-child(8)").get_attribute("label") == "thing 7"
    page.browser.find_element(By.ID, "draw").click()
    page.until(lambda: len(server.pictures()) == 1)
    drawn, typed = server.pictures()[0]["request"]["inputs.boxes"]
    assert typed == {"label": 7, "x0": 0.25, "y0": 0.25, "x1": 0.75, "y1": 0.75}
    assert [drawn[k] for k in ("x0", "y0", "x1", "y1")] == pytest.approx([0.5, 0.5, 0.75, 0.75], abs=0.02)


@pytest.mark.parametrize("server", ["ldm_semantic_synthesis256"], indirect=True)
def test_painted_classes_are_numbers_in_the_file(page: Page, server: Server) -> None:
    page.until(lambda: page.one("[data-path='inputs.segmentation']").get_attribute("hidden") is None)
    for name, value in (("width", "32"), ("height", "32"), ("steps", "1")):
        page.one(f"#f-{name}").send_keys(value)
    page.one("details:has([data-path='inputs.segmentation']) summary").click()
    paint = page.one("[data-path='inputs.segmentation'] [data-act=paint]")
    page.browser.execute_script("arguments[0].click()", paint)
    page.until(lambda: page.all(".painting canvas"))
    number = page.one(".painting input[type=number]")
    for value, key in (("5", Keys.ARROW_LEFT), ("81", Keys.ARROW_RIGHT)):
        number.send_keys(Keys.CONTROL, "a")
        number.send_keys(value)
        page.one(".painting canvas").send_keys(*[key] * 12, " ")
    page.one(".painting [data-act=done]").click()
    page.until(lambda: not page.all("dialog"))
    page.one("#draw").click()
    page.until(lambda: len(server.pictures()) == 1)
    values = uploaded(server, server.pictures()[0]["images"]["inputs.segmentation"])
    assert values.shape[:2] == (32, 32)
    assert set(np.unique(values[..., 0])) == {0, 5, 81}


def test_prompts_are_completed_with_what_the_server_has(page: Page, server: Server) -> None:
    offers = page.browser.execute_async_script(
        """const done = arguments[0], names = {loras: ["Ink wash", "pixel"], embeddings: ["easynegative"]};
           import("/complete.js").then(({offers}) => done([
             ...["a cat <in", "a cat <lora:", "bad, easy", "a c"].map((before) => offers(before, names))]));"""
    )
    assert offers == [
        [6, ["<lora:Ink wash:1>"]],
        [6, ["<lora:Ink wash:1>", "<lora:pixel:1>"]],
        [5, ["easynegative"]],
        [0, []],
    ]
