"""A tokenizer's files are checked like weights: whole, before the first text is read with them."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from narrow_checkpoints import MERGES, write_vocabulary

from darkroom.errors import InputError
from darkroom.models import vocabulary as vocabulary_module
from darkroom.models.bert_tokenizer import BertTokenizer
from darkroom.models.clip_tokenizer import END, START, ClipTokenizer


@pytest.fixture(autouse=True)
def nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No other vocabulary is on the machine."""
    monkeypatch.setattr(vocabulary_module, "CLIP_PACKAGES", ())
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no cache"))


@pytest.fixture
def words(tmp_path: Path) -> dict[str, Any]:
    write_vocabulary(tmp_path)
    return json.loads((tmp_path / "vocab.json").read_text())


CHANGES: dict[str, tuple[Any, str]] = {
    "a fraction": ({"a": 1.5}, "the number of 'a' is 1.5, expected is 0 to"),
    "below zero": ({"a": -1}, "the number of 'a' is -1"),
    "text": ({"a": "7"}, "the number of 'a' is 7"),
    "beyond the encoder": ({"extra": 600}, "the number of 'extra' is 600, expected is 0 to 521"),
    "twice": ({"extra": 5}, "a number stands for two words"),
    "half a pair": ({"\ud800": 600}, "surrogates not allowed|expected is"),
    "an escape sequence": ({"\x1b[2J": -1}, r"\\x1b"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_numbers_of_words(tmp_path: Path, words: dict[str, Any], what: str) -> None:
    changed, message = CHANGES[what]
    (tmp_path / "vocab.json").write_text(json.dumps({**words, **changed}))
    with pytest.raises(InputError, match=message) as caught:
        ClipTokenizer(folder=tmp_path, rows=522).tokens("cat")
    assert "vocab.json is no vocabulary of CLIP" in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("merges", "message"),
    [("a b c", "is not a pair of words"), ("zz yy", "needs the word 'zz'"), ("\udcff", "is not UTF-8")],
)
def test_merges(tmp_path: Path, words: dict[str, Any], merges: str, message: str) -> None:
    (tmp_path / "merges.txt").write_bytes(f"#version: 0.2\nc a\n{merges}\n".encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=message):
        ClipTokenizer(folder=tmp_path).tokens("cat")


@pytest.mark.parametrize(
    "model",
    [None, [], {}, {"vocab": []}, {"vocab": {}, "merges": []}, {"vocab": {START: 0, END: 1}, "merges": [[1, 2]]}],
)
def test_tables_of_the_wrong_kind(tmp_path: Path, model: object) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"note": START, "model": model}))
    with pytest.raises(InputError, match=r"tokenizer\.json is no vocabulary of CLIP"):
        ClipTokenizer(folder=tmp_path).tokens("cat")


def test_more_words_than_any_vocabulary_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary_module, "MAX_WORDS", 2)
    with pytest.raises(ValueError, match="a table of at most 2"):
        vocabulary_module.checked({"a": 0, "b": 1, "c": 2}, ())


def test_a_small_file_that_unpacks_to_a_huge_one(tmp_path: Path) -> None:
    (tmp_path / "bpe_simple_vocab_16e6.txt.gz").write_bytes(gzip.compress(bytes(33 << 20), 1))
    with pytest.raises(InputError, match="holds more than"):
        ClipTokenizer(folder=tmp_path).tokens("cat")


def test_a_sound_file_is_read_up_to_the_rows_of_the_encoder(tmp_path: Path, words: dict[str, Any]) -> None:
    rows = max(words.values()) + 1
    assert ClipTokenizer(folder=tmp_path, rows=rows).tokens("cat") == [words["cat</w>"]]
    with pytest.raises(InputError, match=f"expected is 0 to {rows - 2}"):
        ClipTokenizer(folder=tmp_path, rows=rows - 1).tokens("cat")
    assert len(MERGES) == 8


def test_bert(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n")
    with pytest.raises(InputError, match=r"vocab\.txt is no vocabulary of BERT: it lacks \[SEP\]"):
        BertTokenizer(folder=tmp_path).numbers("cat")
    (tmp_path / "vocab.txt").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"vocab\.txt is no vocabulary of BERT"):
        BertTokenizer(folder=tmp_path).numbers("cat")
