"""A LoRA's hashes stay when notes are added to its file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors.torch import save_file

from darkroom.checkpoints.kohya_hashes import kohya_hashes
from darkroom.checkpoints.safetensors_file import write_safetensors


def test_the_hashes_are_those_of_the_files(tmp_path: Path) -> None:
    tensors = {f"a{i}.weight": torch.randn(256, 512 + i).half() for i in range(6)}  # 1.5 MiB
    trained = {"ss_seed": "1", "ss_optimizer": "adamw"}
    told = kohya_hashes(tensors, {**trained, "modelspec.title": "another"})
    assert told == kohya_hashes(tensors, trained)
    # The new one of any file of these tensors, ours as well: the bytes behind the header.
    write_safetensors(tmp_path / "ours.safetensors", tensors, {"modelspec.title": "a", **told})
    data = (tmp_path / "ours.safetensors").read_bytes()
    behind = 8 + int.from_bytes(data[:8], "little")
    assert told["sshs_model_hash"] == hashlib.sha256(data[behind:]).hexdigest()
    # The old one as it is computed of a file that only the trainer wrote to.
    save_file(tensors, tmp_path / "plain.safetensors", {"ss_seed": "1"})
    with (tmp_path / "plain.safetensors").open("rb") as file:
        file.seek(1 << 20)
        legacy = hashlib.sha256(file.read(1 << 16)).hexdigest()[:8]
    assert kohya_hashes(tensors, {"ss_seed": "1"})["sshs_legacy_hash"] == legacy
