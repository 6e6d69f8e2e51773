"""Systems that files describe."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkroom.errors import InputError
from darkroom.systems.system_file import find_system, read_system

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("class", "class"),
        ("layout", "boxes"),
        ("semantic", "segmentation"),
        ("inpainting", "masked_image"),
        ("super-resolution", "low_resolution"),
    ],
)
def test_more_embedders_stand_behind_those_of_the_base(name: str, key: str) -> None:
    base = find_system("picturebook")
    system = find_system(str(ROOT / f"recipes/picturebook/worlds/{name}.system.toml"))
    assert system.embedders[:-1] == base.embedders
    assert system.embedders[-1].key == key
    assert system.autoencoder == base.autoencoder


def test_more_embedders_that_are_no_list(tmp_path: Path) -> None:
    path = tmp_path / "mine.system.toml"
    path.write_text('base = "picturebook"\nmore_embedders = "class_label"\n')
    with pytest.raises(
        InputError, match=r"mine.system.toml: more_embedders is 'class_label', a list of tables expected"
    ):
        read_system(path)
