"""Names without PyTorch, and what answers by them alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from darkroom.checkpoints import known
from darkroom.cli.known_checkpoints import known_checkpoints
from darkroom.cli.names import named
from darkroom.diffusion.samplers import SAMPLERS
from darkroom.names import names_of, table
from darkroom.pictures.picture_file import write_picture

Quick = Callable[..., tuple[str, str]]


@pytest.fixture(scope="module")
def quick() -> Iterator[Quick]:
    """Runs a command in a folder: what it printed, and its errors with a last line that says whether it has PyTorch."""
    command = [sys.executable, Path(__file__).with_name("without_torch.py")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=env, text=True) as process:

        def run(folder: Path, *arguments: str) -> tuple[str, str]:
            assert process.stdin is not None
            assert process.stdout is not None
            print(json.dumps([arguments, str(folder)]), file=process.stdin, flush=True)
            out, err = json.loads(process.stdout.readline())
            return out, err

        yield run
        process.communicate()


def test_the_file_says_what_the_tables_say() -> None:
    """After a change to the tables: python -m darkroom.cli.names"""
    assert table() == named()
    assert known.table() == known_checkpoints()
    assert names_of("sampler").name("k_euler_a") == SAMPLERS.name("k_euler_a") == "Euler a"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["systems"], "SDXL"),
        (["systems", "picturebook"], "snowman"),
        (["generate", "--list", "samplers"], "DPM++ 2M SDE"),
        (["config"], "models_dirs"),
        (["inspect", "told.png"], "Darkroom"),
        (["inspect", "picturebook"], "the model that ships"),
        (["train", "--help"], "loop.batch_size  integer, required"),
    ],
)
def test_questions_are_answered_without_pytorch(arguments: list[str], said: str, quick: Quick, tmp_path: Path) -> None:
    text = "a cat\nSteps: 2, Sampler: Euler a, Seed: 1, Size: 32x32, RNG: CPU, Version: darkroom 0.1"
    write_picture(tmp_path / "told.png", np.zeros((32, 32, 3), np.uint8), text)
    printed, errors = quick(tmp_path, *arguments)
    assert said in printed
    assert errors == "False\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sampler", "eulr"], "unknown sampler 'eulr'; known are: Euler, "),
        (["--schedule", "karas"], "unknown schedule 'karas'; known are: karras, "),
        (["-m", "nosuch"], "there is no model 'nosuch'"),
        (["--lora", "ink"], "the LoRA 'ink' is no file"),
        (["--steps", "0"], "the number of steps is 0, expected is 1 to 1000"),
        (["--cfg-scale", "inf"], "--cfg-scale: 'inf' is wrong, expected a number"),
        (["--strength", "2", "--init-image", "lost.png"], "there is no picture lost.png"),
        (["--seed", "-7"], "the seed is -7"),
        (["--hires", "0.5"], "the second pass enlarges by 0.5"),
        (["--negative-prompt", "(x:inf)"], "the weight inf in '(x:inf)' is out of range"),
        (["--frames", "0"], "0"),
        (["--seed-mode", "nai"], "unknown seed mode 'nai'"),
        (["--prompt-syntax", "sd"], "unknown prompt syntax 'sd'; known are: "),
        (["-W", "100"], "width is 100; picturebook makes sides of "),
        (["-m", "other.safetensors", "-H", "1000"], "height is 1000; other.safetensors makes sides of 16 to 8192"),
        (["--control", "owner", "--hint", "told.png"], "the control network 'owner' is no file"),
        (["--device", "gpu"], "unknown device 'gpu'; known are: cpu, cuda"),
        (["--prediction", "velo"], "unknown prediction 'velo'; known are: v, "),
    ],
)
def test_mistakes_are_said_without_pytorch(arguments: list[str], message: str, quick: Quick, tmp_path: Path) -> None:
    (tmp_path / "other.safetensors").touch()
    write_picture(tmp_path / "told.png", np.zeros((32, 32, 3), np.uint8), "")
    _, errors = quick(tmp_path, "generate", "a cat", *arguments)
    assert message in errors
    assert errors.splitlines()[-1] == "False"
    assert errors.count("\n") == 2
    assert not (tmp_path / "out").exists()
