"""The project's own folders: what does not fit is one sentence that names the file."""

import json
from pathlib import Path

import pytest
import torch
from narrow import narrow
from safetensors.torch import load_file, save_file

from darkroom.errors import InputError
from darkroom.systems.build import build
from darkroom.systems.native import load_system, save_system


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_system(build(narrow("ldm_cin256-v2")), tmp_path / "own", {}, torch.float32)
    return tmp_path / "own"


@pytest.mark.parametrize("text", ["[1]", "[" * 100_000, "{", "null", "{}", '{"system": {"name": 3}}'])
def test_a_damaged_description(folder: Path, text: str):
    (folder / "system.json").write_text(text)
    with pytest.raises(InputError, match=r"system\.json"):
        load_system(folder)


def test_a_description_of_what_cannot_be_built(folder: Path):
    data = json.loads((folder / "system.json").read_text())
    data["system"]["unet"]["model_channels"] = 33
    (folder / "system.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"system\.json describes networks that cannot be built: num_channels"):
        load_system(folder)


def test_the_former_name_of_the_guidance_scale(folder: Path):
    data = json.loads((folder / "system.json").read_text())
    data["system"]["defaults"]["guidance"] = data["system"]["defaults"].pop("guidance_scale") + 1
    (folder / "system.json").write_text(json.dumps(data))
    assert load_system(folder).system.defaults.guidance_scale == narrow("ldm_cin256-v2").defaults.guidance_scale + 1


def test_damaged_weights(folder: Path):
    path = folder / "autoencoder.safetensors"
    tensors = load_file(path)
    name = "encoder.conv_in.weight"
    tensors[name].view(-1)[0] = torch.nan
    save_file(tensors, path)
    with pytest.raises(InputError, match=rf"autoencoder\.safetensors: tensor {name} holds NaN"):
        load_system(folder)
    del tensors[name]
    save_file(tensors, path)
    with pytest.raises(InputError, match=rf"does not fit its system: .*{name}"):
        load_system(folder)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"autoencoder\.safetensors cannot be read"):
        load_system(folder)
