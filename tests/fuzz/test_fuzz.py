"""A few seeded cases for each reader; `python -m tests.fuzz` runs as many as there is time for."""

from pathlib import Path

import pytest

from tests.fuzz.readers import READERS
from tests.fuzz.run import Reader, try_reader


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_damaged_input_is_one_sentence_or_an_answer(tmp_path: Path, reader: Reader) -> None:
    report = try_reader(reader, tmp_path, 0, lambda n: n >= reader.few)
    assert report.faults == {}
    assert report.cases == reader.few
