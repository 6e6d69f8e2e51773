"""CLIP's byte-pair tokens, from any of the files in which its vocabulary is published."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import NFC, Lowercase, Replace
from tokenizers.normalizers import Sequence as Normalizers
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as PreTokenizers

from darkroom.errors import InputError
from darkroom.models.vocabulary import find_clip_vocabulary

__all__ = ["ClipTokenizer"]

START, END = "<|startoftext|>", "<|endoftext|>"
WORD = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
MERGES = 49152 - 256 - 2  # of the merges in bpe_simple_vocab, those that CLIP knows

Vocabulary = tuple[dict[str, int], list[tuple[str, str]]]


class ClipTokenizer:
    """Text to token numbers. The vocabulary is looked for when the first text comes.

    `folder`: the checkpoint's, where it is looked for first. `padding` fills a text up behind its end: None repeats the
    end token (CLIP ViT-L), OpenCLIP's towers were trained with 0.
    """

    def __init__(self, length: int = 77, padding: int | None = None, folder: Path | None = None) -> None:
        self.length = length
        self.padding = padding
        self.folder = folder
        self._tokenizer: Tokenizer | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            self._tokenizer = _build(find_clip_vocabulary(self.folder))
        return self._tokenizer

    @property
    def start(self) -> int:
        return self._special(START)

    @property
    def end(self) -> int:
        return self._special(END)

    def _special(self, token: str) -> int:
        number = self.tokenizer.token_to_id(token)
        assert number is not None, f"every vocabulary of CLIP has {token}"
        return number

    def tokens(self, text: str) -> list[int]:
        """The tokens of `text`, as many as there are, without start and end."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def frame(self, tokens: Sequence[int]) -> list[int]:
        """Exactly `length` numbers: start, `tokens` (cut if too many), end, padding."""
        framed = [self.start, *tokens[: self.length - 2], self.end]
        return framed + [self.end if self.padding is None else self.padding] * (self.length - len(framed))

    def encode(self, text: str) -> list[int]:
        """`text` as exactly `length` numbers."""
        return self.frame(self.tokens(text))


def _build(path: Path) -> Tokenizer:
    vocabulary, merges = _read(path)
    model = BPE(vocabulary, merges, end_of_word_suffix="</w>", unk_token=END)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = Normalizers([NFC(), Replace(Regex(r"\s+"), " "), Lowercase()])
    words = Split(Regex(WORD), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = PreTokenizers([words, ByteLevel(add_prefix_space=False)])
    return tokenizer


def _read(path: Path) -> Vocabulary:
    try:
        if path.name == "tokenizer.json":
            model = json.loads(path.read_text(encoding="utf-8"))["model"]
            return model["vocab"], [_pair(m) for m in model["merges"]]
        if path.suffix == ".json":
            lines = (path.parent / "merges.txt").read_text(encoding="utf-8").split("\n")
            merges = [_pair(m) for m in lines if m.strip() and not m.startswith("#version")]
            return json.loads(path.read_text(encoding="utf-8")), merges
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        lines = data.decode("utf-8").split("\n")
        return _from_merges([_pair(m) for m in lines[1 : MERGES + 1] if m])
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no vocabulary of CLIP: {error}") from None


def _pair(merge: str | list[str]) -> tuple[str, str]:
    first, second = merge.split() if isinstance(merge, str) else merge
    return first, second


def _from_merges(merges: list[tuple[str, str]]) -> Vocabulary:
    """Bytes, bytes that end a word, merged pairs, the two special tokens: the numbering of the first release."""
    letters = _byte_letters()
    words = [*letters, *(f"{c}</w>" for c in letters), *("".join(m) for m in merges), START, END]
    return {word: i for i, word in enumerate(words)}, merges


def _byte_letters() -> list[str]:
    """A printable letter for each byte; the printable ones first, as themselves, the others moved behind 255."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
