import copy
import json
from pathlib import Path

import numpy as np
import pytest

from darkroom.config import to_dict
from darkroom.data.picturebook import held_out_pairs, sample_scene, vocabulary
from darkroom.data.picturebook.prompts import Prompt, read_prompts, sample_prompts, write_prompts
from darkroom.errors import InputError


def write(path: Path, prompts: list[Prompt]) -> Path:
    with path.open("wb") as file:
        write_prompts(file, prompts)
    return path


def test_there_and_back(tmp_path: Path) -> None:
    prompts = sample_prompts(seed=2, count=300, things=(1, 4))
    assert {r.relation for p in prompts for r in p.facts.relations} > {"left of", "right of", "above", "below"}
    assert any(p.facts.sign for p in prompts)
    path = write(tmp_path / "p.jsonl", prompts)
    assert read_prompts(path) == prompts
    assert len(path.read_text().splitlines()) == 300
    assert prompts == sample_prompts(2, 300, (1, 4))
    assert prompts[:40] == sample_prompts(2, 40, (1, 4))
    assert prompts != sample_prompts(4, 300, (1, 4))


@pytest.mark.parametrize("things", [(1, 1), (2, 2), (1, 2), (2, 4)])
def test_as_many_things_as_asked(things: tuple[int, int]) -> None:
    counts = {sum(g.count for g in p.facts.groups) for p in sample_prompts(0, 80, things)}
    assert counts == set(range(things[0], things[1] + 1))


def test_facts_are_in_the_words() -> None:
    for prompt in sample_prompts(1, 300, (1, 3)):
        for group in prompt.facts.groups:
            assert group.colour is None or group.colour in prompt.caption
            for part, colour in group.parts.items():
                assert f"{colour} {part}" in prompt.caption
        for relation in prompt.facts.relations:
            word = {"above": ("above", "over"), "below": ("below", "under")}.get(
                relation.relation, (relation.relation,)
            )
            assert any(w in prompt.caption for w in word)
        if prompt.facts.sign is not None:
            assert f'says "{prompt.facts.sign}"' in prompt.caption
        else:
            assert "sign" not in prompt.caption
        assert set(prompt.caption.replace(",", "").split('"')[0].split()) <= set(vocabulary())


def test_one_in_five_names_an_unseen_pair() -> None:
    prompts = sample_prompts(0, 100, (1, 2))
    assert sum(p.held_out for p in prompts) == 20
    for p in prompts:
        named = any((g.kind, g.colour) in held_out_pairs() for g in p.facts.groups)
        assert named == p.held_out or any(g.colour is None for g in p.facts.groups)


def test_prompts_are_no_training_scenes() -> None:
    first = [sample_scene(np.random.default_rng((0, i))) for i in range(300)]
    seeds = {s.seed for s in first}
    drawn = [sample_scene(np.random.default_rng((0, 1_000_003, i))) for i in range(300)]
    assert not seeds & {s.seed for s in drawn}


def test_files_of_other_editors(tmp_path: Path) -> None:
    prompts = sample_prompts(3, 5, (1, 2))
    text = write(tmp_path / "p.jsonl", prompts).read_text()
    (tmp_path / "q.jsonl").write_bytes(b"\xef\xbb\xbf\r\n" + text.replace("\n", "\r\n\r\n").encode())
    assert read_prompts(tmp_path / "q.jsonl") == prompts
    odd = to_dict(prompts[0]) | {"caption": "a cat\u2028a dog"}  # a line separator, but not to JSON lines
    (tmp_path / "q.jsonl").write_text(json.dumps(odd, ensure_ascii=False))
    assert [p.caption for p in read_prompts(tmp_path / "q.jsonl")] == ["a cat\u2028a dog"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no prompts"),
        ("\n\n", "holds no prompts"),
        ('{"caption": "a cat"', "line 1 is not valid JSON: .* column 20"),
        ("[" * 100_000, "line 1 is not valid JSON: it is nested too deeply"),
        ("3", "line 1: the whole is 3, expected is a table"),
        ('{"caption": "a cat", "held_out": false}', "line 1: key facts is missing"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_prompts(path)


GOOD = {
    "caption": "a red house left of a white snowman",
    "facts": {
        "groups": [{"kind": "house", "colour": "red"}, {"kind": "snowman", "count": 1, "parts": {"hat": "blue"}}],
        "relations": [{"subject": 0, "relation": "left of", "object": 1}],
        "sky": "night",
    },
    "held_out": False,
}


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("caption", " ", "the caption is empty"),
        ("facts/groups", [], "name no things"),
        ("facts/groups/0/kind", "catt", "unknown kind 'catt'; known are: cat"),
        ("facts/groups/0/kind", "House", "unknown kind 'House'; known are: house"),
        ("facts/groups/0/colour", "rad", "unknown colour 'rad'; known are: red"),
        ("facts/groups/0/count", 0, "the count of house is 0, expected is at least 1"),
        ("facts/groups/0/count", "two", 'count is "two", expected is a whole number'),
        ("facts/groups/1/parts", {"hut": "red"}, "unknown part 'hut'; known are: hat"),
        ("facts/groups/1/parts", {"hat": "rad"}, "unknown colour 'rad'; known are: red"),
        ("facts/relations/0/relation", "over", "unknown relation 'over'"),
        ("facts/relations/0/object", 2, "between groups 0 and 2, expected are two of 0 to 1"),
        ("facts/relations/0/object", 0, "between groups 0 and 0"),
        ("facts/sky", "nite", "unknown sky 'nite'; known are: night"),
        ("facts/ground", "lava", "unknown ground 'lava'"),
        ("facts/backdrop", "hills", "unknown key facts.backdrop; known are: background"),
    ],
)
def test_untrue_facts_name_the_line(tmp_path: Path, place: str, value: object, message: str) -> None:
    bad = copy.deepcopy(GOOD)
    *way, last = (int(p) if p.isdigit() else p for p in place.split("/"))
    table: object = bad
    for step in way:
        table = table[step]  # type: ignore[index]
    table[last] = value  # type: ignore[index]
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(GOOD) + "\n\n" + json.dumps(bad) + "\n")
    with pytest.raises(InputError, match=message) as caught:
        read_prompts(path)
    assert f"{path} line 3: " in str(caught.value)
    path.write_text(json.dumps(GOOD))
    assert read_prompts(path)[0].facts.sky == "night"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file .*none\.jsonl"):
        read_prompts(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="is a folder, expected is a file"):
        read_prompts(tmp_path)
    (tmp_path / "p.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8 text"):
        read_prompts(tmp_path / "p.jsonl")


@pytest.mark.parametrize(
    ("seed", "count", "things"), [(0, 0, (1, 2)), (0, 3, (0, 2)), (0, 3, (2, 1)), (0, 3, (1, 5)), (-1, 3, (1, 2))]
)
def test_what_cannot_be_drawn(seed: int, count: int, things: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="expected is"):
        sample_prompts(seed, count, things)
