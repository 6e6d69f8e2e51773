from hypothesis import given
from hypothesis import strategies as st

from darkroom.models.tokenizer import WordTokenizer

WORDS = ("a", "blue", "cat", "dog", "of", "g", "o")
PAD, UNKNOWN, END = 0, 1, 2


def number(word: str) -> int:
    return WORDS.index(word) + 3


def test_case_and_punctuation_do_not_matter():
    tokenizer = WordTokenizer(WORDS, 6)
    assert tokenizer.encode("A blue, CAT!") == tokenizer.encode("a blue cat")
    assert tokenizer.encode("a blue cat") == [number("a"), number("blue"), number("cat"), END, PAD, PAD]


def test_unknown_words_are_marked_and_named():
    tokenizer = WordTokenizer(WORDS, 4)
    assert tokenizer.encode("a horse") == [number("a"), UNKNOWN, END, PAD]
    assert tokenizer.unknown("a horse of blue wool") == ["horse", "wool"]


def test_quoted_words_are_spelt():
    tokenizer = WordTokenizer(WORDS, 6)
    assert tokenizer.split('a dog "GO"') == ["a", "dog", "g", "o"]
    assert tokenizer.encode('"go"') == [number("g"), number("o"), END, PAD, PAD, PAD]


def test_long_texts_keep_their_end():
    assert WordTokenizer(WORDS, 3).encode("a cat of dog") == [number("a"), number("cat"), END]


@given(st.text(max_size=80), st.integers(1, 12))
def test_every_text_gives_exactly_the_length(text: str, length: int):
    tokenizer = WordTokenizer(WORDS, length)
    tokens = tokenizer.encode(text)
    end = tokens.index(END)
    assert len(tokens) == length
    assert set(tokens[end + 1 :]) <= {PAD}
    assert all(0 < t < len(tokenizer) for t in tokens[:end])
