"""The project's own folders: what does not fit is one sentence that names the file."""

import json
import os
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from narrow import narrow
from safetensors.torch import load_file, save_file
from torch import Tensor

from darkroom.checkpoints.bounds import few_modules, require_bounded
from darkroom.checkpoints.inspect import inspect
from darkroom.checkpoints.load import load, load_checkpoint
from darkroom.checkpoints.native import load_system, save_adapted, save_system
from darkroom.errors import InputError
from darkroom.nn.lora import Adapters, merge
from darkroom.systems import SYSTEMS
from darkroom.systems.build import build
from darkroom.training.adapters import AdapterConfig, attach_trained


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
    "name": ("x" * 200_000, "name has 200000 parts"),
    "autoencoder.channel_mult": ([1] * 200_000, "the length of attention is 3, expected is 200000, as of channel_mult"),
    "unet.depth": ([], "the length of depth is 0"),
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


def adapted(folder: Path, base: str) -> dict[str, Tensor]:
    """Write a LoRA of random numbers on `base` to `folder`, with seven steps; returns the weights of the whole."""
    model = load(os.path.normpath(folder / base))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        adapters = attach_trained(model, AdapterConfig(rank=2))
        for p in torch.nn.ModuleList(adapters.values()).parameters():
            torch.nn.init.normal_(p)
    system = replace(model.system, defaults=replace(model.system.defaults, steps=7))
    save_adapted(adapters, system, base, folder, {})
    whole = load(os.path.normpath(folder / base))
    merge(whole, Adapters.of([({k: a.half().float() for k, a in adapters.items()}, 1.0)]))
    return whole.state_dict()


def test_a_folder_may_hold_a_lora_and_name_the_model_that_it_changes(folder: Path, tmp_path: Path):
    whole = adapted(tmp_path / "few", "../own")
    found = load_checkpoint(tmp_path / "few")
    assert found.model.system.defaults.steps == 7
    assert found.hashed == tmp_path / "few" / "lora.safetensors"
    ours, own = found.model.state_dict(), load_system(folder).state_dict()
    assert all(torch.equal(ours[k], whole[k]) for k in whole)
    assert sum(not torch.equal(ours[k], own[k]) for k in own) > 10
    assert inspect(tmp_path / "few")["a LoRA of"] == str(folder)


def test_what_cannot_be_the_base_of_a_lora(folder: Path, tmp_path: Path):
    adapted(tmp_path / "few", "../own")
    description = tmp_path / "few" / "system.json"
    whole = json.loads(description.read_text())

    def told(**changes: object) -> None:
        description.write_text(json.dumps({**whole, **changes}))
        load_checkpoint(tmp_path / "few")

    with pytest.raises(InputError, match=r"there is no file or folder '\.\./gone'"):
        told(base="../gone")
    with pytest.raises(InputError, match=r"system\.json: base is 3, expected is the name or path of a model"):
        told(base=3)
    with pytest.raises(InputError, match=r"is .*few, a LoRA itself"):
        told(base="../few")
    with pytest.raises(InputError, match=r"has other latent_scale than its system\.json says"):
        told(system={**whole["system"], "latent_scale": 2.0})
