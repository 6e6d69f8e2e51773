"""The report of a run is one file that holds all of it."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom.errors import InputError
from darkroom.training.plan import Plan
from darkroom.training.report import POINTS, curve, write_plan, write_report
from darkroom.types import Size


def write_run(folder: Path) -> None:
    with (folder / "log.jsonl").open("w") as file:
        for step in (10, 20, 30):
            file.write(json.dumps({"step": step, "seconds": step * 2.0, "lr": 0.1, "loss/net": 1 / step}) + "\n")
        file.write('{"step": 40, "sec')  # a run may be writing
    loop = {"steps": 40, "batch_size": 4, "grad_accumulation": 2}
    (folder / "recipe.json").write_text(json.dumps({"loop": loop, "prompts": ["<b>a & b"]}))
    with (folder / "ledger.jsonl").open("w") as file:
        for name in ("a.png", "b.png", "a.png"):
            file.write(json.dumps({"number": 0, "epoch": 0, "name": name}) + "\n")
        file.write(json.dumps({"number": 3, "epoch": 0, "name": "a.png", "instead_of": "c.png: is empty"}) + "\n")
        file.write(json.dumps({"epoch": 0, "summary": "epoch 0: 2 of 3 used"}) + "\n")
    (folder / "samples").mkdir()
    for step in range(20):
        Image.new("RGB", (8, 8), (step, 0, 0)).save(folder / "samples" / f"{step:07d}.png")


def test_everything_stands_in_one_file(tmp_path: Path) -> None:
    write_run(tmp_path)
    plan = Plan(3_000_000, 2_000_000, {"weights": 2.0**30}, 6e12, 8.0, 40, 8, {Size(8, 8): 3}, {}, 1, 1)
    write_plan(plan, tmp_path)
    page = write_report(tmp_path).read_text()
    assert "<b>a" not in page
    assert "&lt;b&gt;a &amp; b" in page
    rows = re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td></tr>", page)
    assert rows[:3] == [("steps", "40", "30"), ("hours", "0.0889", "0.0167"), ("pictures a second", "1", "4")]
    assert ("TFLOP a second, all devices", "", "3") in rows  # 6 TFLOP a step of two seconds
    assert re.findall(r"<figcaption>(.*?)</figcaption>", page)[:3] == ["loss/net", "lr", "step 0"]
    assert page.count("data:image/jpeg;base64,") == 8
    assert "step 19" in page
    assert not re.search(r'(src|href)="(?!data:)', page), "nothing is fetched"
    for told in ("epoch 0: 2 of 3 used", "could not be read: c.png: is empty", "so far 1 pictures 1×, 1 pictures 3×"):
        assert told in page


@pytest.mark.parametrize("count", [1, 5, 5000])
def test_a_curve_is_a_chart_of_its_values(count: int) -> None:
    steps = list(range(count))
    found = ElementTree.fromstring(curve(steps, [float(s) for s in steps]))
    line = found.find("polyline")
    assert line is not None
    points = np.array([[float(v) for v in p.split(",")] for p in line.attrib["points"].split()])
    assert len(points) == min(count, POINTS)
    assert (np.diff(points[:, 0]) > 0).all()
    assert (np.diff(points[:, 1]) <= 0).all(), "y goes down on a screen"


def test_a_wide_curve_is_logarithmic() -> None:
    found = ElementTree.fromstring(curve([0, 1, 2], [1.0, 100.0, 10_000.0]))
    texts = [t.text for t in found.iter("text")]
    assert texts[:3] == ["1", "100", "1e+04"]


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no log of a run: log.jsonl is missing or empty"):
        write_report(tmp_path)
