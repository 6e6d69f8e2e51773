import copy

import pytest
import torch

from darkroom.conditioning.clip_text import ClipText, ClipTextEmbedderConfig, TextTowerConfig
from darkroom.errors import InputError
from darkroom.models.clip import ClipTextConfig
from darkroom.prompts.grammar import parse
from darkroom.prompts.schedule import Flat, Piece, flat
from darkroom.prompts.weights import chunked, encode_prompt
from darkroom.systems.build import LatentDiffusion


def say(text: str) -> Flat:
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
        chunks, weights = chunked(Letters(), say(text))  # type: ignore[arg-type]
        assert [len(c) for c in chunks] == [len(w) for w in weights]
        return [len(c) for c in chunks]

    assert lengths("") == [0]
    assert lengths("a " * 75) == [75]
    assert lengths("a " * 76) == [75, 1]
    assert lengths("a BREAK b c") == [1, 2]
    assert lengths("a " * 59 + ", " + "b " * 20) == [60, 20]  # the comma stands among the last twenty
    assert lengths("a " * 40 + ", " + "b " * 40) == [75, 6]  # too far back
    chunks, weights = chunked(Letters(), say("aa (bbb:1.5)"))  # type: ignore[arg-type]
    assert (chunks, weights) == (((2, 3),), [[1.0, 1.5]])


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
    found = encode_prompt(model, [{"caption": caption}], emphasis).tokens
    assert found is not None
    return found[0]


@torch.no_grad()
def test_plain_prompts_are_as_without_all_this(clip_model: LatentDiffusion) -> None:
    plain = clip_model.encode([{"caption": "a cat and , dog"}]).tokens
    assert plain is not None
    assert torch.equal(tokens(clip_model, "a cat and , dog"), plain[0])
    assert torch.equal(tokens(clip_model, "a (cat:1.0) and , dog"), plain[0])


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
def test_rows_of_a_batch_have_the_same_chunks_and_are_what_they_are_alone(clip_model: LatentDiffusion) -> None:
    long = "word " * 80 + "(cat:1.3)"
    found = encode_prompt(clip_model, [{"caption": say(long)}, {"caption": say("(a:0.7)")}, {"caption": None}], "a1111")
    assert found.tokens is not None
    assert found.tokens.shape == (3, 154, 16)
    assert torch.allclose(found.tokens[0], tokens(clip_model, long), atol=1e-5)
    assert torch.allclose(found.tokens[1, :77], tokens(clip_model, "(a:0.7)"), atol=1e-5)
    assert torch.allclose(found.tokens[1, 77:], tokens(clip_model, ""), atol=1e-5)


@torch.no_grad()
def test_words_of_the_picture_book_are_weighted_one_by_one(tiny_model: LatentDiffusion) -> None:
    plain = tiny_model.encode([{"caption": "a red cat"}]).tokens
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
        encode_prompt(model, [{"caption": Flat((Piece("a", 2.0),))}], "a1111")
