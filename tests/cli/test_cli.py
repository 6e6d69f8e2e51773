"""Real processes: what a user types and sees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from darkroom.tasks.metadata.a1111 import parse_parameters

ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


def darkroom(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "darkroom", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=ENV, capture_output=True, text=True, timeout=120)


def test_help_needs_no_torch(tmp_path: Path) -> None:
    program = "import sys\nfrom darkroom.cli import main\nsys.argv = ['darkroom', '--help']\n"
    program += "try: main()\nexcept SystemExit: pass\n"
    program += "assert not {'torch', 'transformers', 'skia', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for command in ("generate", "train", "evaluate", "data", "systems"):
        assert command in done.stdout


def test_sentences_become_pictures_that_say_how(tiny_folder: Path, tmp_path: Path) -> None:
    done = darkroom(
        "generate", "a red house", "a cat, at night", "-m", tiny_folder, "-o", "pictures", "--seed", 7, "-b", 2,
        "--sampler", "k_euler_a", "--guidance-scale", 3, "-n", "a dog", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    files = sorted((tmp_path / "pictures").iterdir())
    assert [f.name for f in files] == ["00000-7.png", "00001-8.png", "00002-7.png", "00003-8.png"]
    assert "4 pictures in" in done.stdout
    picture = Image.open(files[3])
    assert picture.size == (32, 32)
    request = parse_parameters(picture.info["parameters"]).request
    assert (request.prompt, request.negative_prompt, request.seed) == ("a cat, at night", "a dog", 8)
    assert (request.sampler, request.guidance) == ("Euler a", 3.0)
    again = darkroom("generate", "a cat", "-m", tiny_folder, "-o", "pictures", cwd=tmp_path)
    assert "00004-0.png" in again.stdout  # nothing is overwritten


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "a", "--sampler", "eulr"], "unknown sampler 'eulr'; known are: Euler"),
        (["generate", "a", "-W", "100"], "width is 100; tiny makes sides of 16 to 8192 in multiples of 16"),
        (["generate", "a", "--steps", "-2"], "the number of steps is -2, wanted is 1 to 1000"),
        (["generate", "a", "-b", "0"], "the batch count is 0, wanted is at least 1"),
        (["generate", "a", "--dtype", "fp7"], "unknown dtype 'fp7'; known are: bf16, fp16, fp32"),
        (["generate", "a", "-m", "nosuch"], "there is no model 'nosuch'; wanted is a file, a folder, a hub id"),
        (["generate", "a", "-o", "/proc/none"], "the output folder /proc/none cannot be made"),
        (["train", "absent.toml"], "absent.toml cannot be read as a recipe"),
        (["train", "broken.toml"], r"broken.toml: unknown key loop.stepz; known are: steps"),
        (["train", "unkind.toml"], "unknown kind of recipe 'difusion'; known are: diffusion"),
        (["evaluate", "picturebook", "--prompts", "empty.jsonl"], "holds no prompts"),
        (["data", "prompts", "--seed", "1", "--count", "3", "-o", "no/such/p.jsonl"], "cannot be written"),
        (["data", "prompts", "--seed", "1", "--count", "3", "--things", "x", "-o", "p"], "number of things is 'x'"),
        (["data", "preview", "--size", "12"], "the size is '12', wanted is WIDTHxHEIGHT"),
    ],
)
def test_bad_input_gets_one_sentence_and_status_2(
    arguments: list[str], message: str, tiny_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.toml").write_text(
        'kind = "judge"\nwidth = 8\n[loop]\nstepz = 3\nbatch_size = 1\nlearning_rate = 0.1\n'
        "[data]\nsize = 64\ncount = 9\n"
    )
    (tmp_path / "unkind.toml").write_text('kind = "difusion"\n')
    (tmp_path / "empty.jsonl").write_text("\n")
    before = sorted(p.name for p in tmp_path.iterdir())
    if arguments[0] == "generate":
        arguments = [*arguments, *([] if "-m" in arguments else ["-m", str(tiny_folder)])]
    done = darkroom(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    left = [p for p in tmp_path.rglob("*") if p.is_file() and p.name not in before]
    assert left == []


def test_prompts_and_preview_are_written(tmp_path: Path) -> None:
    done = darkroom("data", "prompts", "--seed", 1, "--count", 5, "--things", 2, "-o", "p.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "p.jsonl").read_text().splitlines()) == 5
    done = darkroom("data", "preview", "--count", 2, "--size", "96x64", "-o", "sheet.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "sheet.png").width > 96 * 5


def test_systems_are_listed(tmp_path: Path) -> None:
    done = darkroom("systems", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "picturebook" in done.stdout
