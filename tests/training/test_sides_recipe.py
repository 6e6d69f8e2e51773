"""The script that points heads of cross-attention at words that name sides."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from script_files import read_script

from darkroom.data.source import PictureBook, PictureBookConfig
from darkroom.systems.build import build
from darkroom.systems.narrow import narrowed
from darkroom.systems.picturebook import PICTUREBOOK
from darkroom.training.text import QUESTIONS, answers


@pytest.fixture(scope="module")
def script() -> Any:
    return read_script("recipes/picturebook/sides.py")


@torch.no_grad()
def test_cells_on_the_left_look_for_words_that_say_left(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = build(narrowed(PICTUREBOOK)).eval()
    for layer in model.unet.modules():  # what is zero at first hides all that lies before it
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d) and not layer.weight.any():
            torch.nn.init.normal_(layer.weight, 0, 0.05)
    book = PictureBook(PictureBookConfig(128, 300, most_things=4))
    before = {k: v.clone() for k, v in model.unet.state_dict().items()}
    monkeypatch.setattr(script, "HEADS", {("left of", "right of"): (0,), ("above", "below"): (1,)})
    script.point_heads(model, book, 64)
    after = model.unet.state_dict()
    changed = {k: (v != before[k]).any(dim=1) for k, v in after.items() if not torch.equal(v, before[k])}
    assert {name.rpartition(".attn2.")[2] for name in changed} == {"to_q.weight", "to_k.weight"}
    assert all(int(rows.sum()) == 2 for rows in changed.values())
    captions = [(caption, facts) for caption, facts in (book.caption(i, 0) for i in range(300)) if facts.relations]
    text: Any = model.conditioner.embedders["caption"]
    words: dict[str, list[torch.Tensor]] = {"left of": [], "right of": []}
    for caption, facts in captions:
        tokens = text.features(text.prepare([caption]))[0]
        for a in answers(text.tokenizer.split(caption), facts):
            if a.question == "relation" and (side := QUESTIONS["relation"][a.answer]) in words:
                words[side].append(tokens[a.place])
    for name, queries in script._queries(model, [caption for caption, _ in captions]).items():
        attention = model.unet.get_submodule(name)
        row = int(changed[f"{name}.to_q.weight"].nonzero()[0, 0])  # of head 0
        columns = queries.unflatten(1, (8, 8)).mean(dim=(0, 1)) @ attention.to_q.weight[row]
        assert columns[:4].mean() < columns[4:].mean(), name
        left, right = (torch.stack(words[s]).mean(dim=0) @ attention.to_k.weight[row] for s in ("left of", "right of"))
        assert left < right, name
