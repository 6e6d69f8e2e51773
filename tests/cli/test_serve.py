"""What the server is started with: its token, as its folder keeps it, and its models."""

import json
import shutil
from pathlib import Path

import pytest

from darkroom.checkpoints.model_folders import ModelFolders
from darkroom.cli.serve import Address, Serving
from darkroom.errors import InputError


def test_a_token_is_made_once(tmp_path: Path) -> None:
    token = Address().secret(tmp_path)
    assert len(token) >= 32
    assert Address().secret(tmp_path) == token
    assert Address(token="said instead").secret(tmp_path) == "said instead"


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff" * 20, "ä".encode() * 20, b"a\x1b[2J" * 9])
def test_a_token_file_that_holds_none_is_named(content: bytes, tmp_path: Path) -> None:
    """An empty one would let everybody in."""
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(InputError, match=r"token (holds no token of at least 8 letters; remove it|is not UTF-8)"):
        Address().secret(tmp_path)


def copied(tiny_folder: Path, folder: Path, kind: str) -> Path:
    """What cannot be served, made of a model that can."""
    if kind == "missing":
        return folder / "nothing.safetensors"
    if kind == "a part":
        shutil.copy(tiny_folder / "autoencoder.safetensors", folder / "part.safetensors")
        return folder / "part.safetensors"
    model = folder / "model"
    shutil.copytree(tiny_folder, model)
    if kind == "without a file":
        (model / "conditioner.safetensors").unlink()
    if kind == "cut short":
        content = (model / "unet.safetensors").read_bytes()
        (model / "unet.safetensors").write_bytes(content[: len(content) // 2])
    if kind == "of a missing base":
        described = json.loads((model / "system.json").read_text())
        (model / "system.json").write_text(json.dumps({**described, "base": "nothing"}))
        (model / "unet.safetensors").rename(model / "lora.safetensors")
    return model


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "there is no file or folder"),
        ("a part", "part.safetensors is not a whole model"),
        ("without a file", "there is no file .*conditioner.safetensors"),
        ("cut short", "truncated download"),
        ("of a missing base", "there is no model 'nothing'"),
    ],
)
def test_what_cannot_be_served_is_refused_before_the_server_is_up(
    kind: str, message: str, tiny_folder: Path, tmp_path: Path
) -> None:
    models = [str(tiny_folder), str(copied(tiny_folder, tmp_path, kind))]
    with pytest.raises(InputError, match=message):
        Serving(models=models).loaders(ModelFolders())


def test_a_first_stage_of_the_catalogue_is_refused_and_what_lies_on_the_hub_is_not_looked_at() -> None:
    with pytest.raises(InputError, match="sd-vae-ft-mse is a first stage"):
        Serving(models=["sd-vae-ft-mse"]).loaders(ModelFolders())
    assert list(Serving(models=["owner/name"]).loaders(ModelFolders())) == ["name"]
