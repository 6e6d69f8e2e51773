"""Files called by name: from the folders on the line, from config.toml, and as the shell completes them."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import darkroom_process
import pytest
import torch
from safetensors.torch import save_file

from darkroom.requests.records import read_picture


@pytest.fixture
def home(tmp_path: Path, tiny_folder: Path) -> Path:
    """A home with the tree of a web UI, in which a model, a LoRA and an embedding lie."""
    tree = tmp_path / "webui"
    for name in ("models/Stable-diffusion/own", "models/Lora/styles", "embeddings"):
        (tree / name).mkdir(parents=True)
    (tree / "models/Stable-diffusion/own/dreams_v2.safetensors").touch()
    (tree / "models/Lora/styles/ink.safetensors").touch()
    save_file({"emb_params": torch.zeros(1, 768)}, tree / "embeddings/mystyle.safetensors")
    return tmp_path


def darkroom(home: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {"HOME": str(home), "XDG_CONFIG_HOME": str(home / "xdg")}
    return darkroom_process.darkroom(*arguments, cwd=home, **own, **environment)


def completions(home: Path, line: str) -> set[str]:
    """What bash is offered behind `line`."""
    place = len(line.split()) - (not line.endswith(" "))
    done = darkroom(home, _DARKROOM_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(place))
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def keep(home: Path, text: str) -> None:
    (home / "xdg/darkroom").mkdir(parents=True)
    (home / "xdg/darkroom/config.toml").write_text(text)


def test_config_shows_what_holds_and_where_names_are_looked_up(home: Path) -> None:
    done = darkroom(home, "config")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"# {home}/xdg/darkroom/config.toml (not there; these are the defaults)\n")
    assert tomllib.loads(done.stdout)["model"] == "picturebook"
    keep(home, 'models_dirs = ["~/webui"]\nmodel = "dreams_v2"\n')
    done = darkroom(home, "config")
    assert tomllib.loads(done.stdout)["models_dirs"] == [str(home / "webui")]
    assert f"# checkpoints  {home}/webui/models/Stable-diffusion (1 file)\n" in done.stdout
    assert "torch" not in done.stderr
    keep_wrong = home / "xdg/darkroom/config.toml"
    keep_wrong.write_text("speed = 3\n")
    done = darkroom(home, "config")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "speed" in done.stderr


def test_models_and_output_come_from_the_file_unless_the_line_says_others(home: Path, tiny_folder: Path) -> None:
    keep(home, f'model = "{tiny_folder}"\noutput = "pictures"\n')
    done = darkroom(home, "generate", "a cat", "--steps", 1, "-W", 32, "-H", 32)
    assert done.returncode == 0, done.stderr
    (picture,) = (home / "xdg/darkroom/pictures").iterdir()
    assert read_picture(picture).dialect == "Darkroom"
    done = darkroom(home, "generate", "a cat", "-m", "nosuch", "--models-dir", "webui")
    assert done.returncode == 2
    assert "there is no model 'nosuch'" in done.stderr
    done = darkroom(home, "generate", "a cat", "-m", "dreams_v2", "--models-dir", "webui")
    assert done.returncode == 2
    assert "own/dreams_v2.safetensors" in done.stderr  # found, and empty


def test_folders_that_are_not_there_are_named(home: Path) -> None:
    for flag in ("--models-dir", "--lora-dir", "--embeddings-dir"):
        done = darkroom(home, "generate", "a cat", flag, "nowhere")
        assert (done.returncode, done.stderr) == (2, "darkroom: there is no folder nowhere\n")


def test_the_shell_offers_names(home: Path) -> None:
    keep(home, 'models_dirs = ["~/webui"]\n')
    assert completions(home, "darkroom generate -m dr") == {"dreams_v2"}
    assert {"picturebook", "dreams_v2", "sdxl-base"} <= completions(home, "darkroom generate --model ")
    assert completions(home, "darkroom generate --lora i") == {"ink"}
    assert {"DPM++", "2M", "SDE"} <= completions(home, "darkroom generate --sampler DPM++")
    assert "karras" in completions(home, "darkroom generate --schedule ka")
