from darkroom.conditioning.weighted_text import Piece, WeightedText
from darkroom.prompts.grammar import Sentence, parse
from darkroom.prompts.schedule import changes, flat


def sentence(text: str) -> Sentence:
    (part,) = parse(text).parts
    return part.prompt


def said(text: str, total: int) -> list[str]:
    return [flat(sentence(text), step, total).text for step in range(total)]


def test_weights_multiply_out() -> None:
    found = flat(sentence("a (b (c:2) [d:e:0.5]:1.5) f"), 0, 10)
    assert found == WeightedText((Piece("a "), Piece("b ", 1.5), Piece("c", 3.0), Piece(" d", 1.5), Piece(" f")))
    assert not found.plain
    assert flat(sentence(" plain  words "), 0, 1) == WeightedText((Piece("plain  words"),))


def test_breaks_are_kept() -> None:
    found = flat(sentence("a BREAK (b:1.2)"), 0, 1)
    assert found.pieces == (Piece("a "), Piece(" ", breaks=True), Piece("b", 1.2))


def test_editing_counts_as_a1111_does() -> None:
    """Its table begins with step 1 and is looked up by the step from 0, so 3 means four steps."""
    assert said("[a:b:3]", 8) == ["a"] * 4 + ["b"] * 4
    assert said("[a:b:0.5]", 8) == ["a"] * 5 + ["b"] * 3
    assert said("[b:0]", 3) == ["b"] * 3
    assert said("x[a::2]", 4) == ["xa", "xa", "xa", "x"]
    assert said("[a:b:100]", 4) == ["a"] * 4
    assert said("[a:[b:c:0.75]:0.25]", 8) == ["a"] * 3 + ["b"] * 4 + ["c"]


def test_a_second_pass_counts_on() -> None:
    """A1111 1.6 and later: 0.5 and 3 lie in the first pass of four steps, 1.5 and 6 in the second."""

    def second(text: str) -> list[str]:
        return [flat(sentence(text), step, 8, former=4).text for step in range(8)]

    assert second("[a:b:0.5]") == second("[a:b:3]") == second("[a:b:4]") == ["b"] * 8
    assert second("[a:b:1.5]") == ["a"] * 5 + ["b"] * 3
    assert second("[a:b:6]") == ["a"] * 3 + ["b"] * 5
    assert changes(sentence("[a:b:6]"), 8, former=4) == [3]


def test_alternation_goes_round() -> None:
    assert said("[a|b|c]", 7) == ["a", "a", "b", "c", "a", "b", "c"]


def test_changes_are_where_the_text_is_another() -> None:
    assert changes(sentence("a (b:2)"), 10) == []
    assert changes(sentence("[a:b:3] and ([c:d:5])"), 10) == [4, 6]
    assert changes(sentence("[a|b]"), 5) == [2, 3, 4]
    assert changes(sentence("[a|a]"), 5) == []
