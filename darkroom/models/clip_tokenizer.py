"""CLIP's byte-pair tokens, from any of the files in which its vocabulary is published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import NFC, Lowercase, Replace
from tokenizers.normalizers import Sequence as Normalizers
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as PreTokenizers

from darkroom.errors import InputError, cause, printable
from darkroom.json_file import parse_table
from darkroom.models.vocabulary import MAX_WORDS, checked, files_in, find_clip_vocabulary, read_bytes

__all__ = ["ClipTokenizer", "small_vocabulary"]

START, END = "<|startoftext|>", "<|endoftext|>"
WORD = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
MERGES = 49152 - 256 - 2  # of the merges in bpe_simple_vocab, those that CLIP knows


class ClipTokenizer:
    """Text to token numbers. The vocabulary is looked for when the first text comes.

    `folder`: the checkpoint's, where it is looked for first. `padding` fills a text up behind its end: None repeats the
    end token (CLIP ViT-L), OpenCLIP's towers were trained with 0. `rows`: of the text encoder's table, which every
    token must have.
    """

    def __init__(
        self, length: int = 77, padding: int | None = None, folder: Path | None = None, rows: int | None = None
    ) -> None:
        self.length = length
        self.padding = padding
        self.folder = folder
        self.rows = rows
        self._tokenizer: Tokenizer | None = None

    def files(self) -> list[Path]:
        """Of the vocabulary, where it lies in the checkpoint's folder."""
        return files_in(self.folder, find_clip_vocabulary)

    @property
    def tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            self._tokenizer = _build(find_clip_vocabulary(self.folder), self.rows)
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


def _build(path: Path, rows: int | None) -> Tokenizer:
    try:
        words, merges = _read(path)
        vocabulary = checked(words, (START, END), rows)
        _require_merges(vocabulary, merges)
    except InputError:
        raise
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is no vocabulary of CLIP: {cause(error)}") from None
    model = BPE(vocabulary, merges, end_of_word_suffix="</w>", unk_token=END)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = Normalizers([NFC(), Replace(Regex(r"\s+"), " "), Lowercase()])
    words = Split(Regex(WORD), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = PreTokenizers([words, ByteLevel(add_prefix_space=False)])
    return tokenizer


def _read(path: Path) -> tuple[object, list[tuple[str, str]]]:
    """The words with their numbers and the merges, as they stand in the file."""
    text = read_bytes(path).decode("utf-8")
    if path.name == "tokenizer.json":
        model = parse_table(text, str(path))["model"]
        return model["vocab"], [_pair(m) for m in model["merges"]]
    if path.suffix == ".json":
        lines = read_bytes(path.parent / "merges.txt").decode("utf-8").split("\n")
        return parse_table(text, str(path)), [_pair(m) for m in lines if m.strip() and not m.startswith("#version")]
    return _from_merges([_pair(m) for m in text.split("\n")[1 : MERGES + 1] if m])


def _require_merges(vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> None:
    """Raise `ValueError` unless every merge leads from words to a word."""
    if len(merges) > MAX_WORDS:
        raise ValueError(f"it has {len(merges)} merges, accepted are at most {MAX_WORDS}")
    for first, second in merges:
        unknown = next((word for word in (first, second, first + second) if word not in vocabulary), None)
        if unknown is not None:
            raise ValueError(
                f"the merge {printable(first)!r} {printable(second)!r} needs the word {printable(unknown)!r}"
            )


def _pair(merge: object) -> tuple[str, str]:
    parts = merge.split() if isinstance(merge, str) else merge
    if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"{printable(merge)!r} is not a pair of words")
    return parts[0], parts[1]


def small_vocabulary(merges: Sequence[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Words with their numbers and merges of a vocabulary of few `merges`, each two words with a blank between."""
    return _from_merges([_pair(m) for m in merges])


def _from_merges(merges: list[tuple[str, str]]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Bytes, bytes that end a word, merged pairs, the two special tokens: the numbering of the first release."""
    letters = _byte_letters()
    words = [*letters, *(f"{c}</w>" for c in letters), *("".join(m) for m in merges), START, END]
    return {word: i for i, word in enumerate(words)}, merges


def _byte_letters() -> list[str]:
    """A printable letter for each byte; the printable ones first, as themselves, the others moved behind 255."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
