"""Does a picture keep what its prompt promises? The judge's findings against the facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from darkroom.data.picturebook import KINDS, Facts, Group
from darkroom.models.judge import Detection

__all__ = ["Verdict", "holds", "judge_picture"]


@dataclass(frozen=True)
class Verdict:
    """`None` where the prompt says nothing of the sort."""

    present: bool  # at least as many things of every kind as asked
    counts: bool  # exactly as many of every kind asked, and nothing else
    colours: bool | None  # every thing asked is there in its colour
    parts: bool | None
    relations: bool | None
    surroundings: bool | None  # sky, ground and background


def judge_picture(facts: Facts, found: Sequence[Detection], surroundings: dict[str, str]) -> Verdict:
    """The verdict over one picture. Groups of one kind take their things from one pool: none serves twice."""
    wanted: dict[str, int] = {}
    for group in facts.groups:
        wanted[group.kind] = wanted.get(group.kind, 0) + group.count
    have = {kind: [d for d in found if d.kind == kind] for kind in wanted}
    present = all(len(have[kind]) >= n for kind, n in wanted.items())
    counts = all(len(have[kind]) == n for kind, n in wanted.items()) and len(found) == sum(wanted.values())
    coloured = [g for g in facts.groups if g.colour is not None]
    parted = [g for g in facts.groups if g.parts]
    said = {k: v for k in ("sky", "ground", "background") if (v := getattr(facts, k)) is not None}
    return Verdict(
        present=present,
        counts=counts,
        colours=_matched(coloured, have, parts=False) if coloured else None,
        parts=_matched(parted, have, parts=True) if parted else None,
        relations=all(_related(facts, r.subject, r.relation, r.object, have) for r in facts.relations)
        if facts.relations
        else None,
        surroundings=all(surroundings[k] == v for k, v in said.items()) if said else None,
    )


def _fits(group: Group, thing: Detection, *, parts: bool) -> bool:
    if group.colour is not None and thing.colour != group.colour:
        return False
    slots = KINDS[group.kind].parts
    return not parts or all(thing.parts[slots.index(p)] == colour for p, colour in group.parts.items())


def _matched(groups: Sequence[Group], have: dict[str, list[Detection]], *, parts: bool) -> bool:
    """Whether distinct things can be found for all groups. Different groups differ in kind or colour, so that a
    count per group decides."""
    return all(sum(_fits(g, d, parts=parts) for d in have[g.kind]) >= g.count for g in groups)


def _related(facts: Facts, subject: int, relation: str, object_: int, have: dict[str, list[Detection]]) -> bool:
    """Whether some pair of things of the two groups' kinds and colours stands in the relation."""
    a, b = facts.groups[subject], facts.groups[object_]
    ours = [d for d in have[a.kind] if _fits(a, d, parts=False)] or have[a.kind]
    theirs = [d for d in have[b.kind] if _fits(b, d, parts=False)] or have[b.kind]
    if a.kind == b.kind:
        return any(holds(relation, x, y) for x, y in permutations(have[a.kind], 2))
    return any(holds(relation, x, y) for x in ours for y in theirs)


def holds(relation: str, a: Detection, b: Detection) -> bool:
    """Whether `a` stands in `relation` to `b`, by the boxes alone.

    In front of: boxes overlap and `a` reaches lower, since things stand on the ground and what is nearer is lower.
    """
    (ay, ax), (by, bx) = a.centre, b.centre
    if relation in ("right of", "below", "behind"):
        opposite = {"right of": "left of", "below": "above", "behind": "in front of"}[relation]
        return holds(opposite, b, a)
    if relation == "left of":
        return ax < bx
    if relation == "above":
        return ay < by
    overlap = min(a.box[3], b.box[3]) > max(a.box[1], b.box[1]) and min(a.box[2], b.box[2]) > max(a.box[0], b.box[0])
    return overlap and a.box[2] > b.box[2]
