"""How models follow inputs beside captions, on tiny networks: what is compared, and what the baselines are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from darkroom.checkpoints.native import save_system
from darkroom.cli.evaluate import app
from darkroom.engine.pipeline import Pipeline
from darkroom.errors import InputError
from darkroom.evaluation.denoising import denoised
from darkroom.evaluation.inputs import border_filled, followed, unseen
from darkroom.evaluation.judging import load_judge
from darkroom.systems.build import LatentDiffusion, build
from darkroom.systems.narrow import narrowed
from darkroom.systems.system_file import find_system
from darkroom.types import Request, Size

WORLDS = Path(__file__).parents[2] / "recipes" / "picturebook" / "worlds"


def model(name: str) -> LatentDiffusion:
    torch.manual_seed(0)
    return build(narrowed(find_system(name if name == "picturebook" else str(WORLDS / f"{name}.system.toml")))).eval()


@pytest.fixture(scope="module")
def base() -> LatentDiffusion:
    return model("picturebook")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("class", "class"),
        ("layout", "boxes"),
        ("semantic", "segmentation"),
        ("inpainting", "masked_image"),
        ("super-resolution", "low_resolution"),
    ],
)
def test_a_random_model_is_no_better_than_the_baseline(name: str, key: str, base: LatentDiffusion) -> None:
    count = 4 if key == "low_resolution" else 2
    (row,) = followed(Pipeline(model(name)), Pipeline(base), load_judge(), Request(steps=1), count)
    assert row.input == key
    assert row.better is not True
    assert row.sheet.shape[1] > 3 * 128
    if key == "low_resolution":
        assert row.theirs.value > 15  # pictures of 16 pixels, enlarged, are still like the scenes
        assert row.better is False


def test_a_model_that_reads_captions_alone(base: LatentDiffusion) -> None:
    with pytest.raises(InputError, match="picturebook reads none of the inputs that are measured: class, boxes"):
        followed(Pipeline(base), Pipeline(base), load_judge(), Request(), 4)


def test_a_hole_takes_the_color_of_its_border() -> None:
    pictures = torch.zeros(3, 3, 32, 32)
    pictures[:, :, :, 16:] = 1.0
    hole = torch.zeros(3, 1, 32, 32)
    hole[0, :, 4:28, 20:26] = 1  # within the bright half, its ring touches columns 15 to 30
    hole[1, :, 10:20, 26:30] = 1
    hole[2] = 1
    found = border_filled(pictures, hole)
    assert torch.equal(found[hole.expand_as(found) == 0], pictures[hole.expand_as(found) == 0])
    ring = torch.zeros(32, 32)
    ring[0:32, 15:31] = 1
    ring[4:28, 20:26] = 0
    assert found[0, 0, 10, 22] == pytest.approx(float((pictures[0, 0] * ring).sum() / ring.sum()), abs=1e-6)
    assert found[1, 0, 12, 28] == 1
    assert (found[2] == 0).all()


def test_unseen_scenes_are_always_the_same() -> None:
    one, again = unseen(3, Size(32, 32), 2), unseen(2, Size(32, 32), 2)
    assert np.array_equal(one.pixels[:2], again.pixels)
    assert one.captions[:2] == again.captions


def test_models_denoise_the_same_latents(base: LatentDiffusion) -> None:
    first, same, other = denoised([("a", base), ("b", base), ("c", model("picturebook"))], 4, range(200))
    assert first.gain.value == same.gain.value == other.gain.value == 0  # the same seed, so the same weights
    clean, noisy = denoised([("a", base)], 4, range(1)), denoised([("a", base)], 4, range(900, 1000))
    assert clean[0].psnr.value > noisy[0].psnr.value
    with pytest.raises(InputError, match="ldm_celeba256 and picturebook differ in first stage, noise schedule or size"):
        denoised([("a", base), ("b", build(narrowed(find_system("ldm_celeba256"))))], 4, range(200))


def test_commands_write_what_they_found(tmp_path: Path, base: LatentDiffusion) -> None:
    save_system(model("class"), tmp_path / "class", {}, torch.float32)
    save_system(base, tmp_path / "base", {}, torch.float32)
    told = ["inputs", "-m", str(tmp_path / "class"), "--base", str(tmp_path / "base"), "--count", "2", "--steps", "1"]
    files = ["-o", str(tmp_path / "inputs.json"), "--sheet", str(tmp_path / "sheet.png")]
    done = CliRunner().invoke(app, [*told, *files])
    assert done.exit_code == 0, (done.output, done.exception)
    report = json.loads((tmp_path / "inputs.json").read_text())
    assert report["inputs"][0]["input"] == "class"
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    command = ["denoising", str(tmp_path / "base"), "--count", "2", "--most", "199", "-o", str(tmp_path / "noise.json")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, (done.output, done.exception)
    assert json.loads((tmp_path / "noise.json").read_text())["models"][0]["gain"] == 0
    done = CliRunner().invoke(app, ["denoising", str(tmp_path / "base"), "--most", "2000"])
    assert isinstance(done.exception, InputError)
    assert "timesteps 0 to 2000 of 200 scenes" in str(done.exception)
