"""`darkroom evaluate` and `darkroom train`, called as a user would, in this process for speed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from darkroom.cli.app import app
from darkroom.cli.train import memory_size
from darkroom.data.picturebook.prompts import sample_prompts, write_prompts
from darkroom.errors import InputError

RECIPES = Path(__file__).parents[2] / "recipes" / "picturebook"
TINY = ("loop.steps=2", "loop.log_every=1", "loop.batch_size=2", "data.size=32", "data.count=9", "width=4")


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["judge", "--count", 0], "the number of renders is 0, expected is at least 1"),
        (["judge", "--weights", "text"], "text is not a safetensors file"),
        (["picturebook", "--device", "abacus"], "unknown device 'abacus'; known are: cpu"),
        (["picturebook", "--prompts", "absent"], "there is no file 'absent'"),
        (["picturebook", "--prompts", "text"], "text line 1 is not valid JSON"),
        (["picturebook", "--prompts", "empty"], "empty holds no prompts"),
        (["picturebook", "--prompts", "one"], "the list holds 1 prompt, expected are at least 2"),
        (["picturebook", "--prompts", "two", "--steps", -3], "the number of steps is -3, expected is 1 to 1000"),
        (["picturebook", "--prompts", "two", "--sampler", "eulr"], "unknown sampler 'eulr'; known are: Euler"),
        (["picturebook", "--prompts", "two", "--deepcache-interval", 0], "the DeepCache interval is 0"),
        (["picturebook", "--prompts", "two", "--tome-ratio", -1], "share of tokens to merge is -1.0"),
        (
            ["picturebook", "--prompts", "two", "--interval", "1"],
            "--guidance-interval: '1' is wrong, expected 2 numbers",
        ),
        (["picturebook", "--prompts", "two", "-o", "none/report"], "none/report cannot be written"),
        (["picturebook", "--prompts", "two", "-m", "nosuch"], "there is no model 'nosuch'"),
    ],
)
def test_measuring_what_cannot_be_measured(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[object], message: str
) -> None:
    (tmp_path / "text").write_text("no JSON")
    (tmp_path / "empty").write_text("\n")
    for name, count in (("one", 1), ("two", 2)):
        with (tmp_path / name).open("wb") as file:
            write_prompts(file, sample_prompts(0, count, (1, 1)))
    before = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    if arguments[0] == "picturebook" and "-m" not in arguments:
        arguments = [*arguments, "-m", tiny_folder]
    with pytest.raises(InputError, match=message):
        run("evaluate", *arguments)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["loop.stepz=3"], "unknown key loop.stepz; known are: steps"),
        (["loop.steps"], "override 'loop.steps' is not of the form"),
        (["loop.lr=fast"], 'loop.lr is "fast", expected is a number'),
        (["data.size=-64"], "size is -64, expected is 8 to 8192"),
        (["loop.device=abacus"], "there is no device 'abacus' here; there are: cpu"),
        (["--minutes", -1], "minutes is -1.0, expected is a number from 0 up"),
        (["--threads", 0], "the number of threads is 0, expected is 1 to 1024"),
        (["-o", "file/run"], "the folder file/run cannot be made: Not a directory"),
    ],
)
def test_training_what_cannot_be_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[object], message: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        run("train", RECIPES / "classifier.toml", *TINY, *arguments)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["loop.batch_size=3", "--devices", 2],
            r"override 'loop.batch_size=3': loop.batch_size is 3, expected is a",
        ),
        (["--devices", 5], r"autoencoder.toml line \d+: loop.batch_size is"),
        (["--memory", "80"], "--memory: '80' is wrong, expected is a size above 0 such as 80GB"),
    ],
)
def test_planning_what_cannot_be_planned(arguments: list[object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run("train", "plan", RECIPES / "autoencoder.toml", *arguments)


@pytest.mark.parametrize("name", ["classifier", "judge", "preview", "text"])
def test_kinds_that_cannot_be_planned(name: str) -> None:
    with pytest.raises(
        InputError, match=rf"{name}.toml line \d+: kind is {name}, expected is one of a UNet or a first"
    ):
        run("train", "plan", RECIPES / f"{name}.toml")


def test_memory_may_be_given_in_any_unit() -> None:
    given = {"1TB": 1024, "24GiB": 24, "24 gb": 24, "1.5t": 1536, "512mib": 0.5, "8Gi": 8, " 1048576 KB ": 1}
    assert {text: memory_size(text) / 2**30 for text in given} == given
    assert memory_size("7B") == 7
    for text in ("80", "0 GB", "GB", "8 XB", "1e3GB", "-8GB", "8 GB 4", "nan GB"):
        with pytest.raises(InputError, match=r"expected is a size above 0 such as 80GB, 24GiB or 1\.5TB"):
            memory_size(text)


def test_a_run_stops_goes_on_and_keeps_its_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darkroom.training.run_folder.fast_half", lambda device: None)
    command = ("train", RECIPES / "classifier.toml", *TINY, "-o", tmp_path / "run")
    assert "stopped at step 1 of 2; the same command goes on from" in run(*command, "--minutes", 0)
    assert run("train", "export", tmp_path / "run").strip() == f"{tmp_path / 'run' / 'export'}: step 1"
    so_far = (tmp_path / "run" / "export" / "classifier.safetensors").read_bytes()
    recorded = tmp_path / "run" / "recipe.json"
    assert '"precision": "fp32"' in recorded.read_text()
    monkeypatch.undo()
    monkeypatch.setattr("darkroom.training.run_folder.fast_half", lambda device: torch.bfloat16)
    said = run(*command)
    assert "going on in fp32, as the run in" in said
    assert "a new run would take bf16 here" in said
    assert "done:" in said
    assert '"precision": "fp32"' in recorded.read_text()
    assert (tmp_path / "run" / "export" / "classifier.safetensors").read_bytes() != so_far
