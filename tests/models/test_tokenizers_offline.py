"""CLIP's and BERT's tokenizers from tiny vocabularies in every place where one may be."""

import gzip
import json
from pathlib import Path

import pytest
from transformers import BertTokenizerFast, CLIPTokenizerFast

from darkroom.errors import InputError
from darkroom.models import vocabulary
from darkroom.models.bert_tokenizer import BertTokenizer
from darkroom.models.clip_tokenizer import ClipTokenizer, _byte_letters, _from_merges

MERGES = [
    ("c", "a"),
    ("ca", "t</w>"),
    ("d", "o"),
    ("do", "g</w>"),
    ("t", "h"),
    ("th", "e</w>"),
    ("r", "e"),
    ("re", "d</w>"),
]
TEXTS = ["The red cat", "the dog's  CATS\n2 dogs!", "", "café 42 — 猫", "  red\tdog ", "it's we'll <|endoftext|>?"]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "red", "cat", "##s", "dog", "cafe", "4", "##2", "!", "'", "s"]


@pytest.fixture(autouse=True)
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(vocabulary, "CLIP_PACKAGES", ("open_clip_of_this_test",))


def write_clip(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    numbers, merges = _from_merges(MERGES)
    (folder / "vocab.json").write_text(json.dumps(numbers))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n")
    return folder


def write_bert(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    return folder


@pytest.mark.parametrize("text", [t for t in TEXTS if "<|" not in t])
def test_clip_agrees_with_transformers(tmp_path: Path, text: str):
    folder = write_clip(tmp_path / "tokenizer")
    peer = CLIPTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"))
    wanted = peer(text, padding="max_length", max_length=12, truncation=True)["input_ids"]
    ours = ClipTokenizer(12, folder=tmp_path).encode(text)
    end = ours.index(ClipTokenizer(12, folder=tmp_path).end)
    assert ours[: end + 1] == wanted[: end + 1]
    assert len(ours) == 12


def test_a_prompt_cannot_smuggle_in_the_end_token(tmp_path: Path):
    tokenizer = ClipTokenizer(folder=write_clip(tmp_path))
    letters = ClipTokenizer(folder=tmp_path).tokens("endoftext")
    assert len(tokenizer.tokens("<|endoftext|>")) > len(letters)
    assert tokenizer.end not in tokenizer.tokens("<|endoftext|>")


def test_padding_is_the_end_token_or_zero(tmp_path: Path):
    write_clip(tmp_path)
    repeated, zero = ClipTokenizer(8, folder=tmp_path), ClipTokenizer(8, padding=0, folder=tmp_path)
    cat = repeated.tokens("cat")
    assert repeated.encode("cat") == [repeated.start, *cat, *[repeated.end] * 6]
    assert zero.encode("cat") == [zero.start, *cat, zero.end, *[0] * 5]


def test_long_texts_are_cut_before_the_end_token(tmp_path: Path):
    tokenizer = ClipTokenizer(8, folder=write_clip(tmp_path))
    encoded = tokenizer.encode("cat " * 30)
    assert len(encoded) == 8
    assert encoded[-1] == tokenizer.end
    assert encoded[1:-1] == tokenizer.tokens("cat") * 6


def test_the_three_kinds_of_files_give_the_same_tokens(tmp_path: Path):
    numbers, merges = _from_merges(MERGES)
    write_clip(tmp_path / "pair")
    (tmp_path / "one").mkdir()
    one = {"model": {"vocab": numbers, "merges": [list(m) for m in merges]}}
    (tmp_path / "one" / "tokenizer.json").write_text(json.dumps(one))
    (tmp_path / "gz").mkdir()
    with gzip.open(tmp_path / "gz" / "bpe_simple_vocab_16e6.txt.gz", "wt", encoding="utf-8") as file:
        file.write("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges))
    encoded = [ClipTokenizer(folder=tmp_path / name).encode("The red cat's dog") for name in ("pair", "one", "gz")]
    assert encoded[0] == encoded[1] == encoded[2]


def test_letters_stand_for_all_bytes_once():
    assert len(set(_byte_letters())) == 256
    numbers, _ = _from_merges([])
    assert numbers["!"] == 0
    assert numbers["!</w>"] == 256
    assert (numbers["<|startoftext|>"], numbers["<|endoftext|>"]) == (512, 513)


@pytest.mark.parametrize("sub", ["", "tokenizer", "tokenizer_2"])
def test_the_hub_cache_is_looked_through(tmp_path: Path, sub: str):
    write_clip(tmp_path / "cache" / "models--someone--sd" / "snapshots" / "abc" / sub)
    assert ClipTokenizer().tokens("cat") == ClipTokenizer(folder=write_clip(tmp_path / "here")).tokens("cat")


def test_an_installed_package_that_carries_it_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "packages" / "open_clip_of_this_test"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    with gzip.open(package / "bpe_simple_vocab_16e6.txt.gz", "wt", encoding="utf-8") as file:
        file.write("#version: 0.2\n" + "\n".join(" ".join(m) for m in MERGES))
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    assert len(ClipTokenizer().tokens("cat")) == 1


def test_files_of_other_models_are_passed_over(tmp_path: Path):
    other = tmp_path / "cache" / "models--gpt2" / "snapshots" / "abc"
    other.mkdir(parents=True)
    (other / "vocab.json").write_text('{"a": 0}')
    (other / "merges.txt").write_text("")
    with pytest.raises(InputError, match=r"vocab\.json and merges\.txt"):
        ClipTokenizer().tokens("cat")


@pytest.mark.parametrize("tokenizer", [ClipTokenizer, BertTokenizer])
def test_a_missing_vocabulary_is_one_clear_sentence(tmp_path: Path, tokenizer: type):
    with pytest.raises(InputError, match="vocabulary is not on this machine: put vocab") as caught:
        tokenizer(folder=tmp_path).encode("cat")
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["vocab.json", "tokenizer.json"])
def test_a_broken_vocabulary_names_the_file(tmp_path: Path, name: str):
    (tmp_path / "merges.txt").write_text("")
    (tmp_path / name).write_text('{"<|startoftext|>"')
    with pytest.raises(InputError, match=name):
        ClipTokenizer(folder=tmp_path).tokens("cat")


@pytest.mark.parametrize("text", TEXTS)
def test_bert_agrees_with_transformers(tmp_path: Path, text: str):
    folder = write_bert(tmp_path)
    peer = BertTokenizerFast(str(folder / "vocab.txt"))
    wanted = peer(text, padding="max_length", max_length=10, truncation=True)["input_ids"]
    assert BertTokenizer(10, folder).encode(text) == wanted


def test_bert_without_its_special_tokens_is_refused(tmp_path: Path):
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(InputError, match=r"lacks \[CLS\]"):
        BertTokenizer(folder=tmp_path).encode("a")
