"""BERT's word pieces, which the text model of 1.45 billion parameters reads (papers D.2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from darkroom.errors import InputError, cause
from darkroom.json_file import parse_table
from darkroom.models.vocabulary import checked, files_in, find_bert_vocabulary, read_bytes

__all__ = ["BertTokenizer"]

START, END, PADDING, UNKNOWN = "[CLS]", "[SEP]", "[PAD]", "[UNK]"


class BertTokenizer:
    """Text to exactly `length` token numbers: [CLS], pieces, [SEP], padding.

    The vocabulary is looked for when the first text comes, first in `folder`, the checkpoint's. `rows`: of the text
    encoder's table, which every token must have.
    """

    front = 1  # [CLS]

    def __init__(self, length: int = 77, folder: Path | None = None, rows: int | None = None) -> None:
        self.length = length
        self.folder = folder
        self.rows = rows
        self._tokenizer: Tokenizer | None = None

    def files(self) -> list[Path]:
        """Of the vocabulary, where it lies in the checkpoint's folder."""
        return files_in(self.folder, find_bert_vocabulary)

    @property
    def tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            self._tokenizer = _build(find_bert_vocabulary(self.folder), self.rows)
        return self._tokenizer

    def numbers(self, text: str) -> list[int]:
        """The pieces of `text`, as many as there are, without what frames them."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def frame(self, numbers: Sequence[int]) -> list[int]:
        """Exactly `length` numbers: start, pieces, cut if they are too many, end and padding."""
        framed = [self._special(START), *numbers[: self.length - 2], self._special(END)]
        return framed + [self._special(PADDING)] * (self.length - len(framed))

    def encode(self, text: str) -> list[int]:
        """`text` as exactly `length` numbers."""
        return self.frame(self.numbers(text))

    def _special(self, token: str) -> int:
        number = self.tokenizer.token_to_id(token)
        assert number is not None, "checked when the vocabulary was read"
        return number


def _build(path: Path, rows: int | None) -> Tokenizer:
    try:
        text = read_bytes(path).decode("utf-8")
        if path.suffix == ".json":
            words = parse_table(text, str(path))["model"]["vocab"]
        else:
            words = {piece: i for i, piece in enumerate(text.splitlines())}
        vocabulary = checked(words, (START, END, PADDING, UNKNOWN), rows)
    except InputError:
        raise
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is no vocabulary of BERT: {cause(error)}") from None
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token=UNKNOWN, max_input_chars_per_word=100))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return tokenizer
