"""What a picture says of the model and the LoRAs that it was made with."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from darkroom.checkpoints.fingerprint import lora_hash
from darkroom.checkpoints.model import load_model
from darkroom.engine.loras import LoraShelf
from darkroom.engine.parameters import made_with
from darkroom.requests.plan import plan
from darkroom.types import Request


def test_loras_are_named_once_with_their_hashes(tiny_folder: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_file({"w": torch.zeros(1)}, tmp_path / f"{name}.safetensors")
    digest = lora_hash(tmp_path / "one.safetensors")
    loaded = load_model(str(tiny_folder))
    made = plan(Request("a <lora:one:0.5> and <lora:two:1> and <lora:one:1>"), loaded.model.system)
    text = made_with(loaded, made, LoraShelf([tmp_path]))
    assert f'Lora hashes: "one: {digest}, two: {digest}"' in text
    assert f"Model hash: {loaded.hash}, Model: {loaded.name}" in text
    assert "Lora hashes" not in made_with(loaded, plan(Request("a cat"), loaded.model.system), LoraShelf([]))
