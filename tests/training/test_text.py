"""The text objective: what captions promise, as answers, and a transformer that learns to give them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from contexts import context, first_places

from darkroom.checkpoints.native import load_network, load_system
from darkroom.data.picturebook import COLOURS, KINDS, Facts, Group, Relation
from darkroom.data.source import PictureBookConfig
from darkroom.errors import InputError
from darkroom.models.text_transformer import TextTransformer
from darkroom.systems.system import SYSTEMS, System
from darkroom.training.config import LoopConfig
from darkroom.training.loop import train
from darkroom.training.text import OF_KINDS, OF_SCENES, TextObjective, TextRecipe, facts_targets, text_config


def test_targets_say_what_the_facts_say() -> None:
    facts = Facts(
        (Group("house", "red", 1, {"roof": "blue"}), Group("balloon", None, 3)),
        (Relation(1, "above", 0),),
        sky="night",
    )
    targets = facts_targets([facts, Facts((Group("cat", "black"),))])
    house, balloon = list(KINDS).index("house"), list(KINDS).index("balloon")

    def answer(name: str, kind: int) -> str:
        return OF_KINDS[name][targets[name][0, kind]]

    assert [answer("count", k) for k in (house, balloon)] == ["1", "3"]
    assert [answer("colour", k) for k in (house, balloon)] == ["red", ""]
    assert [answer("roof", k) for k in (house, balloon)] == ["blue", ""]
    assert [answer("relation", k) for k in (house, balloon)] == ["below", "above"]
    assert OF_SCENES["sky"][targets["sky"][0]] == "night"
    assert targets["ground"].tolist() == [0, 0]
    assert int(targets["count"][1].sum()) == 1
    assert set(targets) == set(OF_KINDS) | set(OF_SCENES)


def test_it_learns_and_goes_to_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_system: System) -> None:
    monkeypatch.setitem(SYSTEMS._entries, "picturebook", tiny_system)
    loop = LoopConfig(steps=12, batch_size=8, lr=2e-2, precision="fp32", log_every=12, optimizer="muon")
    recipe = TextRecipe(loop, PictureBookConfig(32, 64, most_things=1), "picturebook")
    torch.manual_seed(0)
    objective = TextObjective(recipe)
    places = first_places(objective.reader, 8)
    batch = objective.batch(places)
    before = next(objective.losses(batch, context(places)))
    train(objective, loop, tmp_path / "run", recipe=recipe)
    after = next(objective.losses(batch, context(places)))
    assert float(after.value) < 0.9 * float(before.value)
    assert {"right/count", "right/colour", "right/sky"} <= set(after.log)
    fresh = TextObjective(recipe)
    load_network(fresh.text, text_config(tiny_system), tmp_path / "run" / "export" / "text.safetensors")
    assert isinstance(fresh.text.transformer, TextTransformer)


def test_it_goes_on_from_a_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_system: System, tiny_folder: Path
) -> None:
    monkeypatch.setitem(SYSTEMS._entries, "picturebook", tiny_system)
    loop = LoopConfig(steps=1, batch_size=2, lr=1e-3)
    objective = TextObjective(TextRecipe(loop, PictureBookConfig(32, 8), "picturebook", init_from=tiny_folder))
    theirs = load_system(tiny_folder).conditioner.embedders["caption"].state_dict()
    assert all(torch.equal(t, theirs[k]) for k, t in objective.text.state_dict().items())


def test_a_system_without_words_is_refused() -> None:
    loop = LoopConfig(steps=1, batch_size=2, lr=1e-3)
    with pytest.raises(InputError, match=r"system is sd-v1-5, expected is one whose captions"):
        TextRecipe(loop, PictureBookConfig(32, 8), "sd-v1-5")


def test_every_colour_can_be_answered() -> None:
    assert set(OF_KINDS["colour"]) == {"", *COLOURS}
