"""Cases for the readers of what users and other tools keep: settings, paths, prompts, statistics, studies, systems."""

from __future__ import annotations

import io
import json
import os
import random
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from narrow_checkpoints import narrow

from darkroom.checkpoints.model_folders import read_extra_model_paths
from darkroom.cli.prompts import Prompts
from darkroom.config import to_dict
from darkroom.evaluation.statistics import read_statistics
from darkroom.evaluation.study.design import Design, Item, load_design
from darkroom.evaluation.study.report import report
from darkroom.evaluation.study.votes import Trial, Votes
from darkroom.preferences import read_preferences
from darkroom.requests.change import changed
from darkroom.systems.system_file import find_system
from darkroom.types import Request
from tests.fuzz.mutation import HOSTILE, NASTY, json_bytes, mutate_bytes, mutate_json, mutate_text
from tests.fuzz.run import Case

__all__ = ["model_paths", "preferences", "prompt_files", "statistics", "studies", "system_files"]

PREFERENCES = """
model = "models/a.safetensors"
output = "pictures"
models_dirs = ["/models", "~/more"]
lora_dirs = ["loras"]
extra_model_paths = "extra.yaml"
"""
WORDS = ('"', "[[", "]", "= 1e999", "9" * 400, "= -1", "= nan", "= []", "{", "\x1b", "= true", '"~nobody/x"', "\\u0000")


def preferences(folder: Path) -> Case:
    path = folder / "config.toml"

    def case(rng: random.Random) -> None:
        path.write_text(mutate_text(PREFERENCES, rng, WORDS), "utf-8", "replace")
        said = os.environ.get("DARKROOM_CONFIG")
        os.environ["DARKROOM_CONFIG"] = str(path)
        try:
            read_preferences()
        finally:
            os.environ.pop("DARKROOM_CONFIG")
            if said is not None:
                os.environ["DARKROOM_CONFIG"] = said

    return case


YAML = """
comfyui:
    base_path: path/to/comfyui/
    is_default: true
    checkpoints: models/checkpoints/
    loras: |
        models/loras
        models/more
a111:
    base_path: ~/webui
    vae: models/VAE
"""
YAML_WORDS = (
    "&a ",
    "*a",
    "<<: *a\n",
    "!!python/object/apply:os.system ['x']",
    "[" * 2000,
    "? ",
    "- ",
    "|\n",
    "~nobody/x",
)
YAML_WORDS += ("!!binary x", "2001-01-01", "0x" + "f" * 5000, "{a: b}", "\t", "%TAG ! x\n", "---\n", "1:1:1:" * 900)


def model_paths(folder: Path) -> Case:
    path = folder / "extra.yaml"

    def case(rng: random.Random) -> None:
        text = mutate_text(YAML, rng, YAML_WORDS).encode("utf-8", "replace")
        path.write_bytes(mutate_bytes(text, rng) if rng.random() < 0.3 else text)
        read_extra_model_paths(path)

    return case


LINES: list[dict[str, Any]] = [
    {"prompt": "a cat", "seed": 4, "steps": 3, "guidance_scale": 5, "height": 64, "sampler": "euler"},
    {"prompt": "a dog", "negative_prompt": "fog", "hires": {"scale": 2.0}, "width": 64, "clip_skip": 2},
    {"caption": "a house", "facts": {}},
]


def prompt_files(folder: Path) -> Case:
    path = folder / "prompts.txt"

    def case(rng: random.Random) -> None:
        lines = [json.dumps(mutate_json(line, rng)) for line in LINES] + ["a plain (prompt:1.2)"]
        text = "\n".join(lines).encode()
        path.write_bytes(
            mutate_bytes(text, rng, [b"\xff", b"\xe2\x80\xa8", b"{" * 2000]) if rng.random() < 0.4 else text
        )
        for settings in Prompts(file=str(path)).read():
            changed(Request(), settings)

    return case


def statistics(folder: Path) -> Case:
    packed = io.BytesIO()
    np.savez(packed, mu=np.zeros(3), sigma=np.eye(3), count=5, network="x")
    good = packed.getvalue()
    with zipfile.ZipFile(packed) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    odd = ["x", b"x", None, 10**30, [1, "a"], np.zeros((0, 3)), np.zeros(3, "complex64"), np.zeros(3, "datetime64[s]")]
    odd += [np.full(3, np.nan), np.zeros((3, 3), "i8"), np.zeros((), "f4"), [[1, 2], [3, 4]], -1, 1.5, {"a": 1}]

    def case(rng: random.Random) -> None:
        path = folder / "x.npz"
        kind = rng.randrange(3)
        if kind == 0:
            path.write_bytes(mutate_bytes(good, rng))
        elif kind == 1:
            with zipfile.ZipFile(path, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
                for name, content in records.items():
                    changed = rng.random() < 0.4
                    archive.writestr(
                        name, mutate_bytes(content, rng, [b"(9999999999,)", b"|O"]) if changed else content
                    )
        else:
            arrays: dict[str, Any] = {"mu": np.zeros(3), "sigma": np.eye(3), "count": 5, "network": "x"}
            arrays[rng.choice(list(arrays))] = rng.choice(odd)
            np.savez(
                path, **{name: np.asarray(value, object if value is None else None) for name, value in arrays.items()}
            )
        read_statistics(path)

    return case


def studies(folder: Path) -> Case:
    """`study.json` and the file of votes."""
    good = to_dict(Design(("a", "b"), (Item("x", "a cat", {"seed": 1}), Item("y")), ("quality", "prompt")))
    base = folder / "good.db"
    with Votes(base) as votes:
        for item in (0, 1):
            vote = votes.show("me", Trial("vote", "quality", item, 0, 1))
            votes.answer(vote.id, "me", "left")
    sound = base.read_bytes()
    (folder / "study").mkdir()

    def case(rng: random.Random) -> None:
        place = folder / "study"
        (place / "study.json").write_bytes(json_bytes(good, rng) if rng.random() < 0.5 else json.dumps(good).encode())
        path = place / "votes.db"
        for left in place.glob("votes.db*"):
            left.unlink()
        kind = rng.randrange(3)
        path.write_bytes(mutate_bytes(sound, rng) if kind == 1 else sound)
        if kind == 2:
            base = sqlite3.connect(path, isolation_level=None)
            column = rng.choice(("kind", "question", "item", "left", "right", "answer", "seconds", "rater"))
            value = rng.choice(("x", "left", 7, -1, -9, 1e300, b"\xff", "\x1b[2J", 2**60))
            base.execute(f"UPDATE OR IGNORE trials SET {column} = ?", (value,))
            base.close()
        design = load_design(place)
        with Votes(path) as votes:
            report(design, votes.all())

    return case


def system_files(folder: Path) -> Case:
    good = to_dict(narrow("sd-v1-5"))
    text = Path("recipes/ldm/ldm-16.system.toml").read_text()

    def case(rng: random.Random) -> None:
        path = folder / rng.choice(("x.system.toml", "x.json"))
        if path.suffix == ".json":
            path.write_bytes(json_bytes(good, rng))
        else:
            path.write_text(
                mutate_text(text, rng, (*WORDS, *(f"= {v}" for v in HOSTILE[:8]), *NASTY)), "utf-8", "replace"
            )
        find_system(str(path))

    return case
