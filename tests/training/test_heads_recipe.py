"""The script that points heads of cross-attention at the words that name sides and parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from script_files import read_script

from darkroom.data.picturebook.caption import Chances
from darkroom.data.source import PictureBook, PictureBookConfig
from darkroom.systems.build import LatentDiffusion, build
from darkroom.systems.narrow import narrowed
from darkroom.systems.picturebook import PICTUREBOOK
from darkroom.training.text import QUESTIONS, answers


@pytest.fixture(scope="module")
def script() -> Any:
    return read_script("recipes/picturebook/heads.py")


@pytest.fixture
def model() -> LatentDiffusion:
    torch.manual_seed(0)
    model = build(narrowed(PICTUREBOOK)).eval()
    for layer in model.unet.modules():  # what is zero at first hides all that lies before it
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d) and not layer.weight.any():
            torch.nn.init.normal_(layer.weight, 0, 0.05)
    return model.requires_grad_(False)


def test_cells_on_the_left_look_for_words_that_say_left(
    script: Any, model: LatentDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = PictureBook(PictureBookConfig(128, 300, most_things=4))
    before = {k: v.clone() for k, v in model.unet.state_dict().items()}
    monkeypatch.setattr(script, "SIDES", {("left of", "right of"): (0,), ("above", "below"): (1,)})
    script.point_at_sides(model, book, 64)
    after = model.unet.state_dict()
    changed = {k: (v != before[k]).any(dim=1) for k, v in after.items() if not torch.equal(v, before[k])}
    assert {name.rpartition(".attn2.")[2] for name in changed} == {"to_q.weight", "to_k.weight"}
    assert all(int(rows.sum()) == 2 for rows in changed.values())
    captions = [(caption, facts) for caption, facts in (book.caption(i, 0) for i in range(300)) if facts.relations]
    text: Any = model.conditioner.embedders["caption"]
    words: dict[str, list[torch.Tensor]] = {"left of": [], "right of": []}
    for caption, facts in captions:
        tokens = text(text.prepare([caption]))[0]
        for a in answers(text.tokenizer.split(caption), facts):
            if a.question == "relation" and (side := QUESTIONS["relation"][a.answer]) in words:
                words[side].append(tokens[a.place])
    for name, queries in script._queries(model, [caption for caption, _ in captions], None, (850, 1000)).items():
        attention = model.unet.get_submodule(name)
        row = int(changed[f"{name}.to_q.weight"].nonzero()[0, 0])  # of head 0
        side = round(queries.shape[1] ** 0.5)
        columns = queries.unflatten(1, (side, side)).mean(dim=(0, 1)) @ attention.to_q.weight[row]
        assert columns[: side // 2].mean() < columns[side // 2 :].mean(), name
        left, right = (torch.stack(words[s]).mean(dim=0) @ attention.to_k.weight[row] for s in ("left of", "right of"))
        assert left < right, name


def test_cells_of_a_part_look_for_its_word(
    script: Any, model: LatentDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = PictureBook(PictureBookConfig(128, 150, most_things=1, chances=Chances(part=1.0)))
    before = {k: v.clone() for k, v in model.unet.state_dict().items()}
    monkeypatch.setattr(script, "LOOKS", 0.0)  # random heads look at everything
    script.point_at_parts(model, book, 64)
    after = model.unet.state_dict()
    changed = {k for k, v in after.items() if not torch.equal(v, before[k])}
    assert {name.rpartition(".attn2.")[2] for name in changed} == {"to_q.weight", "to_k.weight", "to_v.weight"}
    shown = [i for i in range(150) if book.caption(i, 0)[1].groups[0].parts]
    captions = [book.caption(i, 0) for i in shown]
    tokens = script._tokens(model, captions)
    parts = torch.zeros(tokens.shape[:2], dtype=torch.bool)
    for row, place, question, _ in script._answers(model, captions):
        parts[row, place] |= question == "part_of"
    pictures = [book.image(i) for i in shown]
    for name, found in script._queries(model, [c for c, _ in captions], pictures, (250, 800)).items():
        side = round(found.shape[1] ** 0.5)
        cells = torch.stack([script._parts_of_cells(book.things_map(i, 32)[0], side) for i in shown])
        looks = script._attention_to(model.unet.get_submodule(name), found, tokens, parts)
        assert looks[:, cells > 0.3].mean() > looks[:, cells < -0.3].mean(), name
