from pathlib import Path

import pytest

from darkroom.data.picturebook import held_out_pairs
from darkroom.data.picturebook.prompts import read_prompts, sample_prompts, write_prompts
from darkroom.errors import InputError


def test_there_and_back(tmp_path: Path) -> None:
    prompts = sample_prompts(seed=3, count=40, things=(1, 2))
    write_prompts(tmp_path / "p.jsonl", prompts)
    assert read_prompts(tmp_path / "p.jsonl") == prompts
    assert prompts == sample_prompts(3, 40, (1, 2))
    assert prompts != sample_prompts(4, 40, (1, 2))


def test_one_in_five_names_an_unseen_pair() -> None:
    prompts = sample_prompts(0, 100, (1, 2))
    assert sum(p.held_out for p in prompts) == 20
    for p in prompts:
        named = any((g.kind, g.colour) in held_out_pairs() for g in p.facts.groups)
        assert named == p.held_out or any(g.colour is None for g in p.facts.groups)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no prompts"),
        ("\n\n", "holds no prompts"),
        ('{"caption": "a cat"', "line 1 is not JSON"),
        ('{"caption": "a cat", "held_out": false}', "line 1: key facts is missing"),
        (
            '{"caption": "x", "held_out": false, "facts": {"groups": [{"kind": "catt", "colour": "red"}]}}',
            "known are: cat",
        ),
        (
            '{"caption": "x", "held_out": false, "facts": {"groups": [{"kind": "cat", "colour": "rad"}]}}',
            "colour 'rad'",
        ),
    ],
)
def test_broken_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_prompts(path)


@pytest.mark.parametrize(("count", "things"), [(0, (1, 2)), (3, (0, 2)), (3, (2, 1)), (3, (1, 5))])
def test_what_cannot_be_drawn(count: int, things: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="wanted is"):
        sample_prompts(0, count, things)
