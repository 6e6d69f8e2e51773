"""The list of a recipe's keys is what the code reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from darkroom.names import recipe_keys_text
from darkroom.training.recipe import RECIPE_KINDS
from darkroom.training.recipe_keys import RecipeKey, all_keys_text, keys_page, keys_text, recipe_keys

PAGE = Path(__file__).parents[2] / "docs" / "recipe-keys.md"


@dataclass(frozen=True)
class Below:
    shape: Literal["round", "flat"] = "round"  # of the thing …
    widths: tuple[int, ...] = ()  # … and of its parts


@dataclass(frozen=True)
class Whole:
    steps: int
    below: Below = field(default_factory=Below)
    path: Path | None = None  # where


def test_keys_tell_type_default_and_meaning() -> None:
    assert list(recipe_keys(Whole)) == [
        RecipeKey("steps", "integer", "required", ""),
        RecipeKey("below.shape", '"round" or "flat"', '"round"', "of the thing …"),
        RecipeKey("below.widths", "list of integer", "[]", "… and of its parts"),
        RecipeKey("path", "path", "", "where"),
    ]


def test_every_kind_has_its_keys() -> None:
    for kind in RECIPE_KINDS:
        assert "loop.batch_size  integer, required" in keys_text(kind)[kind]


def test_the_page_is_that_of_the_code() -> None:
    assert PAGE.read_text(encoding="utf-8") == keys_page(), "darkroom train keys --page > docs/recipe-keys.md"
    assert recipe_keys_text() == all_keys_text(), "python -m darkroom.cli.names"
