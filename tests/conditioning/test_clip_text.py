"""Prompts through tiny towers with a tiny vocabulary."""

import json
from pathlib import Path

import pytest
import torch

from darkroom.conditioning.bert_text import BertText, BertTextConfig
from darkroom.conditioning.clip_text import ClipText, ClipTextEmbedderConfig, TextTowerConfig, TokenChunks
from darkroom.conditioning.conditioner import Conditioner
from darkroom.conditioning.weighted_text import Piece, WeightedText
from darkroom.errors import InputError
from darkroom.models.clip import ClipTextConfig

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = [*LETTERS, *(f"{c}</w>" for c in LETTERS)]
VOCABULARY = len(WORDS) + 2
END = VOCABULARY - 1
LENGTH = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    words = [*WORDS, "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return folder


def tower(width: int, *, padding: int | None, pooled: bool) -> TextTowerConfig:
    config = ClipTextConfig(width, 3, 2, "gelu", width + 2 if pooled else None, vocabulary=VOCABULARY, length=LENGTH)
    return TextTowerConfig(config, skip=1, norm=False, padding=padding, pooled=pooled)


@pytest.fixture(scope="module")
def two(folder: Path) -> ClipText:
    torch.manual_seed(0)
    towers = (tower(8, padding=None, pooled=False), tower(12, padding=0, pooled=True))
    embedder = ClipText(ClipTextEmbedderConfig(towers, absent="zeros")).eval()
    embedder.look_in(folder)
    return embedder


@torch.no_grad()
def test_tokens_of_two_towers_lie_side_by_side_and_the_pooled_in_the_vector(two: ClipText):
    prepared = two.prepare(["a b", "c"])
    c = two(prepared)
    assert prepared.shape == (2, 2, LENGTH)
    assert c.tokens.shape == (2, LENGTH, 20)
    assert c.vector.shape == (2, 14)
    first = two.towers[0](prepared[:, 0], skip=1, norm=False)
    second = two.towers[1](prepared[:, 1], skip=1, norm=False, pooled=True)
    torch.testing.assert_close(c.tokens[..., :8], first.tokens)
    torch.testing.assert_close(c.tokens[..., 8:], second.tokens)
    torch.testing.assert_close(c.vector, second.pooled)


def test_each_tower_pads_in_its_own_way(two: ClipText):
    prepared = two.prepare(["b"])
    assert prepared[0, 0, -1] == END
    assert prepared[0, 1, -1] == 0


@torch.no_grad()
def test_no_prompt_is_zeros_while_the_empty_prompt_is_not(two: ClipText):
    c = two(two.prepare([None, ""]))
    assert not c.tokens[0].any()
    assert not c.vector[0].any()
    assert c.tokens[1].any()
    assert c.vector[1].any()


@torch.no_grad()
def test_a_family_whose_absent_prompt_is_the_empty_one(folder: Path):
    embedder = ClipText(ClipTextEmbedderConfig((tower(8, padding=None, pooled=False),), absent="empty"))
    embedder.look_in(folder)
    torch.testing.assert_close(embedder.prepare([None]), embedder.prepare([""]))


def test_an_empty_negative_prompt_is_an_absent_one(two: ClipText):
    conditioner = Conditioner([two])
    assert conditioner.unconditional({"caption": "cat"}, "") == {"caption": None}
    assert conditioner.unconditional({"caption": "cat"}, "dog") == {"caption": "dog"}


@torch.no_grad()
def test_chunks_run_alone_and_join_along_the_length(two: ClipText):
    one, other = (tuple(t.tokens(text)) for t in two.tokenizers[:1] for text in ("b c", "d"))
    both = two(two.prepare([TokenChunks(((one, other), (one, other)))]))
    first, second = (two(two.prepare([text])) for text in ("b c", "d"))
    torch.testing.assert_close(both.tokens, torch.cat([first.tokens, second.tokens], dim=1))
    torch.testing.assert_close(both.vector, first.vector)


@torch.no_grad()
def test_a_prompt_has_its_own_chunks_alone_and_beside_longer_ones(two: ClipText):
    def say(text: str) -> WeightedText:
        return WeightedText(tuple(Piece(part, breaks=i > 0) for i, part in enumerate(text.split("|"))))

    captions = [say("d"), say("b|c"), None, say("a|b|c")]
    model = Conditioner([two])
    together = model.condition([{"caption": c} for c in captions])
    assert together.tokens.shape == (4, 6 * LENGTH, 20)
    for i, caption in enumerate(captions):
        alone = model.condition([{"caption": caption}])
        torch.testing.assert_close(together[i].tokens, alone.tokens.repeat(1, 6 * LENGTH // alone.tokens.shape[1], 1))
        torch.testing.assert_close(together[i].vector, alone.vector)
    assert not together.tokens[2].any()


def test_prompts_of_unlike_chunks_are_not_prepared_in_one_tensor(two: ClipText):
    with pytest.raises(ValueError, match=r"\[1, 2\] chunks"):
        two.prepare(["d", TokenChunks((((1,), (1,)), ((1,), (1,))))])


@torch.no_grad()
def test_clip_skip_ends_at_an_earlier_layer_for_this_call(two: ClipText):
    prepared = two.prepare(["b"])
    usual = two(prepared).tokens
    skipped = two(prepared, clip_skip=3)
    torch.testing.assert_close(skipped.tokens[..., :8], two.towers[0](prepared[:, 0], skip=2, norm=False).tokens)
    assert torch.equal(Conditioner([two])({"caption": prepared}, clip_skip=3).tokens, skipped.tokens)
    assert torch.equal(two(prepared).tokens, usual)
    for layer in (0, 4):
        with pytest.raises(InputError, match=f"clip skip is {layer}, expected is 1 .* to 3"):
            two(prepared, clip_skip=layer)


def test_chunks_for_the_wrong_number_of_towers_are_refused(two: ClipText):
    with pytest.raises(InputError, match="each of 2 towers"):
        two.prepare([TokenChunks((((1,),),))])


@torch.no_grad()
def test_bert_reads_its_own_vocabulary(tmp_path: Path):
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "cat"]))
    e = BertText(BertTextConfig(width=16, layers=1, length=6, vocabulary=5, heads=2, head_dim=4))
    e.look_in(tmp_path)
    assert e.prepare(["cat horse", None]).tolist() == [[2, 4, 1, 3, 0, 0], [2, 3, 0, 0, 0, 0]]
    assert e(e.prepare(["cat"])).shape == (1, 6, 16)
