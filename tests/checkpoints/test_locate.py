"""Where checkpoints are found: names, folders, the hub and its cache."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from narrow_checkpoints import narrow, random_model
from safetensors.torch import load_file, save_file

from darkroom.checkpoints import locate as locate_module
from darkroom.checkpoints.convert import Content, write_diffusers
from darkroom.checkpoints.identify import identify
from darkroom.checkpoints.load import load_checkpoint
from darkroom.checkpoints.locate import HOMES, locate, locate_network
from darkroom.checkpoints.source import open_source, weights_of
from darkroom.errors import InputError
from darkroom.systems import FIRST_STAGES, SYSTEMS

NAME = "sd-v1-5"


def cached_repository(cache: Path, folder: Path, name: str) -> Path:
    """The hub's cache as it is after a download of somebody's repository; where its files lie."""
    repository = cache / f"models--somebody--{name}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots").mkdir()
    return folder.rename(repository / "snapshots" / ("0" * 40))


HUB = """
import sys
from darkroom.checkpoints.folders import CONTROLS
from darkroom.checkpoints.locate import HOMES, locate, locate_file
from darkroom.errors import InputError
for name in sys.argv[1:]:
    try:
        print(locate_file(CONTROLS, name.removeprefix("control "), []) if name.startswith("control ") else locate(name))
    except InputError as error:
        print("InputError:", error)
"""


def test_the_hub_cache_is_read_offline(tmp_path: Path, file: Path) -> None:
    source = open_source(file)
    write_diffusers(Content.of_source(source, identify(source, system=narrow(NAME))), tmp_path / "folder")
    snapshot = cached_repository(tmp_path / "cache", tmp_path / "folder", "tiny")
    environment = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "cache"), "PATH": "", "HOME": str(tmp_path)}

    shutil.copy(file, snapshot / "v1-5.safetensors")
    (tmp_path / "edges").mkdir()
    for name in ("diffusion_pytorch_model.fp16.safetensors", "plain.pth"):
        (tmp_path / "edges" / name).write_bytes(b"")
    edges = cached_repository(tmp_path / "cache", tmp_path / "edges", "edges")
    asked = {  # in one process, for starting one takes long
        "somebody/tiny": str(snapshot),
        "somebody/tiny:v1-5.safetensors": str(snapshot / "v1-5.safetensors"),
        "somebody/tiny@main:v1-5.safetensors": str(snapshot / "v1-5.safetensors"),
        "somebody/tiny:other.ckpt": "HF_HUB_OFFLINE",
        "somebody/tiny.ckpt": "there is no file or folder",
        "somebody/else": "HF_HUB_OFFLINE",
        "control somebody/edges": str(edges / "diffusion_pytorch_model.fp16.safetensors"),
        "control somebody/edges:plain.pth": str(edges / "plain.pth"),
        "control somebody/tiny": "holds no control network at its top; name its file: somebody/tiny:FILE",
        "control somebody/edges:missing.pth": "HF_HUB_OFFLINE",
    }
    command = [sys.executable, "-c", HUB, *asked]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    for answer, wanted in zip(result.stdout.splitlines(), asked.values(), strict=True):
        assert wanted in answer
    assert load_checkpoint(snapshot, system=narrow(NAME)).identity is not None


def test_names_that_mean_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="hub id"):
        locate("no-such-model")
    with pytest.raises(InputError, match="there is no file or folder"):
        locate(str(tmp_path / "missing.safetensors"))


def test_names_of_the_catalogue_have_homes_on_the_hub() -> None:
    assert set(HOMES) <= {*SYSTEMS, *FIRST_STAGES}
    assert all(re.fullmatch(r"[\w-]+/[\w.-]+", home) for home in HOMES.values())
    with pytest.raises(InputError, match=r"a name such as .*picturebook, .*sdxl-base"):
        locate("sdxl-bace")


def test_names_of_the_catalogue_are_found_however_they_are_spelt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate_module, "_from_hub", Path)
    assert str(locate("SDXL_base")) == HOMES["sdxl-base"]
    assert str(locate("sd-v1-emaonly")) == HOMES["sd-v1-5"]
    assert str(locate("sdxl-vae-fp16-fix")) == "madebyollin/sdxl-vae-fp16-fix"
    with pytest.raises(InputError, match="ldm_ffhq256 has no home on the hub"):
        locate("ldm_ffhq256")


@pytest.mark.parametrize(
    ("stored", "fetched"),
    [
        (("model_index.json", "unet/m.safetensors", "unet/m.fp16.safetensors", "unet/m.bin"), {"unet/m.safetensors"}),
        (("model_index.json", "unet/m.fp16.safetensors", "v1.ckpt", "v1.safetensors"), {"unet/m.fp16.safetensors"}),
        (("model_index.json", "unet/m.bin", "vqvae/m.bin", "unet/m.msgpack"), {"unet/m.bin", "vqvae/m.bin"}),
        (
            (
                "config.json",
                "diffusion_pytorch_model.safetensors",
                "diffusion_pytorch_model.bin",
                "sdxl_vae.safetensors",
            ),
            {"diffusion_pytorch_model.safetensors"},
        ),
    ],
)
def test_what_is_fetched_from_the_hub(
    tmp_path: Path, stored: tuple[str, ...], fetched: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As little as makes a folder, or a first stage alone."""
    monkeypatch.setattr(huggingface_hub, "snapshot_download", _hub_of(stored, tmp_path))
    assert locate("somebody/tiny") == tmp_path
    assert _files(tmp_path) == fetched | {n for n in stored if n in ("model_index.json", "config.json")}


def test_a_network_of_its_own_is_fetched_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = ("config.json", "vocab.json", "merges.txt", "model.safetensors", "pytorch_model.bin", "flax_model.msgpack")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", _hub_of(stored, tmp_path))
    assert locate_network("openai/clip") == tmp_path
    assert _files(tmp_path) == {"config.json", "vocab.json", "merges.txt", "model.safetensors"}
    assert locate_network(str(tmp_path)) == tmp_path
    with pytest.raises(InputError, match=r"no file or folder 'clip\.pt', and it is no hub id"):
        locate_network("clip.pt")


def _hub_of(stored: tuple[str, ...], tmp_path: Path) -> Callable[..., str]:
    def snapshot(_: str, *, revision: None, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        assert revision is None
        for name in filter_repo_objects(stored, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("")
        return str(tmp_path)

    return snapshot


def _files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


VARIANTS = [  # in the order of preference
    "diffusion_pytorch_model.safetensors",
    "model.safetensors.index.json",
    "model.fp16.safetensors",
    "diffusion_pytorch_model.safetensors.index.fp16.json",
    "model.bf16.safetensors",
    "diffusion_pytorch_model.ema.safetensors",
    "diffusion_pytorch_model.non_ema.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.fp16.bin",
]


def test_which_weights_of_a_component_are_taken(tmp_path: Path) -> None:
    for name in ("config.json", "model.onnx", "model-00001-of-00002.safetensors", "flax_model.msgpack"):
        (tmp_path / name).write_text("")
    with pytest.raises(InputError, match="holds no weights"):
        weights_of(tmp_path)
    for name in reversed(VARIANTS):
        (tmp_path / name).write_text("")
        assert weights_of(tmp_path).name == name


def test_half_precision_and_shards_of_it_are_found_in_folders(tmp_path: Path, file: Path) -> None:
    """As Diffusers and transformers name them."""
    source, folder = open_source(file), tmp_path / "folder"
    content = Content.of_source(source, identify(source, system=narrow(NAME)), torch.float16)
    write_diffusers(content, folder)
    for component, stem in (("vae", "diffusion_pytorch_model"), ("text_encoder", "model")):
        (folder / component / f"{stem}.safetensors").rename(folder / component / f"{stem}.fp16.safetensors")
    whole = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(whole)
    whole.unlink()
    shards = [f"diffusion_pytorch_model.fp16-0000{i}-of-00002.safetensors" for i in (1, 2)]
    places = {name: shards[i % 2] for i, name in enumerate(tensors)}
    for shard in shards:
        save_file({n: t for n, t in tensors.items() if places[n] == shard}, folder / "unet" / shard)
    table = folder / "unet" / "diffusion_pytorch_model.safetensors.index.fp16.json"
    table.write_text(json.dumps({"weight_map": places}))
    loaded = load_checkpoint(folder, system=narrow(NAME))
    wanted = random_model(NAME).state_dict()
    assert all(torch.equal(t, wanted[n].half()) for n, t in loaded.model.state_dict().items())
    assert loaded.hashed == folder / "unet" / shards[0]
