"""The table of settings names every field of a request once, under names that people know."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom.errors import InputError
from darkroom.requests.settings import OPEN, SETTINGS, TABLES, Setting, find_setting, inner_class
from darkroom.types import Region, Request


def test_every_field_of_a_request_has_a_row() -> None:
    paths = [s.path for s in SETTINGS]
    assert len(paths) == len(set(paths))
    inner = {f"{t}.{f.name}" for t in TABLES if t not in OPEN for f in fields(inner_class(t))}
    plain = {f.name for f in fields(Request) if f.name not in TABLES}
    opened = {path for path in paths if path.partition(".")[0] in OPEN}
    assert set(paths) - opened == inner | plain
    for setting in SETTINGS:
        assert setting.help.endswith((".", "…")), setting.path
        assert setting.needs is None or setting.needs in paths
        assert setting.hint is not None


def test_flags_and_aliases_belong_to_one_setting_each() -> None:
    flags = [flag for s in SETTINGS for flag in (*s.flags, *s.aliases)]
    assert len(flags) == len(set(flags))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("steps", "steps"),
        ("--num_inference_steps", "steps"),
        ("CFG scale", "guidance_scale"),
        ("cfg", "guidance_scale"),
        ("sampler_name", "sampler"),
        ("Schedule type", "schedule"),
        ("noise_seed", "seed"),
        ("Denoising strength", "strength"),
        ("guidance.rescale", "guidance.rescale"),
        ("--rescale", "guidance.rescale"),
        ("--perturbed", None),
        ("Eta", "sampler_options.eta"),
        ("sampler_options.s_churn", "sampler_options.s_churn"),
        ("inputs.original_size", "inputs.original_size"),
        ("hires", "hires.scale"),  # as the flag
        ("guidance", "guidance"),
        ("", None),
        ("hires.", None),
        ("nosuch.eta", None),
    ],
)
def test_names(name: str, path: str | None) -> None:
    if path is None:
        with pytest.raises(InputError, match=r"unknown setting .*; known are: "):
            find_setting(name)
    else:
        assert find_setting(name).path == path


def test_texts_become_values(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 6, 3), 255, np.uint8)).save(tmp_path / "white.png")
    (tmp_path / "boxes.json").write_text('[{"label": "cat"}]')
    for path, text, value in (
        ("steps", "12", 12),
        ("guidance_scale", "-1.5", -1.5),
        ("sigmas", "14.6, 6.5 0", (14.6, 6.5, 0.0)),
        ("guidance.interval", "0.1,0.8", (0.1, 0.8)),
        ("guidance.interval", "none", None),
        ("guidance.apg", "True", True),
        ("sampler_options.eta", "1", 1),
        ("sampler_options", "solver=heun", ("solver", "heun")),
        ("regions", "0,0,.5,1,.8:a dog: big", Region("a dog: big", (0.0, 0.0, 0.5, 1.0), 0.8)),
        ("inputs.class", "7", 7),
        ("inputs.boxes", str(tmp_path / "boxes.json"), [{"label": "cat"}]),
        ("prompt", " a cat ", " a cat "),
    ):
        assert find_setting(path).read(text) == value
    assert find_setting("image").read(str(tmp_path / "white.png")).shape == (4, 6, 3)
    assert find_setting("mask").read(str(tmp_path / "white.png")).tolist() == [[1] * 6] * 4


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("steps", "1.5", "--x: '1.5' is wrong, expected a whole number (or none)"),
        ("steps", "٣", "--x: '٣' is wrong"),
        ("guidance_scale", "inf", "--x: 'inf' is wrong, expected a number (or none)"),
        ("denoising_end", "none", "--x: 'none' is wrong, expected a number"),
        ("guidance.interval", "1,2,3", "--x: '1,2,3' is wrong, expected 2 numbers with commas or blanks between them"),
        ("sampler", "", "--x: '' is wrong, expected a text (or none)"),
        ("hires.enlarge", "pixel", "--x: 'pixel' is wrong, expected latent or picture"),
        ("regions", "0,0,1:x", "the region '0,0,1:x' is wrong, expected LEFT,TOP,RIGHT,BOTTOM[,WEIGHT]:PROMPT"),
        ("sampler_options", "eta", "the sampler option 'eta' is wrong, expected KEY=VALUE"),
        ("image", "absent.png", "there is no picture absent.png"),
        ("inputs.boxes", "absent.json", "there is no file 'absent.json'"),
        ("inputs.class", "cat", "--x: 'cat' is wrong, expected a whole number"),
    ],
)
def test_wrong_texts(path: str, text: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        find_setting(path).read(text, "--x")
    assert message in str(raised.value)


def test_the_table_is_read_without_heavy_imports() -> None:
    program = "import sys, darkroom.requests.settings, darkroom.requests.change\n"
    program += "assert not {'torch', 'numpy', 'PIL'} & set(sys.modules), sorted(sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_defaults_are_those_of_an_empty_request() -> None:
    assert {
        s.path: s.default for s in SETTINGS if s.path in ("prompt_syntax", "hires.strength", "guidance.interval")
    } == {
        "prompt_syntax": "a1111",
        "hires.strength": 0.6,
        "guidance.interval": None,
    }
    assert Setting("inputs.class", (), "").default is None
