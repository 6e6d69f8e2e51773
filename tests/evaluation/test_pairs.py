"""PSNR and SSIM against their definitions in NumPy and SciPy; pairs by name; first stages."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from narrow import narrow
from PIL import Image
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

from darkroom.cli.evaluate import app
from darkroom.errors import InputError
from darkroom.evaluation.autoencoder import measure_stage, squared
from darkroom.evaluation.features import open_features
from darkroom.evaluation.pairs import PairNumbers, psnr, ssim
from darkroom.systems.build import build

RNG = np.random.default_rng(0)
A = RNG.integers(0, 256, (2, 24, 31, 3)).astype(np.uint8)
B = (A * 0.8 + RNG.integers(0, 50, A.shape)).astype(np.uint8)


def images(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def test_psnr_is_its_definition() -> None:
    error = np.square(A.astype(float) - B).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(psnr(images(A), images(B)).numpy(), 10 * np.log10(255**2 / error), atol=1e-5)
    assert torch.isinf(psnr(images(A), images(A))).all()


def test_ssim_is_its_definition() -> None:
    """Wang's: a Gaussian of 1.5 pixels cut at 5, K 0.01 and 0.03, borders left out; to 1e-6."""

    def local(x: np.ndarray) -> np.ndarray:
        return gaussian_filter(x, 1.5, radius=5)[5:-5, 5:-5]

    expected = []
    for p, q in zip(A / 255.0, B / 255.0):
        channels = []
        for c in range(3):
            x, y = p[..., c], q[..., c]
            mx, my = local(x), local(y)
            vx, vy, vxy = local(x * x) - mx**2, local(y * y) - my**2, local(x * y) - mx * my
            numerator = (2 * mx * my + 1e-4) * (2 * vxy + 9e-4)
            channels.append(numerator / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)))
        expected.append(np.mean(channels))
    np.testing.assert_allclose(ssim(images(A), images(B)).numpy(), expected, atol=1e-6)
    assert float(ssim(images(A), images(A)).min()) == pytest.approx(1)
    with pytest.raises(InputError, match="at least 11 pixels, these are 8x8"):
        ssim(images(A[:, :8, :8]), images(B[:, :8, :8]))


def test_equal_pairs_are_said_and_unlike_sizes_refused() -> None:
    found = PairNumbers()
    found.update(images(np.concatenate([A, A[:1]])), images(np.concatenate([B, A[:1]])))
    value = found.result()["psnr"]
    assert np.isfinite(value.value)
    assert "1 pairs are the same picture twice" in value.note
    with pytest.raises(InputError, match="31x24 cannot be compared with ones of 20x24"):
        found.update(images(A), images(B[:, :, :20]))
    same = PairNumbers()
    same.update(images(A), images(A))
    with pytest.raises(InputError, match="all 2 pairs are the same"):
        same.result()


def test_pairs_go_by_name(tmp_path: Path) -> None:
    for folder, pixels, ending in (("a", A, "png"), ("b", B, "webp")):
        (tmp_path / folder).mkdir()
        for i, p in enumerate(pixels):
            Image.fromarray(p).save(tmp_path / folder / f"{i}.{ending}", lossless=True)
    command = ["pairs", str(tmp_path / "a"), str(tmp_path / "b"), "-o", str(tmp_path / "report.json")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "2 pairs" in done.output
    report = json.loads((tmp_path / "report.json").read_text())
    expected = float(psnr(images(A), images(B)).mean())
    assert report["numbers"]["psnr"]["value"] == pytest.approx(expected, abs=1e-4)
    shutil.copy(tmp_path / "a" / "0.png", tmp_path / "a" / "extra.png")
    failed = CliRunner().invoke(app, command)
    assert "1 pictures have no twin in the other set, the first is extra" in str(failed.exception)


def test_pictures_are_cut_as_a_stage_takes_them() -> None:
    pixels = np.zeros((37, 50, 3), np.uint8)
    pixels[2:34] = 9
    assert squared(pixels, 8, None).shape == (32, 48, 3)
    assert (squared(pixels, 8, None) == 9).all()
    assert squared(pixels, 8, 16).shape == (16, 16, 3)
    with pytest.raises(InputError, match="smaller than the 64 pixels of one latent position"):
        squared(pixels, 64, None)


def test_a_stage_with_a_codebook_is_measured() -> None:
    torch.manual_seed(0)
    model = build(narrow("ldm_celeba256")).eval()
    pixels = RNG.integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    found = measure_stage(model, pixels, open_features("judge"))
    with torch.no_grad():
        latents = model.encode_images(images(pixels))
        decoded = model.decode_latents(latents).clamp(-1, 1)
        codes = model.autoencoder.quantizer.nearest(latents / model.system.latent_scale)  # type: ignore[union-attr]
    assert found.pictures == 3
    assert found.codebook is not None
    assert found.codebook.used == len(codes.unique())
    assert 1 <= found.codebook.perplexity <= found.codebook.used + 1e-6
    # The decoded pictures are rounded to bytes first: a quarter of a percent.
    assert found.numbers["psnr"].value == pytest.approx(float(psnr(decoded, images(pixels)).mean()), rel=2.5e-3)
    assert found.numbers["frechet"].interval is None
    assert "psnr, 8 times smaller" in found.numbers, "as many bytes as its 64 codes: 24 bits for 6, at factor 4"
    with pytest.raises(InputError, match="at least 2 pictures, there are 1"):
        measure_stage(model, pixels[:1], open_features("judge"))


def test_the_shipped_stage_is_measured_from_the_command_line(tmp_path: Path) -> None:
    command = ["autoencoder", "picturebook", "--count", "2", "--size", "64", "--sheet", str(tmp_path / "sheet.png")]
    done = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "report.json")])
    assert done.exit_code == 0, (done.output, done.exception)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["codebook"] is None
    assert report["numbers"]["psnr"]["value"] > 20
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 3 * 64
