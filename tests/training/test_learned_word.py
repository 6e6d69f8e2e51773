"""Textual inversion: what is read through the word, what is learned, and files that others read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from narrow import WIDTH, narrow
from narrow_checkpoints import narrow as unlike_widths
from narrow_checkpoints import randomise, write_vocabulary
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from darkroom.checkpoints.embeddings import EmbeddingFolders, read_embedding
from darkroom.conditioning.weighted_text import Piece, WeightedText
from darkroom.errors import InputError
from darkroom.prompts.embeddings import with_embeddings
from darkroom.prompts.grammar import parse
from darkroom.prompts.schedule import flat
from darkroom.systems import System
from darkroom.systems.build import LatentDiffusion, build
from darkroom.training.learned_word import EmbeddingConfig, LearnedWord, write_embedding


def model_of(name: str, folder: Path, narrow: Callable[[str], System] = narrow) -> LatentDiffusion:
    write_vocabulary(folder)
    model = build(narrow(name))
    randomise(model)
    model.conditioner.look_in(folder)
    return model


@pytest.mark.parametrize("name", ["sd-v1-5", "sdxl-base"])
def test_training_reads_what_drawing_reads(name: str, tmp_path: Path) -> None:
    model = model_of(name, tmp_path)
    word = LearnedWord(model, EmbeddingConfig("my-cat", 3))
    embedder = model.conditioner.embedders["caption"]
    caption = "a my-cat, red my-cat"
    prepared = embedder.prepare([word.tokens(caption), word.tokens("a cat")])  # type: ignore[operator]
    trained = embedder(prepared)
    a, red = Piece("a "), Piece(", red ")
    learned = Piece("my-cat", embedding=word.embedding)
    (drawn,) = embedder.condition(  # type: ignore[operator]
        [WeightedText((a, learned, red, learned))], emphasis="a1111", clip_skip=None, device=torch.device("cpu")
    )
    assert torch.allclose(trained.tokens[:1], drawn.tokens, atol=1e-5)
    trained.tokens.square().sum().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any(dim=1).all()) for p in word.parameters())
    assert not any(p.grad is not None for p in model.parameters())


def test_it_begins_with_words(tmp_path: Path) -> None:
    model = model_of("sd-v1-5", tmp_path)
    embedder = model.conditioner.embedders["caption"]
    word = LearnedWord(model, EmbeddingConfig("my-cat", 2, init="cat"))
    (number,) = embedder.tokenizers[0].tokens("cat")  # type: ignore[index, union-attr]
    row = embedder.towers[0].token_embedding.weight[number]  # type: ignore[index, union-attr]
    assert torch.equal(word.vectors[0], torch.stack([row, row]))


@pytest.mark.parametrize("name", ["sd-v1-5", "sdxl-base"])
def test_files_are_read_back(name: str, tmp_path: Path) -> None:
    model = model_of(name, tmp_path, unlike_widths)  # which tell the towers apart
    word = LearnedWord(model, EmbeddingConfig("my-cat", 2))
    for path in write_embedding(tmp_path / "export", word.embedding, model.system, {"ss_steps": "3"}):
        found = read_embedding(path, model.system)
        assert all(torch.equal(a, b) for a, b in zip(found.vectors, word.vectors))


def test_diffusers_takes_the_file(tmp_path: Path) -> None:
    model = model_of("sd-v1-5", tmp_path)
    word = LearnedWord(model, EmbeddingConfig("my-cat", 2))
    write_embedding(tmp_path / "export", word.embedding, model.system, {})
    tokenizer = CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
        )
    )
    pipeline = StableDiffusionPipeline(None, encoder, tokenizer, None, None, None, None, requires_safety_checker=False)  # type: ignore[arg-type]
    for name in ("learned_embeds.safetensors", "my-cat.safetensors"):
        pipeline.load_textual_inversion(str(tmp_path / "export" / name), token=None if "learned" in name else "<other>")
    table = encoder.get_input_embeddings().weight
    for token in ("my-cat", "<other>"):
        assert torch.allclose(table[tokenizer.convert_tokens_to_ids(token)], word.vectors[0][0])


def test_a_text_encoder_of_words_learns_one_too(tiny_model: LatentDiffusion, tmp_path: Path) -> None:
    embedder: Any = tiny_model.conditioner.embedders["caption"]
    plain = embedder(embedder.prepare(["a red cat"]))
    word = LearnedWord(tiny_model, EmbeddingConfig("felix", 2, init="red cat"))
    trained = embedder(embedder.prepare([word.tokens("a felix"), word.tokens("felix on snow")]))
    assert torch.allclose(trained[:1], plain, atol=1e-5)  # it begins as the words that it is made of
    path, _ = write_embedding(tmp_path, word.embedding, tiny_model.system, {})
    folders = EmbeddingFolders([tmp_path], tiny_model.system)
    prompt = with_embeddings(parse("a felix, felix"), folders)
    said = flat(prompt.parts[0].prompt, 0, 4)
    (drawn,) = embedder.condition([said], emphasis="a1111", clip_skip=None, device=torch.device("cpu"))
    expected = embedder(embedder.prepare(["a red cat red cat"]))
    assert torch.allclose(drawn.tokens, expected, atol=1e-5)
    trained.square().sum().backward()
    assert all(bool((p.grad != 0).any(dim=1).all()) for p in word.parameters())
    assert read_embedding(path, tiny_model.system).vectors[0].shape == (2, tiny_model.system.embedders[0].width)
    embedder._forward_pre_hooks.clear()  # the model is shared


def test_what_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"embedding: ldm_celeba256 has no text encoder that reads one"):
        LearnedWord(build(narrow("ldm_celeba256")), EmbeddingConfig("cat"))
    with pytest.raises(InputError, match=r"embedding.word is 'my cat'|embedding.word is my cat"):
        EmbeddingConfig("my cat")
    with pytest.raises(InputError, match=r"embedding.init is ' ', at least one word expected"):
        LearnedWord(model_of("sd-v1-5", tmp_path), replace(EmbeddingConfig("cat"), init=" "))
