import copy
from dataclasses import replace

import pytest
import torch

from darkroom.conditioning.chunks import chunked
from darkroom.conditioning.clip_text import ClipText, ClipTextEmbedderConfig, TextTowerConfig
from darkroom.conditioning.embedding import Embedding
from darkroom.conditioning.weighted_text import Piece, WeightedText
from darkroom.errors import InputError
from darkroom.models.clip import ClipTextConfig
from darkroom.prompts.grammar import parse
from darkroom.prompts.schedule import flat
from darkroom.systems.build import LatentDiffusion


def say(text: str) -> WeightedText:
    return flat(parse(text).parts[0].prompt, 0, 1)


class Letters:
    """A tokenizer of one token a word, the comma being 267 as in CLIP's vocabulary."""

    length = 77

    def tokens(self, text: str) -> list[int]:
        return [267 if w == "," else len(w) for w in text.replace(",", " , ").split()]

    def frame(self, tokens: list[int]) -> list[int]:
        return [1, *tokens, *[2] * (76 - len(tokens))]

    def encode(self, text: str) -> list[int]:
        return self.frame(self.tokens(text))


def test_chunks_end_at_75_tokens_behind_a_comma_or_where_told() -> None:
    def lengths(text: str) -> list[int]:
        chunks = chunked(Letters(), say(text), 300)  # type: ignore[arg-type]
        assert [len(c.tokens) for c in chunks] == [len(c.weights) for c in chunks]
        return [len(c.tokens) for c in chunks]

    assert lengths("") == [0]
    assert lengths("a " * 75) == [75]
    assert lengths("a " * 76) == [75, 1]
    assert lengths("a BREAK b c") == [1, 2]
    assert lengths("a " * 59 + ", " + "b " * 20) == [60, 20]  # the comma stands among the last twenty
    assert lengths("a " * 40 + ", " + "b " * 40) == [75, 6]  # too far back
    (chunk,) = chunked(Letters(), say("aa (bbb:1.5)"), 300)  # type: ignore[arg-type]
    assert (chunk.tokens, chunk.weights) == ([2, 3], [1.0, 1.5])


@pytest.fixture
def clip_model(tiny_model: LatentDiffusion) -> LatentDiffusion:
    """The tiny system with a CLIP text encoder of two chunks' worth in place of its own."""
    torch.manual_seed(0)
    model = copy.deepcopy(tiny_model)
    tower = ClipTextConfig(
        vocabulary=300, width=16, layers=1, heads=2, length=77, activation="quick_gelu", projection=None
    )
    text = ClipText(ClipTextEmbedderConfig((TextTowerConfig(tower, 0, True, None),), "empty"))
    text.tokenizers = (Letters(),)  # type: ignore[assignment]
    for p in text.parameters():
        p.copy_(torch.randn(p.shape) * 0.5)
    model.conditioner.embedders["caption"] = text
    return model.eval()


def tokens(model: LatentDiffusion, text: str | None, emphasis: str = "a1111") -> torch.Tensor:
    caption = None if text is None else say(text)
    found = model.condition([{"caption": caption}], emphasis=emphasis).tokens
    assert found is not None
    return found[0]


@torch.no_grad()
def test_plain_prompts_are_as_prepared_for_training(clip_model: LatentDiffusion) -> None:
    conditioner = clip_model.conditioner
    plain = conditioner(conditioner.prepare([{"caption": "a cat and , dog"}])).tokens[0]
    assert torch.equal(tokens(clip_model, "a cat and , dog"), plain)
    assert torch.equal(tokens(clip_model, "a (cat:1.0) and , dog"), plain)
    said = clip_model.condition([{"caption": "a cat and , dog"}]).tokens  # a text without any grammar
    assert said is not None
    assert torch.equal(said[0], plain)


@torch.no_grad()
def test_the_formulas_of_the_modes(clip_model: LatentDiffusion) -> None:
    plain, empty = tokens(clip_model, "a cat and dog"), tokens(clip_model, "")
    weights = torch.ones(77, 1)
    weights[2] = 1.5  # behind the start and "a"
    scaled = plain * weights
    assert torch.allclose(tokens(clip_model, "a (cat:1.5) and dog"), scaled * plain.mean() / scaled.mean(), atol=1e-5)
    assert torch.allclose(tokens(clip_model, "a (cat:1.5) and dog", "no norm"), scaled, atol=1e-5)
    away = empty + (plain - empty) * weights
    assert torch.allclose(tokens(clip_model, "a (cat:1.5) and dog", "comfy"), away, atol=1e-5)
    assert torch.allclose(tokens(clip_model, "a (cat:1.5) and dog", "compel"), away, atol=1e-5)
    half = (plain + tokens(clip_model, "a and dog")) / 2  # tan(π/4) = 1: as much with as without
    assert torch.allclose(tokens(clip_model, "a (cat:0.5) and dog", "compel"), half, atol=1e-4)
    assert torch.allclose(tokens(clip_model, "a (cat:0) and dog", "compel"), tokens(clip_model, "a and dog"), atol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize("emphasis", ["a1111", "comfy", "compel"])
def test_no_row_depends_on_the_others_whatever_their_chunks(clip_model: LatentDiffusion, emphasis: str) -> None:
    texts = ["word " * 80 + "(cat:1.3)", "(a:0.7)", None, "x " * 151, "word " * 75 + "(cat:0.5)"]
    rows = [{"caption": None if t is None else say(t)} for t in texts]
    found = clip_model.condition(rows, emphasis=emphasis)
    assert found.tokens is not None
    assert found.tokens.shape == (5, 6 * 77, 16)  # 2, 1, 1, 3 and 2 chunks
    for row, text in zip(found.tokens, texts):
        alone = tokens(clip_model, text, emphasis)
        assert torch.allclose(row, alone.repeat(len(row) // len(alone), 1), atol=1e-5)


@torch.no_grad()
def test_words_weigh_in_the_second_chunk_as_in_the_first(clip_model: LatentDiffusion) -> None:
    plain = tokens(clip_model, "a BREAK cat dog")
    weights = torch.ones(154, 1)
    weights[79] = 1.5
    assert torch.allclose(tokens(clip_model, "a BREAK cat (dog:1.5)", "no norm"), plain * weights, atol=1e-5)


@torch.no_grad()
def test_clip_skip_is_of_one_call(clip_model: LatentDiffusion, tiny_model: LatentDiffusion) -> None:
    rows = [{"caption": "a cat"}]
    before = clip_model.condition(rows).tokens
    assert before is not None
    for skip in (0, 2):
        with pytest.raises(InputError, match=f"clip skip is {skip}, expected is 1 .* to 1"):
            clip_model.condition(rows, clip_skip=skip)
    assert torch.equal(clip_model.condition(rows, clip_skip=1).tokens, before)
    for inputs in (rows, [{}]):
        with pytest.raises(InputError, match="no CLIP text encoder"):
            tiny_model.condition(inputs, clip_skip=1)


def learned(*vectors: torch.Tensor) -> Embedding:
    return Embedding("mine", tuple(vectors))


def test_vectors_count_as_tokens_and_stay_together() -> None:
    e = learned(torch.zeros(3, 16))

    def lengths(*pieces: Piece) -> list[int]:
        return [len(c.tokens) for c in chunked(Letters(), WeightedText(pieces), 300)]  # type: ignore[arg-type]

    mine = Piece("mine", 1.5, embedding=e)
    assert lengths(Piece("a " * 72), mine) == [75]
    assert lengths(Piece("a " * 73), mine) == [73, 3]
    first, second = chunked(Letters(), WeightedText((mine, Piece("aa"), replace(mine, breaks=True))), 300)  # type: ignore[arg-type]
    assert (first.tokens, first.weights) == ([300, 301, 302, 2], [1.5, 1.5, 1.5, 1.0])
    assert second.tokens == [303, 304, 305]
    with pytest.raises(InputError, match="'mine' has 76 vectors"):
        lengths(Piece("mine", embedding=learned(torch.zeros(76, 16))))


@torch.no_grad()
def test_an_embedding_of_known_tokens_is_as_these_tokens(clip_model: LatentDiffusion) -> None:
    table = clip_model.conditioner.embedders["caption"].towers[0].token_embedding.weight  # type: ignore[union-attr,index]
    cat, house = (Piece(w, 1.2, embedding=learned(table[[len(w)]])) for w in ("cat", "house"))
    both = Piece("cat house", 0.8, embedding=learned(table[[3, 5]]))
    rows = [
        WeightedText((Piece("a"), cat, house)),
        WeightedText((both, Piece("dogs"))),
        WeightedText((Piece("a " * 74), both)),
        None,
    ]
    found = clip_model.condition([{"caption": r} for r in rows]).tokens
    assert found is not None
    said = ["a (cat house:1.2)", "(cat house:0.8) dogs", "a " * 74 + "BREAK (cat house:0.8)", None]
    for row, text in zip(found, said):
        alone = tokens(clip_model, text)
        assert torch.allclose(row, alone.repeat(len(row) // len(alone), 1), atol=1e-5)
    without = clip_model.condition(
        [{"caption": WeightedText((Piece("a"), replace(both, weight=0.0)))}], emphasis="compel"
    )
    assert without.tokens is not None
    assert torch.allclose(without.tokens[0], tokens(clip_model, "a"), atol=1e-2)


def test_embeddings_that_do_not_fit_are_named(clip_model: LatentDiffusion, tiny_model: LatentDiffusion) -> None:
    for vectors in ([torch.zeros(1, 8)], [torch.zeros(1, 16), torch.zeros(1, 16)]):
        caption = WeightedText((Piece("x", embedding=learned(*vectors)),))
        with pytest.raises(InputError, match=r"'mine' holds vectors of widths .* expected are \[16\]"):
            clip_model.condition([{"caption": caption}])
        with pytest.raises(InputError, match=r"'mine' holds vectors of widths .* expected are \[16\]"):
            tiny_model.condition([{"caption": caption}])


@torch.no_grad()
def test_words_of_the_picture_book_are_weighted_one_by_one(tiny_model: LatentDiffusion) -> None:
    plain = tiny_model.condition([{"caption": "a red cat"}]).tokens
    assert plain is not None
    weights = torch.ones(40, 1)
    weights[1] = 1.5
    scaled = plain[0] * weights
    assert torch.allclose(tokens(tiny_model, "a (red:1.5) cat"), scaled * plain.mean() / scaled.mean(), atol=1e-5)


@torch.no_grad()
def test_a_word_of_two_weights_is_one_word_and_moves_no_other(tiny_model: LatentDiffusion) -> None:
    parted, whole = tokens(tiny_model, "c(a:0.5)t (red:1.5) house"), tokens(tiny_model, "cat (red:1.5) house")
    assert torch.equal(parted, whole)
    assert not torch.equal(tokens(tiny_model, "cat red house"), whole)


@torch.no_grad()
def test_compel_keeps_chunks_where_they_begin(clip_model: LatentDiffusion) -> None:
    with_it, without = tokens(clip_model, "a BREAK cat dog"), tokens(clip_model, "a BREAK dog")
    found = tokens(clip_model, "a BREAK(cat:0.5) dog", "compel")
    assert found.shape == (154, 16)
    assert torch.allclose(found, (with_it + without) / 2, atol=1e-4)


def test_a_system_without_prompts_refuses_weights(tiny_model: LatentDiffusion) -> None:
    model = copy.deepcopy(tiny_model)
    del model.conditioner.embedders["caption"]
    with pytest.raises(InputError, match="reads no prompts"):
        model.condition([{"caption": WeightedText((Piece("a", 2.0),))}])
