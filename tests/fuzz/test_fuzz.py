"""A few seeded cases for each reader and each fault; `python -m tests.fuzz` runs as many as there is time for."""

from pathlib import Path

import pytest

from tests.fuzz.faults import FAULTS, try_fault, unbroken_run
from tests.fuzz.readers import READERS
from tests.fuzz.run import Reader, try_reader


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_damaged_input_is_one_sentence_or_an_answer(tmp_path: Path, reader: Reader) -> None:
    report = try_reader(reader, tmp_path, 0, lambda n: n >= reader.few)
    assert report.faults == {}
    assert report.cases == reader.few


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unbroken_run(tmp_path_factory.mktemp("unbroken"))


@pytest.mark.parametrize("name", FAULTS)
def test_what_breaks_a_run_loses_nothing(name: str, unbroken: Path, tmp_path: Path) -> None:
    assert try_fault(name, unbroken, tmp_path, iter(range(1))) == []
