"""Every recipe runs at a narrow width, from its file to a picture of what it exported."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from darkroom.errors import InputError
from darkroom.models import vocabulary
from darkroom.training.recipe import load_recipe
from darkroom.training.smoke import smoke

ROOT = Path(__file__).parents[2]
FOLDERS = ("ldm", "sd", "sdxl", "turbo")
WORLDS = ROOT / "recipes" / "picturebook" / "worlds"
FOUND = [p for folder in FOLDERS for p in sorted((ROOT / "recipes" / folder).glob("*.toml"))]
# Of the picture-book world's one of each kind: what the others read, recipes of ldm read, too.
RECIPES = [
    *(p for p in FOUND if not p.name.endswith(".system.toml")),
    *(WORLDS / f"{name}.toml" for name in ("kl-f4", "layout", "refiner")),
]


@pytest.fixture(autouse=True)
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(vocabulary, "CLIP_PACKAGES", ())
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_recipe_runs(path: Path, tmp_path: Path) -> None:
    picture = smoke(load_recipe(path), tmp_path / "run")
    with Image.open(picture) as image:
        assert len(set(image.convert("L").tobytes())) > 4  # not one color
    log = (tmp_path / "run" / "run" / "log.jsonl").read_text().splitlines()
    assert len(log) == 2


@pytest.mark.parametrize("path", sorted(WORLDS.glob("*.toml")), ids=lambda p: p.stem)
def test_a_recipe_of_the_world_is_read(path: Path) -> None:
    if not path.name.endswith(".system.toml"):  # which the recipes name
        assert load_recipe(path).recipe.data.kind == "picturebook"


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is not empty: --smoke makes a run of its own"):
        smoke(load_recipe(RECIPES[0]), tmp_path)


def test_a_model_that_must_be_read_to_be_known(tmp_path: Path) -> None:
    loaded = load_recipe(ROOT / "recipes" / "sd" / "lora.toml", ["model=mine.safetensors"])
    with pytest.raises(InputError, match=r"--smoke does not read mine.safetensors: name its system, system=NAME"):
        smoke(loaded, tmp_path / "run")
