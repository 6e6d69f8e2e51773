"""The text objective: what captions promise, as answers, and a transformer that learns to give them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from contexts import context, first_places
from hypothesis import given
from hypothesis import strategies as st

from darkroom.checkpoints.native import load_network, load_system
from darkroom.data.picturebook import COLOURS, Facts, Group, Relation
from darkroom.data.source import PictureBook, PictureBookConfig
from darkroom.errors import InputError
from darkroom.models.text_transformer import TextTransformer
from darkroom.models.tokenizer import WordTokenizer
from darkroom.systems.system import SYSTEMS, System
from darkroom.training.config import LoopConfig
from darkroom.training.loop import train
from darkroom.training.text import QUESTIONS, TextObjective, TextRecipe, answers, text_config


def told(text: str, facts: Facts) -> dict[tuple[str, str], str]:
    """What each word has to answer, by word and question; a word that stands twice is asked where it stands last."""
    words = WordTokenizer((), 40).split(text)
    return {(words[a.place], a.question): QUESTIONS[a.question][a.answer] for a in answers(words, facts)}


def test_words_have_to_tell_what_the_facts_say() -> None:
    house = Group("house", "red", 1, {"roof": "blue"})
    facts = Facts((house, Group("balloon", None, 3)), (Relation(0, "below", 1),), sky="night")
    found = told("a red house with a blue roof below three balloons, at night", facts)
    assert {name: found["house", name] for name in ("count", "colour", "roof", "door", "relation", "related_to")} == {
        "count": "1",
        "colour": "red",
        "roof": "blue",
        "door": "",
        "relation": "below",
        "related_to": "balloon",
    }
    assert {name: found["balloons", name] for name in ("count", "colour", "relation", "related_to")} == {
        "count": "3",
        "colour": "",
        "relation": "above",
        "related_to": "house",
    }
    assert (found["roof", "part_colour"], found["roof", "part_of"]) == ("blue", "house")
    assert (found["a", "sky"], found["a", "ground"]) == ("night", "")


def test_a_part_is_not_taken_for_a_thing_of_that_name() -> None:
    facts = Facts((Group("snowman", "white", 1, {"hat": "red"}), Group("hat", "green")))
    words = ["a", "white", "snowman", "with", "a", "red", "hat", "and", "a", "green", "hat"]
    asked = {(a.place, a.question): QUESTIONS[a.question][a.answer] for a in answers(words, facts)}
    assert asked[6, "part_colour"] == "red"
    assert asked[10, "colour"] == "green"


def test_what_is_cut_off_is_not_asked() -> None:
    facts = Facts((Group("cat", "black"), Group("dog", "red")))
    assert {a.place for a in answers(["a", "black", "cat", "and", "a"], facts)} == {0, 2}


@given(st.integers(0, 500))
def test_every_caption_asks_of_all_its_things(number: int) -> None:
    book = PictureBook(PictureBookConfig(32, 501, most_things=4))
    text, facts = book.caption(number, 0)
    asked = answers(WordTokenizer((), 40).split(text), facts)
    assert sum(a.question == "count" for a in asked) == len(facts.groups)
    assert sum(a.question == "part_of" for a in asked) == sum(len(g.parts) for g in facts.groups)
    assert sum(a.question == "relation" and a.answer > 0 for a in asked) == 2 * len(facts.relations)


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
    assert after.value.item() < 0.9 * before.value.item()
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
    assert set(QUESTIONS["colour"]) == {"", *COLOURS}
