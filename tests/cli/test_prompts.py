import io

import pytest

from darkroom.cli.prompts import Prompts, parse_lines
from darkroom.errors import InputError


def test_prompts_come_from_everywhere(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.txt").write_text("\ufeffa cow\n\n  a (red:1.2) cat \n{a|b} in braces\n", encoding="utf-8")
    found = Prompts(["a dog"], ["a hat"], str(tmp_path / "p.txt")).read()
    assert [entry["prompt"] for entry in found] == ["a dog", "a hat", "a cow", "a (red:1.2) cat", "{a|b} in braces"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a kite\n")))
    assert Prompts(file="-").read() == [{"prompt": "a kite"}]
    assert Prompts().read() == []


def test_json_lines_are_settings_or_prompts_with_facts() -> None:
    text = '{"prompt": "a cat\u2028", "steps": 3}\n{"caption": "two cows", "facts": {"sky": null}, "unseen": false}'
    assert parse_lines(text, "x") == [{"prompt": "a cat\u2028", "steps": 3}, {"prompt": "two cows"}]
    with pytest.raises(InputError, match="x line 1 holds neither a prompt nor a caption"):
        parse_lines('{"steps": 3}', "x")


@pytest.mark.parametrize("words", [["a", "cow"], ["cat", "dog", "hat"]])
def test_words_without_quotes_are_asked_for(words: list[str]) -> None:
    with pytest.raises(InputError, match=f'the words are not quoted: write "{" ".join(words)}" for one picture'):
        Prompts(words)


def test_several_prompts_are_no_such_words() -> None:
    for listed in (["cow"], ["a cow", "a cat"], ["a cow", "cat"], ["", "cat"]):
        assert len(Prompts(listed).read()) == len(listed)


def test_what_cannot_be_read(tmp_path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty").write_text("\n")
    for name, message in (
        ("bytes", "not UTF-8"),
        ("empty", "holds no prompts"),
        (".", "is a folder, expected is a file"),
    ):
        with pytest.raises(InputError, match=message):
            Prompts(file=str(tmp_path / name)).read()
    for batch in (0, 10**9):
        with pytest.raises(InputError, match=f"the batch count is {batch}, expected is 1 to 100000"):
            Prompts(batch=batch)
    (tmp_path / "two").write_text("a cat\na dog\n")
    with pytest.raises(InputError, match="180000 pictures are asked for, accepted are at most 100000 a call"):
        Prompts(["a cow"], file=str(tmp_path / "two"), batch=60_000).read()


@pytest.mark.parametrize(
    ("content", "message"), [(b"a \xff", "standard input is not UTF-8"), (b"\n" * 1_000_001, "lines")]
)
def test_what_cannot_be_taken_from_standard_input(content, message, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    with pytest.raises(InputError, match=message):
        Prompts(file="-").read()
