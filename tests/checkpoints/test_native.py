"""The project's own folders: what does not fit is one sentence that names the file."""

import json
import os
import stat
import time
from pathlib import Path

import pytest
import torch
from narrow import narrow
from safetensors.torch import load_file, save_file

from darkroom.checkpoints.bounds import few_modules, require_bounded
from darkroom.checkpoints.inspect import inspect
from darkroom.checkpoints.native import load_system, save_system
from darkroom.errors import InputError
from darkroom.systems import SYSTEMS
from darkroom.systems.build import build


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


OUT_OF_PROPORTION = {
    "unet.num_res_blocks": (1_000_000, "more than 10000 parts"),
    "unet.model_channels": (10**30, "unet.model_channels is 1000000000000000000000000000000, accepted is at most"),
    "autoencoder.channel_mult": ([1] * 200_000, "has 200000 parts"),
    "schedule.steps": (10**12, "schedule.steps is 1000000000000"),
    "latent_scale": (float("inf"), "latent_scale is inf"),
    "latent_scale ": (10**400, "latent_scale"),
    "embedders": ([{"kind": ["x"]}], "kind"),
}


@pytest.mark.parametrize("key", OUT_OF_PROPORTION)
def test_descriptions_out_of_all_proportion(folder: Path, key: str):
    value, message = OUT_OF_PROPORTION[key]
    data = json.loads((folder / "system.json").read_text())
    *parents, last = key.strip().split(".")
    part = data["system"]
    for parent in parents:
        part = part[parent]
    part[last] = value
    (folder / "system.json").write_text(json.dumps(data))
    started = time.process_time()
    for read in (load_system, inspect):
        with pytest.raises(InputError, match=rf"system\.json.*{message}"):
            read(folder)
    assert time.process_time() - started < 10


def test_the_largest_system_of_the_catalogue_is_in_proportion():
    with few_modules("it"):
        build(SYSTEMS["sdxl-base"], "meta")
    for system in SYSTEMS.values():
        require_bounded(system, system.name)


def test_files_have_the_rights_that_the_user_wants(tmp_path: Path):
    before = os.umask(0o027)
    try:
        save_system(build(narrow("ldm_cin256-v2")), tmp_path / "own", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "own").stat().st_mode) == 0o750
    assert {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "own").iterdir()} == {0o640}
    assert [p.name for p in tmp_path.iterdir()] == ["own"]


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
    with pytest.raises(InputError, match=rf"does not fit its own configuration: .*{name}"):
        load_system(folder)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"autoencoder\.safetensors.* truncated download"):
        load_system(folder)
