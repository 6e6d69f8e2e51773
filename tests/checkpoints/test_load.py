"""Loading: from files, folders and the hub's cache, in little memory; and the two commands."""

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer
from narrow_checkpoints import narrow, random_model
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from darkroom.checkpoints import convert as convert_module
from darkroom.checkpoints import identify as identify_module
from darkroom.checkpoints import original
from darkroom.checkpoints.convert import Content, write_diffusers, write_original
from darkroom.checkpoints.fingerprint import lora_hash, model_hash, sha256
from darkroom.checkpoints.identify import identify
from darkroom.checkpoints.inspect import inspect
from darkroom.checkpoints.load import load, load_checkpoint
from darkroom.checkpoints.model import load_model
from darkroom.checkpoints.native import save_system
from darkroom.checkpoints.open_file import open_weights
from darkroom.checkpoints.original_names import UNET, ema_name
from darkroom.checkpoints.source import open_source
from darkroom.checkpoints.table import rules
from darkroom.checkpoints.transfer import wanted_shapes
from darkroom.errors import InputError
from darkroom.models.autoencoder import Autoencoder
from darkroom.systems import FIRST_STAGES, SYSTEMS
from darkroom.systems.build import build

NAME = "sd-v1-5"


@pytest.fixture
def narrow_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogue with a narrow Stable Diffusion 1.5 in place of the full one."""
    monkeypatch.setattr(identify_module, "SYSTEMS", {NAME: narrow(NAME)})


def test_in_the_wanted_precision(file: Path) -> None:
    model = load_checkpoint(file, torch.bfloat16, system=narrow(NAME)).model
    state = random_model(NAME).state_dict()
    assert all(torch.equal(v, state[k].bfloat16()) for k, v in model.state_dict().items())
    assert not any(p.requires_grad or p.is_meta for p in model.parameters())
    assert not model.training


def test_changing_a_loaded_model_leaves_the_file(file: Path) -> None:
    before = file.read_bytes()
    model = load_checkpoint(file, system=narrow(NAME)).model
    for p in model.parameters():
        p.data.zero_()
    assert file.read_bytes() == before


def test_the_running_average_is_used_where_it_is(file: Path) -> None:
    tensors = load_file(file)
    tensors |= {ema_name(n): t + 1 for n, t in tensors.items() if n.startswith(UNET)}
    tensors |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(5)}
    save_file(tensors, file)
    weight = random_model(NAME).unet.conv_in.weight
    for ema, difference in (("auto", 1.0), ("yes", 1.0), ("no", 0.0)):
        model = load_checkpoint(file, system=narrow(NAME), ema=ema).model
        torch.testing.assert_close(model.unet.conv_in.weight, weight + difference)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_none_are_named(file: Path, value: float) -> None:
    tensors = load_file(file)
    tensors["first_stage_model.encoder.conv_in.weight"][0, 0, 0, 0] = value
    save_file(tensors, file)
    message = r"v1-5\.safetensors: tensor first_stage_model\.encoder\.conv_in\.weight holds NaN"
    with pytest.raises(InputError, match=message):
        load_checkpoint(file, system=narrow(NAME))
    with pytest.raises(InputError, match=message):
        open_source(file).require_finite()


def test_values_too_large_for_the_precision_are_named(file: Path) -> None:
    tensors = load_file(file)
    tensors["model.diffusion_model.out.2.bias"][0] = 1e6
    save_file(tensors, file)
    assert load_checkpoint(file, torch.bfloat16, system=narrow(NAME))
    with pytest.raises(InputError, match=r"out\.2\.bias does not fit into torch\.float16"):
        load_checkpoint(file, torch.float16, system=narrow(NAME))


def test_pickled_checkpoints_are_the_same(tmp_path: Path, file: Path) -> None:
    state = load_file(file)
    for zipped in (True, False):
        path = tmp_path / "model.ckpt"
        content = {"state_dict": state, "global_step": 840000, "callbacks": {Exception: ValueError("x")}}
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        model = load_checkpoint(path, system=narrow(NAME)).model
        wanted = random_model(NAME).state_dict()
        assert all(torch.equal(v, wanted[k]) for k, v in model.state_dict().items())


def test_a_checkpoint_may_leave_its_first_stage_to_another_file(
    tmp_path: Path, file: Path, narrow_catalogue: None
) -> None:
    """As many merges do; where a part of it is there, the rest is missing."""
    tensors = load_file(file)
    parts = {
        True: {n: t for n, t in tensors.items() if n.startswith("first_stage_model.")},
        False: {n: t for n, t in tensors.items() if not n.startswith("first_stage_model.")},
    }
    save_file(parts[True], tmp_path / "vae.safetensors")
    save_file(parts[False], file)
    loaded = load_model(str(file), vae=str(tmp_path / "vae.safetensors"), dtype=torch.float32).model
    expected = random_model(NAME).state_dict()
    assert all(torch.equal(t, expected[n]) for n, t in loaded.state_dict().items())
    assert inspect(file)["first stage"] == "none, to be named with --vae"
    with pytest.raises(InputError, match=r"v1-5\.safetensors holds no first stage \(VAE\): name one for it with --vae"):
        load_checkpoint(file)
    with pytest.raises(InputError, match="holds no first stage"):
        Content.of_source(open_source(file), identify(open_source(file)))
    save_file(parts[False] | {n: t for n, t in parts[True].items() if "encoder" in n}, file)
    with pytest.raises(InputError, match=r"tensors are missing \(first_stage_model\."):
        load_model(str(file), vae=str(tmp_path / "vae.safetensors"))


def test_a_projection_that_a_converter_left_transposed(tmp_path: Path) -> None:
    """As transformers have it: (out, in) under `.weight`, where released files have (in, out) and no `.weight`."""
    name, path = "conditioner.embedders.1.model.text_projection", tmp_path / "xl.safetensors"
    write_original(Content.of_model(random_model("sdxl-base")), path)
    tensors = load_file(path)
    tensors[f"{name}.weight"] = tensors.pop(name).T.contiguous()
    save_file(tensors, path)
    loaded = load_checkpoint(path, system=narrow("sdxl-base")).model.state_dict()
    wanted = random_model("sdxl-base").state_dict()
    assert all(torch.equal(t, wanted[n]) for n, t in loaded.items())


@pytest.mark.parametrize("name", ["sd-v1-5", "sd-v2-1-base", "sdxl-base", "sd-v2-depth"])
def test_there_and_back_is_identical(tmp_path: Path, name: str) -> None:
    """Also what the system never reads: buffers, the tower's last block, position_ids, metadata."""
    extra = {"betas": torch.linspace(0, 1, 10), "model_ema.decay": torch.tensor(0.9999)}
    extra["cond_stage_model.logit_scale"] = torch.tensor(3.0)
    first, folder, second = tmp_path / "a.safetensors", tmp_path / "folder", tmp_path / "b.safetensors"
    write_original(Content.of_model(random_model(name)), first)
    save_file(
        {**load_file(first), **extra}, first, metadata={"modelspec.author": "somebody", **open_weights(first).metadata}
    )
    source = open_source(first)
    write_diffusers(Content.of_source(source, identify(source, system=narrow(name))), folder)
    source = open_source(folder)
    write_original(Content.of_source(source, identify(source, system=narrow(name))), second)
    before, after = load_file(first), load_file(second)
    assert set(before) == set(after)
    assert all(torch.equal(before[n], after[n]) and before[n].dtype == after[n].dtype for n in before)
    assert open_weights(first).metadata == open_weights(second).metadata


def test_notes_survive_a_folder_also_alone(tmp_path: Path, file: Path) -> None:
    """Where the single file holds no tensors beside the weights."""
    source = open_source(file)
    content = Content.of_source(source, identify(source, system=narrow(NAME)))
    assert not content.unused
    write_diffusers(replace(content, notes={"modelspec.author": "somebody"}), tmp_path / "folder")
    source = open_source(tmp_path / "folder")
    back = Content.of_source(source, identify(source, system=narrow(NAME)))
    assert (back.notes, back.unused) == ({"modelspec.author": "somebody"}, {})


def test_conversion_to_another_precision(tmp_path: Path, file: Path) -> None:
    source = open_source(file)
    content = Content.of_source(source, identify(source, system=narrow(NAME)), torch.float16)
    write_original(content, tmp_path / "half.safetensors")
    wanted = load_file(file)
    assert all(torch.equal(t, wanted[n].half()) for n, t in load_file(tmp_path / "half.safetensors").items())


@pytest.mark.parametrize(("value", "message"), [(float("nan"), "holds NaN"), (1e6, "does not fit into torch.float16")])
def test_a_conversion_that_would_write_what_is_not_finite_writes_nothing(
    tmp_path: Path, file: Path, value: float, message: str
) -> None:
    tensors = load_file(file)
    tensors["model.diffusion_model.out.2.bias"][0] = value
    save_file(tensors, file)
    source = open_source(file)
    content = Content.of_source(source, identify(source, system=narrow(NAME)), torch.float16)
    for write, name in ((write_original, "half.safetensors"), (write_diffusers, "half")):
        with pytest.raises(InputError, match=rf"v1-5\.safetensors: tensor \S+out\.2\.bias {re.escape(message)}"):
            write(content, tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == [file.name]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, file: Path) -> None:
    source = open_source(file)
    content = Content.of_source(source, identify(source, system=narrow(NAME)))
    with pytest.raises(InputError, match=rf"^the folder {file} cannot be made: File exists"):
        write_diffusers(content, file / "folder")


def test_an_interrupted_conversion_leaves_nothing(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(file)
    content = Content.of_source(source, identify(source, system=narrow(NAME)))

    def fails(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(convert_module, "scheduler_configs", fails)
    with pytest.raises(KeyboardInterrupt):
        write_diffusers(content, tmp_path / "folder")
    assert [p.name for p in tmp_path.iterdir()] == [file.name]


def test_a_folder_of_this_project_is_recognised(tmp_path: Path) -> None:
    save_system(random_model(NAME), tmp_path / "own", {}, torch.float32)
    model = load(tmp_path / "own")
    assert torch.equal(model.unet.conv_in.weight, random_model(NAME).unet.conv_in.weight)
    assert inspect(tmp_path / "own")["layout"] == "this project's own folder"


def test_hashes_are_those_of_other_tools_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"\x02\0\0\0\0\0\0\0{}abc")
    assert model_hash(path) == hashlib.sha256(path.read_bytes()).hexdigest()[:10]
    assert lora_hash(path) == "ba7816bf8f01"  # of "abc"
    known = json.loads((tmp_path / "cache" / "darkroom" / "hashes.json").read_text())
    assert len(known) == 2
    path.write_bytes(b"\x02\0\0\0\0\0\0\0{}abcd")
    assert sha256(path, 10).startswith("88d4266fd4e6338d")  # of "abcd"
    (tmp_path / "cache" / "darkroom" / "hashes.json").write_text("damaged")
    assert lora_hash(path) == "88d4266fd4e6"


MEMORY = """
import gc
import sys
import torch
from dataclasses import replace
from pathlib import Path
from darkroom.checkpoints.load import load_checkpoint
from darkroom.models.autoencoder import Autoencoder
from darkroom.systems import FIRST_STAGES, SYSTEMS

base = SYSTEMS["ldm_celeba256"]
system = replace(base, unet=replace(base.unet, model_channels=96))

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(l for l in lines if l.startswith("VmHWM")).split()[1]) * 1024

half, full = torch.bfloat16, torch.float32
# In the first round libraries and caches settle.
for dtype, last in ((half, False), (half, False), (full, False), (half, True), (full, True)):
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = peak()
    model = load_checkpoint(sys.argv[1], dtype, system=system, channels_last=last).model
    assert model.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last) == last
    total = sum(float(p.sum()) for p in model.parameters())  # every page is touched
    print(sum(p.numel() * p.element_size() for p in model.parameters()), peak() - before)
    del model
    gc.collect()  # what attaches to its blocks refers to them in circles
"""


@pytest.fixture
def large_file(tmp_path: Path) -> Path:
    base = SYSTEMS["ldm_celeba256"]
    model = build(replace(base, unet=replace(base.unet, model_channels=96)), "meta").to_empty(device="cpu")
    for p in model.parameters():
        p.data.fill_(0.5)
    path = tmp_path / "large.safetensors"
    write_original(Content.of_model(model), path)
    assert path.stat().st_size > 200e6
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
def test_peak_memory_is_the_model(large_file: Path) -> None:
    """At most 1.15 times what the model needs in the wanted precision and layout, the file being in float32."""
    command = [sys.executable, "-c", MEMORY, str(large_file)]
    # What is freed goes back at once: else the next round is given what this one had.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    _, *rounds = (tuple(map(int, line.split())) for line in result.stdout.splitlines())
    assert len(rounds) == 4
    for size, peak in rounds:
        assert 0.5 * size < peak <= 1.15 * size, f"{peak / size:.3f} of the model"


def run(*arguments: str) -> str:

    from darkroom.cli import checkpoints

    app = typer.Typer()
    app.command()(checkpoints.inspect)
    app.command()(checkpoints.convert)
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.usefixtures("narrow_catalogue")
def test_the_commands(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    facts = json.loads(run("inspect", str(file), "--json", "--finite"))
    assert facts["system"].startswith("sd-v1-5")
    assert facts["precision"].startswith("fp32")
    assert facts["hash"] == model_hash(file)
    assert facts["running average"] == "absent"
    run("convert", str(file), str(tmp_path / "folder"), "--layout", "diffusers", "--dtype", "bf16")
    assert "by scheduler_config.json" in " ".join(run("inspect", str(tmp_path / "folder"), "--no-hash").split())
    run("convert", str(tmp_path / "folder"), str(tmp_path / "back.safetensors"), "--layout", "original")
    wanted = load_file(file)
    assert all(torch.equal(t, wanted[n].bfloat16()) for n, t in load_file(tmp_path / "back.safetensors").items())
    for arguments, message in (
        (["convert", str(file), "x", "--layout", "sideways"], "unknown layout 'sideways'"),
        (["convert", str(file), "x", "--layout", "original"], "must end in .safetensors"),
        (["convert", str(file), str(file), "--layout", "original"], "exists already"),
        (["convert", str(file), str(tmp_path / "folder"), "--layout", "diffusers"], "not an empty folder"),
        (["convert", str(file), "x", "--layout", "diffusers", "--dtype", "int3"], "unknown dtype"),
        (["inspect", str(file), "--prediction", "w"], "unknown prediction"),
    ):
        with pytest.raises(InputError, match=message):
            run(*arguments)


def test_inspecting_a_first_stage_and_a_lora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    save_file(
        {"lora_unet_x.lora_up.weight": torch.ones(4, 2), "lora_unet_x.lora_down.weight": torch.ones(2, 4)},
        tmp_path / "l",
    )
    facts = inspect(tmp_path / "l")
    assert (facts["kind"], facts["rank"], len(facts["hash"])) == ("LoRA", "2", 12)
    stage = FIRST_STAGES["vq-f4-noattn"]
    with torch.device("meta"):
        state = Autoencoder(stage.autoencoder).state_dict()
    shapes = wanted_shapes(rules(original.autoencoder(stage.autoencoder), state), state)
    save_file({n: torch.zeros(s, dtype=torch.float16) for n, s in shapes.items()}, tmp_path / "v")
    assert inspect(tmp_path / "v", hashed=False)["first stage"] == "vq-f4-noattn"
