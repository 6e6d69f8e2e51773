"""Checkpoints of the catalogue as files of their true names and shapes, whose numbers are holes that take no room."""

import json
import math
from pathlib import Path

import pytest
from public_manifests import manifests

from darkroom.checkpoints.closely import identified, part
from darkroom.checkpoints.inspect import inspect
from darkroom.checkpoints.known import known_first_stages, recognized
from darkroom.checkpoints.open_file import open_weights
from darkroom.checkpoints.source import open_source


def hollow(path: Path, shapes: dict[str, list[int]]) -> Path:
    """A safetensors file of `shapes` in half precision."""
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + at)
    return path


@pytest.mark.parametrize("layout", ["sd-v1-full-ema", "sd-v2-768-v", "sdxl-base", "ldm_cin256-v2"])
def test_single_files_are_told_without_their_networks(layout: str, tmp_path: Path) -> None:
    path = hollow(tmp_path / f"{layout}.safetensors", manifests()["original"][layout]["tensors"])
    source = open_source(path)
    told = recognized(source, None, str(path))
    assert told == identified(source, ema="auto", prediction=None, hint=str(path))[0]
    assert inspect(path, hashed=False)["system"] == f"{told.name} ({told.title})"


def test_folders_are_told_without_their_networks(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    for component, shapes in manifests()["diffusers"]["sd-v2-768-v"]["tensors"].items():
        hollow(tmp_path / component / "diffusion_pytorch_model.safetensors", shapes)
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text('{"prediction_type": "v_prediction"}')
    source = open_source(tmp_path)
    told = recognized(source, None, "")
    assert told == identified(source, ema="auto", prediction=None, hint="")[0]
    assert (told.prediction, told.prediction_told_by) == ("v", "scheduler_config.json")


def test_first_stages_are_told_without_their_networks(tmp_path: Path) -> None:
    weights = open_weights(hollow(tmp_path / "v.safetensors", manifests()["original"]["first_stage_kl-f8"]["tensors"]))
    stages = known_first_stages({name: stored.shape for name, stored in weights.items()})
    found = part(weights)
    assert stages is not None
    assert found is not None
    assert found[0] == {"first stage": ", ".join(stages)}


def test_what_is_not_whole_is_left_to_a_closer_look(tmp_path: Path) -> None:
    shapes = dict(manifests()["original"]["sd-v1-full-ema"]["tensors"])
    shapes.pop("model_ema.diffusion_modeltime_embed0weight")
    assert recognized(open_source(hollow(tmp_path / "half.safetensors", shapes)), None, "") is None
    shapes = dict(manifests()["original"]["sdxl-base"]["tensors"])
    shapes.pop("conditioner.embedders.1.model.text_projection")
    assert recognized(open_source(hollow(tmp_path / "less.safetensors", shapes)), None, "") is None
