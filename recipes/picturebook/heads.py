"""python recipes/picturebook/heads.py sides|parts MODEL OUT: let some heads of cross-attention begin by looking where
the words say.

To draw "a cat left of a tree", cells on the left must look for words that say "left of": a product of what a cell
knows of its place and what a word knows of its side. To draw "a house with a red roof", cells of a roof must look for
the word "roof". All four were there (a linear map reads the column of a cell off the denoiser's features with R² 0.7
to 0.8, whether a cell shows a part with 0.5 to 0.7, the side of a thing off its word with 0.95, and that a word names a
part exactly), but the product of two weights near zero learns very slowly: heads that look for the words of things
looked for "house" and "roof" alike, at the cells of either. So one dimension of some heads is set to that product.

Sides: in three heads of each cross-attention columns and "left", in a fourth rows and "above". 20,000 pictures that
named sides had moved the estimate at the last level by 0.05 of its spread when "left" became "right"; 7,700 more moved
it by 0.80. Parts: in the heads that look for things' words already, which also read a part's color as a thing's. After
450,000 pictures a word for a part had drawn the estimate 3 % of the way, and did so with these heads at first; 20,000
pictures more did 17 %, a roof's 40 %, which is as far as a house's own color does. For both, most pictures then named
what had to be learned (`data.chances`), and for parts what features are held to told them (`PictureBook.things_map`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from darkroom.checkpoints.native import load_system, save_system
from darkroom.conditioning.word_text import WordText
from darkroom.data.picturebook import COLOURS, KINDS
from darkroom.data.picturebook.caption import Chances, Facts
from darkroom.data.source import MAP_NAMES, PictureBook, PictureBookConfig
from darkroom.nn.attention import Attention
from darkroom.pixels import to_tensor
from darkroom.systems.build import LatentDiffusion
from darkroom.training.text import QUESTIONS, answers

STRENGTH = {"sides": 2.0, "parts": 12.0}  # logits between a cell and a word that are all they can be
SIDES = {("left of", "right of"): (0, 1, 2), ("above", "below"): (3,)}  # heads
LOOKS = 0.08  # of a head's attention, at cells of a thing, goes to its word: from here on it looks for things
PARTS = {part for kind in KINDS.values() for part in kind.parts}
CAPTIONS = 4000
SHOWN = 384  # captions whose noise, or noised pictures, the denoiser is shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("sides", "parts"))
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    said = parser.parse_args()
    model = load_system(said.model, dtype=torch.float32).eval()
    if said.what == "sides":
        point_at_sides(model, PictureBook(PictureBookConfig(128, CAPTIONS, most_things=4)), SHOWN)
    else:
        chances = Chances(part=0.95)
        point_at_parts(model, PictureBook(PictureBookConfig(128, CAPTIONS, most_things=3, chances=chances)), SHOWN)
    save_system(model, said.out, {})


@torch.no_grad()
def point_at_sides(model: LatentDiffusion, book: PictureBook, shown: int) -> None:
    """Set the heads of every cross-attention of `model` so, by captions of `book`, of which `shown` are drawn."""
    captions = _captions(book)
    tokens = _tokens(model, captions)
    features = _queries(model, [caption for caption, _ in captions[:shown]], None, (850, 1000))
    for (one, other), heads in SIDES.items():
        sides = torch.zeros(tokens.shape[:2])
        for row, place, question, answer in _answers(model, captions):
            if question == "relation":
                sides[row, place] = {one: 1.0, other: -1.0}.get(QUESTIONS["relation"][answer], 0.0)
        word = _linear(tokens.flatten(0, 1), sides.flatten(), torch.where(sides != 0, 20.0, 1.0).flatten())
        for name, found in features.items():
            places = _places(round(found.shape[1] ** 0.5), across=one == "left of").repeat(len(found))
            cell = _linear(found.flatten(0, 1), places, torch.ones_like(places))
            for head in heads:  # what is left or above has the lower numbers
                _multiply(_attention(model, name), head, cell, -word, STRENGTH["sides"])


@torch.no_grad()
def point_at_parts(model: LatentDiffusion, book: PictureBook, shown: int) -> None:
    """The same for parts, with `shown` pictures of `book` whose captions name one."""
    captions = _captions(book)
    tokens = _tokens(model, captions)
    names = torch.zeros(tokens.shape[:2])  # 1: of a part, −1: of a thing whose part is named
    colors = {q: torch.zeros(*tokens.shape[:2], len(COLOURS)) for q in ("part_colour", "colour")}
    for row, place, question, answer in _answers(model, captions):
        if question == "part_of":
            names[row, place] = 1
        elif question in PARTS and answer:
            names[row, place] = -1
        elif question in colors and answer:
            colors[question][row, place, answer - 1] = 1
    words = tokens.flatten(0, 1)
    word = _linear(words, names.flatten(), torch.where(names != 0, 20.0, 1.0).flatten())
    parts, things = (c.flatten(0, 1) for c in colors.values())
    told = _linear(words, parts, torch.where(parts.any(dim=1), 20.0, 1.0))
    means = things.T @ words / things.sum(dim=0)[:, None]
    as_things = (told @ (means - means.mean(dim=0))).T  # of a part's word: what sets a thing's of its color apart

    rows = [i for i, (_, facts) in enumerate(captions) if any(g.parts for g in facts.groups)][:shown]
    features = _queries(model, [captions[i][0] for i in rows], [book.image(i) for i in rows], (250, 800))
    for name, found in features.items():
        layer = _attention(model, name)
        cells = torch.stack([_parts_of_cells(book.things_map(i, 32)[0], round(found.shape[1] ** 0.5)) for i in rows])
        weights = torch.where(cells.abs() > 0.2, 6.0, 1.0)
        cell = _linear(found.flatten(0, 1), cells.flatten(), weights.flatten())
        looks = _attention_to(layer, found, tokens[rows], names[rows] < 0)[:, cells < -0.3].mean(dim=1)
        for head in (looks > LOOKS).nonzero().flatten().tolist():
            _multiply(layer, head, cell, word, STRENGTH["parts"])
            own = _rows(layer, head)
            layer.to_v.weight[own] += layer.to_v.weight[own] @ as_things


def _captions(book: PictureBook) -> list[tuple[str, Facts]]:
    return [book.caption(i, 0) for i in range(len(book))]


def _text(model: LatentDiffusion) -> WordText:
    text = model.conditioner.embedders["caption"]
    assert isinstance(text, WordText), "the captions are read by a word transformer"
    return text


def _tokens(model: LatentDiffusion, captions: Sequence[tuple[str, Facts]]) -> Tensor:
    """What the text transformer makes of them, (N, L, width)."""
    text = _text(model)
    return torch.cat([text(part) for part in text.prepare([c for c, _ in captions]).split(200)])


def _answers(model: LatentDiffusion, captions: Sequence[tuple[str, Facts]]) -> Iterator[tuple[int, int, str, int]]:
    """(row, place, question, answer) of all that the words of the captions have to tell."""
    text = _text(model)
    for row, (caption, facts) in enumerate(captions):
        for a in answers(text.tokenizer.split(caption)[: text.config.length - 1], facts):
            yield row, a.place, a.question, a.answer


def _queries(
    model: LatentDiffusion, captions: Sequence[str], pictures: Sequence[np.ndarray] | None, levels: tuple[int, int]
) -> dict[str, Tensor]:
    """What each cross-attention asks with at these timesteps, (N, cells, width) by the layer's name.

    It is shown the noised pictures, uint8 (H, W, 3), or where there are none noise alone.
    """
    found: dict[str, list[Tensor]] = {}
    layers = {n: m for n, m in model.unet.named_modules() if n.endswith(".attn2")}
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: found.setdefault(name, []).append(inputs[0]))
        for name, layer in layers.items()
    ]
    system = model.system
    side = system.defaults.height // system.autoencoder.factor
    generator = torch.Generator().manual_seed(0)
    for start in range(0, len(captions), 64):
        inputs = [{"caption": caption} for caption in captions[start : start + 64]]
        x = torch.randn(len(inputs), system.autoencoder.latent_channels, side, side, generator=generator)
        t = torch.randint(*levels, (len(inputs),), generator=generator)
        if pictures is not None:
            kept = model.process.alphas_cumprod[t].float().view(-1, 1, 1, 1)
            latents = model.encode_images(to_tensor(np.stack(pictures[start : start + 64])))
            x = kept.sqrt() * latents + (1 - kept).sqrt() * x
        model.network(x, t.float(), model.condition(inputs))
    for hook in hooks:
        hook.remove()
    return {name: torch.cat(parts) for name, parts in found.items()}


def _attention(model: LatentDiffusion, name: str) -> Attention:
    layer = model.unet.get_submodule(name)
    assert isinstance(layer, Attention)
    return layer


def _rows(layer: Attention, head: int) -> slice:
    """Of the layer's projections, those of a head."""
    head_dim = layer.to_q.out_features // layer.heads
    return slice(head * head_dim, (head + 1) * head_dim)


def _multiply(layer: Attention, head: int, cell: Tensor, word: Tensor, strength: float) -> None:
    """Let the weakest dimension of a head hold the product of what a cell and a word are, in logits."""
    own = _rows(layer, head)
    used = layer.to_q.weight[own].norm(dim=1) * layer.to_k.weight[own].norm(dim=1)
    weakest = own.start + int(used.argmin())
    size = (strength * len(used) ** 0.5) ** 0.5
    layer.to_q.weight[weakest] = size * cell
    layer.to_k.weight[weakest] = size * word


def _attention_to(layer: Attention, cells: Tensor, tokens: Tensor, words: Tensor) -> Tensor:
    """How much of each head's attention goes to the `words` (N, L), (heads, N, cells)."""
    q, k = (x.unflatten(-1, (layer.heads, -1)).transpose(1, 2) for x in (layer.to_q(cells), layer.to_k(tokens)))
    shares = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1)  # (N, heads, cells, L)
    return (shares * words[:, None, None]).sum(dim=-1).transpose(0, 1)


def _places(cells: int, *, across: bool) -> Tensor:
    """The column (or row) of each cell of a square, from −1 to 1, (cells²,)."""
    line = torch.linspace(-1, 1, cells)
    grid = line.expand(cells, cells)
    return (grid if across else grid.T).flatten()


def _parts_of_cells(names: np.ndarray, cells: int) -> Tensor:
    """How much of each cell shows a part, less how much shows another place of a thing that has parts, (cells²,)."""
    having = [1 + MAP_NAMES.index(name) for name, kind in KINDS.items() if kind.parts]
    shown = np.isin(names, [1 + MAP_NAMES.index(part) for part in PARTS]).astype(np.float32) - np.isin(names, having)
    return F.adaptive_avg_pool2d(torch.from_numpy(shown)[None], cells).flatten()


def _linear(x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """w with x w ≈ y, by weighted least squares with a little ridge."""
    x, y, weights = x.double(), y.double(), weights.double()
    weighted = x * weights[:, None]
    gram = weighted.T @ x
    gram += 1e-3 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    return torch.linalg.solve(gram, weighted.T @ y).float()


if __name__ == "__main__":
    main()
