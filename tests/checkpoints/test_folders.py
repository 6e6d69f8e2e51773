"""Files are found by the names that people know from other tools."""

from pathlib import Path

import pytest

from darkroom.checkpoints.folders import LORAS, find_file, named_files
from darkroom.errors import InputError


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_names_with_and_without_folders_and_endings(tmp_path: Path) -> None:
    deep = touch(tmp_path / "styles" / "old" / "ink.v2.safetensors")
    for name in ("ink.v2", "ink.v2.safetensors", "styles/old/ink.v2", "styles/old/ink.v2.safetensors"):
        assert find_file(LORAS, name, [tmp_path]) == deep
    assert find_file(LORAS, str(deep), []) == deep
    upper = touch(tmp_path / "LOUD.SAFETENSORS")
    assert find_file(LORAS, "LOUD", [tmp_path]) == upper


def test_what_lies_higher_or_in_an_earlier_folder_goes_first(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    touch(first / "a" / "x.safetensors")
    higher = touch(first / "x.safetensors")
    touch(second / "x.safetensors")
    assert find_file(LORAS, "x", [first, second]) == higher
    assert find_file(LORAS, "a/x", [first, second]) == first / "a" / "x.safetensors"


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    elsewhere = touch(tmp_path / "disk" / "x.safetensors").parent
    folder = tmp_path / "loras"
    folder.mkdir()
    (folder / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder)  # a circle
    assert find_file(LORAS, "x", [folder]) == folder / "linked" / "x.safetensors"
    assert find_file(LORAS, "linked/x", [folder]) == folder / "linked" / "x.safetensors"


def test_folders_of_one_file_stand_for_it(tmp_path: Path) -> None:
    found = touch(tmp_path / "peft" / "oil" / "pytorch_lora_weights.safetensors")
    touch(tmp_path / "words.safetensors")
    for name in ("oil", "peft/oil", str(found.parent)):
        assert find_file(LORAS, name, [tmp_path]) == found
    with pytest.raises(InputError, match=r"unknown LoRA 'ink' in .*; known are: (oil, words|words, oil)"):
        find_file(LORAS, "ink", [tmp_path])
    with pytest.raises(InputError, match="no folder of LoRAs is given"):
        find_file(LORAS, "ink", [])


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "\ud800", "", "../..", "\x1b[2J"])
def test_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="unknown LoRA") as caught:
        find_file(LORAS, name, [tmp_path])
    assert str(caught.value).isprintable()


def test_other_files_have_no_names(tmp_path: Path) -> None:
    touch(tmp_path / "notes.txt")
    touch(tmp_path / "preview.png")
    assert named_files(LORAS, [tmp_path, tmp_path / "missing"]) == {}
