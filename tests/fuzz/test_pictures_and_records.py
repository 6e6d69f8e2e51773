"""A few hundred hostile pictures and records; more of them by the command that runs them for hours."""

from random import Random

import pytest

from tests.fuzz.pictures import damaged_picture, readers_hold, sound_pictures
from tests.fuzz.records import damaged_texts, records_hold


def test_sound_pictures_are_read() -> None:
    for data in sound_pictures():
        readers_hold(data)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_pictures_get_one_sentence(seed: int) -> None:
    rng = Random(seed)
    for _ in range(60):
        readers_hold(damaged_picture(rng))


@pytest.mark.parametrize("seed", range(4))
def test_damaged_records_are_read_or_refused(seed: int) -> None:
    rng = Random(seed)
    for _ in range(250):
        records_hold(damaged_texts(rng))
