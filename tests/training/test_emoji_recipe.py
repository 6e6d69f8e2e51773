"""The script that makes a folder of drawings, apart from the package whose drawings they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from script_files import read_script

from darkroom.conditioning.word_text import WordTextConfig
from darkroom.systems.build import build
from darkroom.systems.system_file import read_system

RED = b'<svg width="72" height="72" xmlns="http://www.w3.org/2000/svg"><rect width="36" height="72" fill="#f00"/></svg>'


@pytest.fixture(scope="module")
def script() -> Any:
    return read_script("recipes/emoji/make_folder.py")


def test_captions_are_unicode_s_names(script: Any) -> None:
    assert script.caption_of("1F415") == "an emoji of dog"
    assert script.caption_of("2600-FE0F") == "an emoji of black sun with rays"
    assert script.caption_of("1F468-200D-1F33E") is None  # a sequence
    assert script.caption_of("E000") is None  # private
    assert (script.group_of("1F415"), script.group_of("2600")) == ("animal", None)


def test_a_drawing_fills_its_picture(script: Any) -> None:
    pixels = script.draw(RED, 32)
    assert pixels.shape == (32, 32, 3)
    assert pixels[16, 8].tolist() == [255, 0, 0]
    assert pixels[16, 24].tolist() == [255, 255, 255]


def test_the_system_knows_the_captions_words(script: Any, tmp_path: Path) -> None:
    path = tmp_path / "emoji.system.toml"
    script.write_system(path, ["an emoji of dog", "an emoji of keycap 3"])
    system = read_system(path)
    (text,) = system.embedders
    assert isinstance(text, WordTextConfig)
    assert text.words == ("3", "an", "dog", "emoji", "keycap", "of")
    build(system, "meta")
