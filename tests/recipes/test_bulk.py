"""Pictures in bulk: what one process does of it, without the cluster."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
from script_files import read_script

from darkroom.checkpoints.model import load_model
from darkroom.library import Model


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return read_script("recipes/bulk/generate.py")


def test_only_lines_without_a_picture_are_drawn(script: ModuleType, tiny_folder: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    lines = [
        "a cat",
        "",
        json.dumps({"prompt": "a dog", "steps": 2, "seed": 9}),
        json.dumps({"prompt": "x", "size": 7}),
    ]
    prompts.write_text("\n".join(lines))
    rows = list(script.missing(prompts, tmp_path, 5))
    assert [row["number"] for row in rows] == [1, 3, 4]
    assert [json.loads(row["settings"]).get("seed") for row in rows] == [6, 9, 9]
    drawing = script.Drawing(str(tiny_folder), "cpu")
    made = drawing({name: [row[name] for row in rows] for name in rows[0]})
    assert made["number"] == [1, 3, 4]
    assert made["error"][:2] == ["", ""]
    assert "size" in made["error"][2]
    alone = Model(load_model(str(tiny_folder))).draw("a dog", steps=2, seed=9).save(tmp_path / "alone.png")
    assert (tmp_path / "000003.png").read_bytes() == alone.read_bytes()
    assert [row["number"] for row in script.missing(prompts, tmp_path, 5)] == [4]
    prompts.write_text("{no JSON")
    with pytest.raises(SystemExit, match="line 1: no JSON"):
        list(script.missing(prompts, tmp_path / "other", 0))
