import numpy as np
import pytest

from darkroom.data.picturebook import describe, sample_scene, vocabulary
from darkroom.data.picturebook.caption import Chances
from darkroom.data.picturebook.relations import relations
from darkroom.errors import InputError
from darkroom.models.tokenizer import WordTokenizer


@pytest.fixture(scope="module")
def tokenizer() -> WordTokenizer:
    return WordTokenizer(vocabulary(), 40)


def test_captions_say_only_known_words_and_fit(tokenizer: WordTokenizer) -> None:
    for seed in range(1500):
        rng = np.random.default_rng(seed)
        caption, _ = describe(sample_scene(rng, split="any"), rng)
        assert tokenizer.unknown(caption) == []
        assert len(tokenizer.split(caption)) < 40, caption
    assert len(vocabulary()) < 300


def test_every_thing_is_said_with_its_colour_and_facts_are_true() -> None:
    for seed in range(800):
        rng = np.random.default_rng(seed)
        scene = sample_scene(rng)
        caption, facts = describe(scene, rng)
        assert sum(g.count for g in facts.groups) == len(scene.things)
        for group in facts.groups:
            same = [t for t in scene.things if t.kind == group.kind and group.colour in (None, t.colour)]
            assert len(same) == group.count
            assert group.colour is None or group.colour in caption
            assert all(t.parts[p] == c for t in same for p, c in group.parts.items())
        assert facts.sky in (None, scene.sky)
        assert facts.ground in (None, scene.ground)
        for r in facts.relations:
            a, b = (next(t for t in scene.things if t.kind == facts.groups[i].kind) for i in (r.subject, r.object))
            first, second = (a, b) if scene.things.index(a) < scene.things.index(b) else (b, a)
            opposite = {"left of": "right of", "above": "below", "in front of": "behind"}
            opposite |= {v: k for k, v in opposite.items()}
            said = r.relation if first is a else opposite[r.relation]
            assert said in relations(first, second)


def test_wording_varies() -> None:
    scene = sample_scene(np.random.default_rng(1), things=2)
    assert len({describe(scene, np.random.default_rng(i))[0] for i in range(40)}) > 15


def test_a_sign_is_spelled(tokenizer: WordTokenizer) -> None:
    assert tokenizer.split('A sign that says "Hi!", please') == ["a", "sign", "that", "says", "h", "i", "please"]
    assert tokenizer.unknown("a zeppelin") == ["zeppelin"]
    assert len(tokenizer.encode("a cat " * 50)) == 40


def test_chances_decide_how_much_a_caption_says() -> None:
    scenes = [sample_scene(np.random.default_rng(i), things=2) for i in range(60)]
    everything = Chances(relation=1, ground=1, sky=1, background=1, part=1)
    nothing = Chances(relation=0, ground=0, sky=0, background=0, part=0)
    for i, scene in enumerate(scenes):
        _, facts = describe(scene, np.random.default_rng(i), everything)
        assert (facts.sky, facts.ground) == (scene.sky, scene.ground)
        assert (facts.background or "none") == scene.background
        parts = {(g.kind, g.colour): g.parts for g in facts.groups}
        assert all(parts.get((t.kind, t.colour), t.parts) == t.parts for t in scene.things)
        _, facts = describe(scene, np.random.default_rng(i), nothing)
        assert (facts.sky, facts.ground, facts.background, facts.relations) == (None, None, None, ())
        assert all(not g.parts for g in facts.groups)
    with pytest.raises(InputError, match=r"sky is 1\.5, expected is 0 to 1"):
        Chances(sky=1.5)
