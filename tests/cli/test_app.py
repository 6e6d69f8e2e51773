"""The list of commands, and what typer itself refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def python(program: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True, timeout=600)


def test_the_list_of_commands_loads_nothing_that_draws_panels(tmp_path: Path) -> None:
    program = "import sys\nfrom darkroom.cli import main\nsys.argv = ['darkroom', '--help']\n"
    program += "try: main()\nexcept SystemExit as end: assert not end.code\n"
    program += (
        "assert not {'torch', 'transformers', 'skia', 'numpy', 'typer.rich_utils', 'rich.markdown'} & set(sys.modules)"
    )
    done = python(program, tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in ("generate", "train", "evaluate", "data", "systems"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["genrate"], "No such command 'genrate'. Did you mean 'generate'?"),
        (["train", "a.toml", "--minutes", "soon"], "Invalid value for '--minutes'"),
        (["data", "prompts", "--count", "3"], "Missing option '-s' / '--seed'"),
    ],
)
def test_what_cannot_be_parsed_ends_with_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = python(f"import sys\nsys.argv = {['darkroom', *arguments]}\nfrom darkroom.cli import main\nmain()", tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_process_ends_at_once_but_with_all_that_it_said(tmp_path: Path) -> None:
    late = "import atexit, sys\natexit.register(lambda: print('too late'))\n"
    done = python(f"{late}sys.argv = ['darkroom', 'systems']\nfrom darkroom.cli import run\nrun()", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "SDXL" in done.stdout  # through a pipe, which is written when it is flushed
    assert "too late" not in done.stdout
    refused = subprocess.run(
        [sys.executable, "-m", "darkroom", "inspect", "nothing"], cwd=tmp_path, capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert refused.stderr.startswith("darkroom: ")


@pytest.mark.parametrize("ignored", [False, True])
def test_an_interrupted_import_leaves_without_a_word(ignored: bool, tmp_path: Path) -> None:
    swallows = "import os, signal\ntry: os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException: pass\n"
    (tmp_path / "swallows.py").write_text(swallows)
    program = "import darkroom.cli as cli, signal\ncli.main = lambda: (__import__('swallows'), print('went on'))\n"
    # Set either way: what runs the tests in the background of a shell ignores it, and children inherit that.
    program += f"signal.signal(signal.SIGINT, signal.{'SIG_IGN' if ignored else 'default_int_handler'})\n"
    done = python(f"{program}cli.run()", tmp_path)
    expected = (0, "went on\n", "") if ignored else (130, "", "")  # as of a job in the background
    assert (done.returncode, done.stdout, done.stderr) == expected
