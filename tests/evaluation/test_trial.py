"""What a trial keeps of its parts: made once for the same settings, made again where it is damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from darkroom.evaluation.replications.trial import Trial


def test_a_part_is_made_once_for_all_that_decides_it(tmp_path: Path) -> None:
    made: list[Tensor] = []

    def make() -> Tensor:
        made.append(torch.full((2, 3), float(len(made))))
        return made[-1]

    first, again = Trial("tiny", parts=tmp_path / "a.parts"), Trial("tiny", parts=tmp_path / "a.parts")
    assert torch.equal(first.once(("student", 1), make), made[0])
    assert torch.equal(again.once(("student", 1), make), made[0])
    assert len(made) == 1
    assert first.earlier == 0
    again.once(("student", 2), make)
    Trial("tiny", 1, tmp_path / "a.parts").once(("student", 1), make)
    Trial("small", parts=tmp_path / "a.parts").once(("student", 1), make)
    assert len(made) == 4
    Trial("tiny").once(("student", 1), make)  # keeps nothing
    assert len(list((tmp_path / "a.parts").iterdir())) == 4


def test_a_part_tells_its_seconds_and_is_made_again_where_it_is_damaged(tmp_path: Path) -> None:
    Trial("tiny", parts=tmp_path).once("a", lambda: torch.ones(3))
    (place,) = tmp_path.iterdir()
    np.savez(place, made=np.ones(3), seconds=7.0)
    trial = Trial("tiny", parts=tmp_path)
    assert trial.once("a", lambda: torch.zeros(3)).sum() == 3
    assert trial.earlier == 7
    whole = place.read_bytes()
    for damaged in (b"", b"PK", whole[: len(whole) // 2], b"\x93NUMPY" + whole):
        place.write_bytes(damaged)
        trial = Trial("tiny", parts=tmp_path)
        assert torch.equal(trial.once("a", lambda: torch.zeros(3)), torch.zeros(3))
        assert trial.earlier == 0
