"""What memory is left is read from the machine and from its container's limits."""

from pathlib import Path

import pytest
import torch

from darkroom.nn import memory


def test_memory_is_that_of_the_machine_or_of_its_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory.available_memory(torch.device("cpu")) > 2**20
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("100\n")
    assert list(memory._free_in_groups(tmp_path)) == []  # no limit
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.stat").write_text("anon 10\ninactive_file 30\nactive_file 20\nfile 50\n")
    assert list(memory._free_in_groups(tmp_path)) == [950]  # what is kept of files makes way
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory/memory.stat").write_text("cache 5\ninactive_file 5\nactive_file 0\n")
    (tmp_path / "memory/memory.limit_in_bytes").write_text("50\n")
    (tmp_path / "memory/memory.usage_in_bytes").write_text("60\n")
    assert list(memory._free_in_groups(tmp_path)) == [950, 0]
