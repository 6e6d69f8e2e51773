from darkroom.data.picturebook import Facts, Group, Relation
from darkroom.evaluation.verdict import holds, judge_picture
from darkroom.models.judge import Detection

PLACE = {"sky": "night", "ground": "snow", "background": "none"}


def seen(kind: str, colour: str, left: float = 0, top: float = 0, parts: tuple[str, ...] = ("red", "red")) -> Detection:
    return Detection(kind, 0.9, colour, parts, "left", (top, left, top + 20, left + 20))


def test_everything_kept() -> None:
    facts = Facts(
        (Group("house", "red", 1, {"roof": "blue"}), Group("cat", "black", 2)),
        (Relation(0, "left of", 1),),
        sky="night",
    )
    found = [seen("house", "red", 0, parts=("blue", "red")), seen("cat", "black", 60), seen("cat", "black", 90)]
    verdict = judge_picture(facts, found, PLACE)
    assert verdict.present
    assert verdict.counts
    assert verdict.colours
    assert verdict.parts
    assert verdict.relations
    assert verdict.surroundings


def test_each_promise_can_be_broken_alone() -> None:
    facts = Facts(
        (Group("house", "red", 1, {"roof": "blue"}), Group("cat", "black")), (Relation(0, "left of", 1),), sky="day"
    )
    good = [seen("house", "red", 0, parts=("blue", "red")), seen("cat", "black", 60)]
    assert not judge_picture(facts, good[:1], PLACE).present
    assert not judge_picture(facts, [*good, seen("dog", "red")], PLACE).counts
    assert judge_picture(facts, [*good, seen("dog", "red")], PLACE).present
    swapped = [seen("house", "black", 0, parts=("blue", "red")), seen("cat", "red", 60)]
    assert not judge_picture(facts, swapped, PLACE).colours
    assert judge_picture(facts, swapped, PLACE).relations
    assert not judge_picture(facts, [seen("house", "red"), good[1]], PLACE).parts
    assert not judge_picture(facts, [seen("house", "red", 90), good[1]], PLACE).relations
    assert not judge_picture(facts, good, PLACE).surroundings


def test_what_is_not_promised_is_not_judged() -> None:
    verdict = judge_picture(Facts((Group("cat", None),)), [seen("cat", "red")], PLACE)
    assert verdict.present
    assert (verdict.colours, verdict.parts, verdict.relations, verdict.surroundings) == (None, None, None, None)


def test_a_thing_does_not_serve_two_groups() -> None:
    facts = Facts((Group("cat", "red"), Group("cat", "blue")))
    verdict = judge_picture(facts, [seen("cat", "red")], PLACE)
    assert not verdict.present
    assert not verdict.colours


def test_relations_by_boxes() -> None:
    a, b = seen("cat", "red", left=0, top=0), seen("dog", "red", left=10, top=8)
    assert holds("left of", a, b)
    assert holds("right of", b, a)
    assert holds("above", a, b)
    assert holds("below", b, a)
    assert holds("in front of", b, a)
    assert holds("behind", a, b)
    assert not holds("behind", a, seen("dog", "red", left=40, top=8))
