from pathlib import Path

import pytest
import torch
from narrow_checkpoints import narrow, write_vocabulary

from benchmarks import loading
from darkroom.checkpoints.load import load_checkpoint


def test_fresh_processes_say_how_long_and_how_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_vocabulary(tmp_path)
    size = loading.write_checkpoint(narrow("sd-v1-5"), tmp_path)
    model = load_checkpoint(tmp_path / "model.safetensors", system=narrow("sd-v1-5")).model
    assert size == sum(2 * p.numel() for p in model.parameters())
    assert {p.dtype for p in model.parameters()} == {torch.float16}
    name = "reading the file"
    monkeypatch.setattr(loading, "CONTENDERS", {name: loading.CONTENDERS[name]})
    found = loading.measure(tmp_path, 1)
    ((seconds, peak),) = found[name]
    assert seconds > 0
    assert 0 <= peak < 2**25  # it reads through a buffer of 16 MiB
