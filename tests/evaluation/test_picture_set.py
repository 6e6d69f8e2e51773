"""Sets of pictures: read, kept, shared between processes, compared, refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from darkroom.cli.evaluate import app
from darkroom.errors import InputError
from darkroom.evaluation import picture_set
from darkroom.evaluation.features import open_features
from darkroom.evaluation.picture_set import compute_features, open_pictures, read_features
from darkroom.evaluation.statistics import read_statistics


def draw(folder: Path, count: int, shift: int, side: int = 32) -> Path:
    folder.mkdir()
    for i in range(count):
        pixels = np.random.default_rng((i, shift)).integers(0, 196, (side, side, 3)) + shift
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:03}.png")
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return draw(tmp_path / "a", 12, 0), draw(tmp_path / "b", 12, 60)


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["pictures", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_features_are_kept_found_again_and_the_same_from_several_processes(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_set, "PIECE", 5)
    network, pictures = open_features("judge"), open_pictures(folders[0])
    fresh = np.concatenate(list(read_features(pictures, network, None)))
    assert fresh.shape[0] == 12
    for i in (1, 0):  # two shares, in whatever order
        compute_features(folders[0], "judge", "cpu", tmp_path / "shared", shard=(i, 2))
    kept = sorted((tmp_path / "shared").iterdir())
    assert len(kept) == 3  # pieces of 5, 5 and 2
    times = [p.stat().st_mtime_ns for p in kept]
    again = np.concatenate(list(read_features(pictures, network, tmp_path / "shared")))
    assert np.array_equal(fresh, again)
    assert [p.stat().st_mtime_ns for p in kept] == times
    kept[0].write_bytes(b"damaged")
    assert np.array_equal(fresh, np.concatenate(list(read_features(pictures, network, tmp_path / "shared"))))
    Image.new("RGB", (32, 32), "red").save(folders[0] / "003.png")
    changed = np.concatenate(list(read_features(open_pictures(folders[0]), network, tmp_path / "shared")))
    assert [i for i in range(12) if not np.allclose(changed[i], fresh[i], atol=1e-4)] == [3]


@pytest.mark.slow
def test_processes_of_their_own_fill_the_cache(folders: tuple[Path, Path], tmp_path: Path) -> None:
    compute_features(folders[0], "judge", "cpu", tmp_path / "cache", processes=2)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_folders_are_compared_with_network_counts_and_reasons(folders: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = folders
    report = tmp_path / "report.json"
    text = run(a, b, "--cache", tmp_path / "cache", "--metrics", "fid,kid,cmmd,is,prdc", "-o", report)
    for word in (
        "frechet",
        "kernel",
        "gaussian",
        "score",
        "precision",
        "coverage",
        "against 12 of ",
        "seen through judge [",
    ):
        assert word in text
    (found,) = json.loads(report.read_text())
    assert found["numbers"]["frechet"]["interval"] is None
    assert "no interval below 512 pictures a side" in found["numbers"]["frechet"]["note"]
    assert found["network"]["digest"]


def test_statistics_go_through_files_and_are_refused_where_they_do_not_belong(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    a, b = folders
    options = ("--cache", tmp_path / "cache")
    direct = run(a, b, "--metrics", "frechet", *options)
    run(b, a, "--save-statistics", tmp_path / "b.npz", *options)
    known = run(a, tmp_path / "b.npz", *options)

    def value(text: str) -> str:
        (found,) = re.findall(r"frechet *│ *([\d.e+-]+)", text)
        return found

    assert value(known) == value(direct)
    assert "left out" in known
    stored = read_statistics(tmp_path / "b.npz")
    assert stored.count == 12
    np.savez(tmp_path / "bare.npz", mu=stored.mean, sigma=stored.covariance)  # as pytorch-fid writes them
    text = run(a, tmp_path / "bare.npz", *options)
    assert value(text) == value(direct)
    assert "does not say of which network" in text
    np.savez(tmp_path / "other.npz", mu=stored.mean, sigma=stored.covariance, network="inception|1|2", count=12)
    with pytest.raises(InputError, match="cannot be compared"):
        run(a, tmp_path / "other.npz", *options)
    with pytest.raises(InputError, match="kernel needs the pictures themselves"):
        run(a, tmp_path / "b.npz", "--metrics", "kernel", *options)
    np.savez(tmp_path / "bad.npz", mu=stored.mean, sigma=np.full_like(stored.covariance, np.nan))
    with pytest.raises(InputError, match="there is no file"):
        read_statistics(tmp_path / "none.npz")
    beyond = np.array([0x110000], np.uint32).view("U1").reshape(())  # no character of Unicode
    np.savez(tmp_path / "name.npz", mu=stored.mean, sigma=stored.covariance, network=beyond)
    with pytest.raises(InputError, match="network is no text"):
        read_statistics(tmp_path / "name.npz")
    (tmp_path / "text.npz").write_text("mu")
    with pytest.raises(InputError, match="cannot be read as statistics"):
        read_statistics(tmp_path / "text.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mu": np.full(4, np.nan)}, "mu holds NaN or infinity"),
        ({"sigma": np.full((4, 4), np.inf)}, "sigma holds NaN or infinity"),
        (
            {"sigma": np.eye(4).astype(complex)},
            r"sigma is \[4, 4\] of complex128, expected is",
        ),
        ({"sigma": np.eye(4)[:2]}, r"sigma is \[2, 4\] of float64"),
        ({"mu": np.array([None] * 4)}, "cannot be read as statistics"),
        ({"sigma": np.triu(np.ones((4, 4)))}, "expected is a symmetric matrix"),
        ({"sigma": np.eye(4) - 0.5}, "it has a variance of -1 in one direction"),  # of (1, 1, 1, 1), on no diagonal
        ({"sigma": -np.eye(4)}, "it has a variance of -1 in one direction"),
        ({"count": 1}, "count is 1, expected is a whole number of at least 2"),
        ({"mu": np.eye(4), "sigma": np.zeros(4)}, r"mu is \[4, 4\] of float64, expected is one row of features"),
        ({"mu": np.zeros(0), "sigma": np.zeros((0, 0))}, r"mu is \[0\] of float64, expected is one row of features"),
        ({"sigma": np.eye(4) * 1e308}, r"sigma holds 1e\+308, expected is at most 1\.16e\+77"),
        ({"mu": np.full(4, -1e200)}, r"mu holds 1e\+200, expected is at most 3\.4e\+38"),
    ],
    ids=str,
)
def test_numbers_that_no_set_of_features_has_are_no_statistics(change, message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", **{"mu": np.zeros(4), "sigma": np.eye(4), **change})
    with pytest.raises(InputError, match=message):
        read_statistics(tmp_path / "s.npz")


def test_covariances_of_few_pictures_and_rounded_ones_are_statistics(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((3, 40))
    for kind in (np.float32, np.float64):
        np.savez(tmp_path / "s.npz", mu=rows.mean(axis=0).astype(kind), sigma=np.cov(rows.T).astype(kind))
        assert read_statistics(tmp_path / "s.npz").covariance.shape == (40, 40)


def test_what_cannot_be_compared_is_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = folders
    options = ("--cache", tmp_path / "cache")
    with pytest.raises(InputError, match="against itself"):
        run(a, a, *options)
    copy = tmp_path / "copy"
    copy.mkdir()
    for i, path in enumerate(sorted(a.iterdir(), reverse=True)):
        (copy / f"{i}.png").write_bytes(path.read_bytes())
    with pytest.raises(InputError, match="hold the same 12 pictures"):
        run(a, copy, *options)
    with pytest.raises(InputError, match=r"holds pictures of 32x32, .* of 64x64"):
        run(a, draw(tmp_path / "large", 6, 0, side=64), *options)
    Image.new("RGB", (16, 16)).save(b / "z.png")
    with pytest.raises(InputError, match="b holds pictures of 16x16, 32x32, expected is one size"):
        run(a, b, *options)
    with pytest.raises(InputError, match="no folder of pictures"):
        run(a, tmp_path / "nosuch", *options)
    with pytest.raises(InputError, match="the shard is '3/2'"):
        run(a, b, "--shard", "3/2", *options)
    with pytest.raises(InputError, match="unknown metric 'fidd'"):
        run(a, tmp_path / "large", "--metrics", "fidd", *options)


def test_a_model_draws_what_is_measured(folders: tuple[Path, Path], tiny_folder: Path, tmp_path: Path) -> None:
    """Drawn once, with the prompts beside the pictures; another number of steps is another set."""
    prompts, cache = tmp_path / "prompts.txt", tmp_path / "cache"
    prompts.write_text("a red house\na blue tree\na cat\na dog\na bird\na star\n")
    model = f"{tiny_folder},steps=1,width=32,height=32"
    first = run(model, folders[1], "--prompts", prompts, "--cache", cache)
    (drawn,) = (cache / "drawn").iterdir()
    assert "6 pictures drawn into" in first.replace("\n", "")
    assert [p.read_text() for p in sorted(drawn.glob("*.txt"))] == prompts.read_text().splitlines()
    assert "6 pictures a side tell little" in first
    kept = (drawn / "000002.png").read_bytes()
    (drawn / "000002.png").unlink()  # as after an interruption
    again = run(model, folders[1], "--prompts", prompts, "--cache", cache)
    assert "1 pictures drawn into" in again.replace("\n", "")
    assert (drawn / "000002.png").read_bytes() == kept
    other = f"{tiny_folder},steps=2,width=32,height=32"
    assert "against 6 of " in run(model, other, "--prompts", prompts, "--cache", cache)
    assert len(list((cache / "drawn").iterdir())) == 2


def test_a_model_needs_prompts_and_no_shares(folders: tuple[Path, Path], tiny_folder: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ((tiny_folder, folders[0]), f"no folder of pictures {tiny_folder}; what a model is to draw is said with"),
        ((tmp_path / "statistics.npz", folders[0]), "are what pictures are measured against: they stand second"),
        (("outt", folders[0]), "no folder of pictures outt; what a model is to draw"),
        ((tiny_folder, folders[0], "--shard", "1/2"), "let the model draw without it first"),
        ((*folders, "--prompts", "p.txt"), f"what a model draws, and no model is among {folders[0]}, {folders[1]}"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            run(*arguments)
