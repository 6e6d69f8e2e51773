from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.config import from_dict, load_toml, to_dict
from darkroom.errors import InputError


@dataclass(frozen=True)
class Brush:
    width: float
    kind: Literal["brush"] = "brush"


@dataclass(frozen=True)
class Pencil:
    hardness: str
    kind: Literal["pencil"] = "pencil"


@dataclass(frozen=True)
class Box:
    name: str
    tools: tuple[Brush | Pencil, ...] = ()
    size: tuple[int, int] | None = None
    lid: bool = False
    mode: Literal["open", "closed"] = "open"


def test_toml_and_overrides(tmp_path: Path) -> None:
    path = tmp_path / "box.toml"
    path.write_text('name = "a"\n[[tools]]\nkind = "brush"\nwidth = 2\n[[tools]]\nkind = "pencil"\nhardness = "2B"\n')
    box = load_toml(Box, path, ["name=bee", "size=[3, 4]", "lid=true"])
    assert box == Box("bee", (Brush(2.0), Pencil("2B")), (3, 4), True)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "a", "lidd": True}, "unknown key lidd; known are: lid"),
        ({}, "key name is missing"),
        ({"name": 3}, "name is 3, expected is a text"),
        ({"name": "a", "lid": 1}, "lid is 1, expected is true or false"),
        ({"name": "a", "mode": "opne"}, "mode is 'opne', accepted are: open, closed"),
        ({"name": "a", "size": [1]}, r"size is \[1\], expected is a list of 2 values"),
        ({"name": "a", "tools": [{"kind": "brsh"}]}, r"tools\[0\].kind is 'brsh', accepted are: brush"),
        ({"name": "a", "tools": [{"kind": "brush", "width": "x"}]}, r'tools\[0\].width is "x", expected is a number'),
    ],
)
def test_errors_name_the_key(data: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_dict(Box, data)


@pytest.mark.parametrize("text", ["name = ", "\xff\xfe"])
def test_broken_files_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"broken\.toml"):
        load_toml(Box, path)
    with pytest.raises(InputError, match="there is no file"):
        load_toml(Box, tmp_path / "absent.toml")


@pytest.mark.parametrize("key", ["a." * 64 + "a", '"a=\\"" . ' * 64 + "a", "x = {'a'" + ".a" * 64])
def test_keys_of_many_parts_are_refused(key: str, tmp_path: Path) -> None:
    """tomllib takes gigabytes for a key of 50,000."""
    path = tmp_path / "long.toml"
    path.write_text(f"{key} = 1")
    with pytest.raises(InputError, match=r"long\.toml is not valid TOML: a key has more than 64 parts"):
        load_toml(Box, path)


@given(
    st.builds(
        Box,
        name=st.text(),
        tools=st.lists(st.builds(Brush, st.floats(allow_nan=False)) | st.builds(Pencil, st.text())).map(tuple),
        size=st.none() | st.tuples(st.integers(), st.integers()),
        lid=st.booleans(),
        mode=st.sampled_from(["open", "closed"]),
    )
)
def test_there_and_back(box: Box) -> None:
    assert from_dict(Box, to_dict(box)) == box


class Shape:
    kind: str


@dataclass(frozen=True)
class Ball(Shape):
    radius: float
    kind: Literal["ball"] = "ball"


@dataclass(frozen=True)
class Scene:
    shapes: tuple[Shape, ...]


def test_a_base_stands_for_whatever_is_derived_from_it() -> None:
    @dataclass(frozen=True)
    class Cube(Shape):
        side: float
        kind: Literal["cube"] = "cube"

    scene = Scene((Ball(1.0), Cube(2.0)))
    assert from_dict(Scene, to_dict(scene)) == scene
    with pytest.raises(InputError, match=r"shapes\[0\].kind is 'bal', accepted are: ball, cube"):
        from_dict(Scene, {"shapes": [{"kind": "bal", "radius": 1}]})


def test_errors_name_the_line_or_the_override(tmp_path: Path) -> None:
    path = tmp_path / "box.toml"
    path.write_text('name = "a"\n\n[[tools]]\nkind = "brush"\nwidth = 1\n[[tools]]\nkind = "pencil"\n')
    with pytest.raises(InputError, match=r"box.toml line 6: key tools\[1\].hardness is missing"):
        load_toml(Box, path)
    path.write_text(path.read_text().replace("width = 1", 'width = "x"'))
    with pytest.raises(InputError, match=r'box.toml line 5: tools\[0\].width is "x", expected is a number'):
        load_toml(Box, path)
    with pytest.raises(InputError, match=r"override 'lid=3': lid is 3, expected is true or false"):
        load_toml(Box, path, ["tools=[]", "lid=3"])
