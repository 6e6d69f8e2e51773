"""Textual inversion (arXiv:2208.01618): a word whose vectors alone are learned, on a model that stays as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from darkroom.checkpoints.modelspec import architecture
from darkroom.checkpoints.safetensors_file import write_safetensors
from darkroom.conditioning.caption import CaptionEmbedder, WordTable
from darkroom.conditioning.embedding import Embedding
from darkroom.conditioning.weighted_text import Piece, WeightedText
from darkroom.errors import InputError, require
from darkroom.systems.build import LatentDiffusion
from darkroom.systems.system import System
from darkroom.whole_file import made_folder

__all__ = ["EmbeddingConfig", "LearnedWord", "write_embedding"]

MOST = 75  # vectors: what a prompt holds
PARTS = ("clip_l", "clip_g")  # of a file for two towers


@dataclass(frozen=True)
class EmbeddingConfig:
    """Captions without the word get it in front."""

    word: str  # that stands for the vectors in captions and prompts; other tools take the file's name for it
    vectors: int = 1
    init: str | None = None  # words whose vectors it begins with; random ones when not given

    def __post_init__(self) -> None:
        fits = re.fullmatch(r"[^\s/\\:,()\[\]|]+", self.word) is not None
        require(fits, "embedding.word", self.word, "a word that can be a file's name, without blanks and brackets")
        require(1 <= self.vectors <= MOST, "embedding.vectors", self.vectors, f"1 to {MOST}")


class LearnedWord(nn.Module):
    """The vectors (n, width) for each text tower of `model`, whose captions are then read through `tokens`."""

    def __init__(self, model: LatentDiffusion, config: EmbeddingConfig) -> None:
        super().__init__()
        embedder = dict(model.conditioner.embedders.items()).get("caption")
        if not isinstance(embedder, CaptionEmbedder):
            raise InputError(f"embedding: {model.system.name} has no text encoder that reads one")
        self.config = config
        self.vectors = nn.ParameterList(_begun(t, i, config) for i, t in enumerate(embedder.word_tables()))
        self._embedder = (embedder,)  # none of our parameters
        embedder.register_forward_pre_hook(self._hand_over, with_kwargs=True)

    def _hand_over(self, module: nn.Module, arguments: Any, keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Every call of the text encoder knows the vectors, but those that bring their own."""
        if len(arguments) > 2 or keywords.get("learned"):
            return arguments, keywords
        return arguments, {**keywords, "learned": list(self.vectors)}

    @property
    def embedding(self) -> Embedding:
        return Embedding(self.config.word, tuple(v.detach() for v in self.vectors))

    def tokens(self, caption: str) -> Any:
        """`caption` as the text encoder's tokens, the vectors, numbered from the vocabulary on, in the word's place; as
        many as it reads at once."""
        (embedder,), word = self._embedder, self.config.word
        texts = caption.split(word) if word in caption else ["", f" {caption}"]
        pieces = [Piece(texts[0])]
        for text in texts[1:]:
            pieces += [Piece(word, embedding=self.embedding), Piece(text)]
        (found,) = embedder.tokenize([WeightedText(tuple(pieces))])
        return embedder.shared(found.value, self.config.vectors)


def _begun(table: WordTable, tower: int, config: EmbeddingConfig) -> nn.Parameter:
    weight = table.vectors.detach()
    if config.init is None:
        generator = torch.Generator().manual_seed(tower)
        return nn.Parameter(torch.randn(config.vectors, weight.shape[1], generator=generator) * weight.std().cpu())
    numbers = table.numbers(config.init)
    if not numbers:
        raise InputError(f"embedding.init is {config.init!r}, at least one word expected")
    rows = [weight[numbers[i % len(numbers)]] for i in range(config.vectors)]
    return nn.Parameter(torch.stack(rows).float().clone())


def write_embedding(folder: Path, embedding: Embedding, system: System, metadata: Mapping[str, str]) -> list[Path]:
    """WORD.safetensors, as A1111 and ComfyUI read it, and for one tower `learned_embeds.safetensors`, as Diffusers."""
    vectors: Sequence[Tensor] = [v.detach().float().cpu().contiguous() for v in embedding.vectors]
    known = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{architecture(system)}/textual-inversion",
        "modelspec.title": embedding.name,
        "modelspec.trigger_phrase": embedding.name,
        **metadata,
    }
    made_folder(folder)
    paths = [folder / f"{embedding.name}.safetensors"]
    names = ("emb_params",) if len(vectors) == 1 else PARTS[-len(vectors) :]
    write_safetensors(paths[0], dict(zip(names, vectors)), known)
    if len(vectors) == 1:
        paths.append(folder / "learned_embeds.safetensors")
        write_safetensors(paths[1], {embedding.name: vectors[0]}, known)
    return paths
