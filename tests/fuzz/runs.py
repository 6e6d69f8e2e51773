"""Cases for what runs leave and read again: recipes on bases, checkpoints, ledgers and logs, journals, the server's
store."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from test_loop import CONFIG, Toy

from darkroom.engine.ask import Ask
from darkroom.engine.journal import Journal
from darkroom.serve.jobs import Job, PictureRecord
from darkroom.serve.store import open_store
from darkroom.training.checkpoints import Checkpoints
from darkroom.training.ledger import Ledger
from darkroom.training.log import Log
from darkroom.training.loop import train
from darkroom.training.recipe import load_recipe
from darkroom.training.run_folder import open_run
from darkroom.training.state import TrainingState
from tests.fuzz.mutation import HOSTILE, json_bytes, mutate_bytes, mutate_json, mutate_text
from tests.fuzz.run import Case

__all__ = ["based_recipes", "journals", "run_folders", "stores"]

BASE = 'kind = "diffusion"\nmodel = "sd-v1-5:fresh"\n[data]\nkind = "picturebook"\nsize = 64\ncount = 9\n'
BASE += "[loop]\nsteps = 5\nbatch_size = 2\nlr = 1e-4\n"
OVERRIDES = ("loop.steps=3", "loop.lr=1e-3", "data.size=32", "loss.loss_type=huber", "samples.steps=2", "model=x:fresh")
WORDS = ('"', "[[", "]", "= 1e999", "9" * 400, "= -1", "[loop]\n", "= []", "\x1b", "= true", 'base = "x.toml"\n')


def based_recipes(folder: Path) -> Case:
    """A recipe on a base, both changed, with overrides."""

    def case(rng: random.Random) -> None:
        (folder / "base.toml").write_text(
            mutate_text(BASE, rng, WORDS) if rng.random() < 0.5 else BASE, "utf-8", "replace"
        )
        text = 'base = "base.toml"\n[loop]\nlr = 2e-4\naccumulation = 2\n'
        path = folder / "x.toml"
        path.write_text(mutate_text(text, rng, WORDS) if rng.random() < 0.7 else text, "utf-8", "replace")
        overrides = [mutate_text(rng.choice(OVERRIDES), rng, ("=", ".", "loop", "1e999", "[", '"'))] * rng.randrange(2)
        with contextlib.redirect_stderr(io.StringIO()):
            load_recipe(path, overrides)

    return case


def run_folders(folder: Path) -> Case:
    """A file of a finished run changed: the state with digests that fit it, digests, the recipe, the ledger, the log.

    What cannot be gone on from is refused; a line of the log or the ledger that is damaged ends what is kept of it.
    """
    config = replace(CONFIG, steps=4, save_every=2)
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        train(Toy(), config, folder / "good")
    good = folder / "good"
    files = sorted(
        p.relative_to(good) for p in good.rglob("*") if p.is_file() and p.suffix in (".pt", ".json", ".jsonl")
    )
    state = torch.load(good / "checkpoints/00000004/state.pt", weights_only=True)
    words = [b"\xe2\x80\xa8", b"\xff", b"[" * 3000, b"9" * 5000, b"\n\n", b"null"]

    def hostile(rng: random.Random) -> bytes:
        """A state that torch reads and that is none of these networks'."""
        table, key = dict(state), rng.choice(list(state))
        if isinstance(table[key], dict) and table[key] and rng.random() < 0.7:
            inner = dict(table[key])
            inner[rng.choice(list(inner))] = rng.choice((*HOSTILE[:14], torch.ones(3), torch.ones(2, 2) * torch.nan))
            table[key] = inner
        else:
            table[key] = rng.choice((*HOSTILE[:14], torch.ones(3)))
        packed = io.BytesIO()
        torch.save(table, packed)
        return packed.getvalue()

    def case(rng: random.Random) -> None:
        run = folder / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(good, run)
        path = run / rng.choice(files)
        content = path.read_bytes()
        if path.suffix == ".pt" and rng.random() < 0.7:
            path.write_bytes(hostile(rng) if rng.random() < 0.7 else mutate_bytes(content, rng))
            if (digests := path.parent / "digests.json").exists():
                digests.write_text(json.dumps({path.name: hashlib.sha256(path.read_bytes()).hexdigest()}))
        elif path.suffix == ".json" and rng.random() < 0.7:
            path.write_bytes(json_bytes(json.loads(content), rng))
        else:
            path.write_bytes(mutate_bytes(content, rng, words))
        toy = Toy()
        training = TrainingState(toy, config)
        nowhere = io.StringIO()
        with contextlib.redirect_stderr(nowhere), contextlib.redirect_stdout(nowhere), open_run(run, None, config):
            found = Checkpoints(run, lambda sentence: None).newest()
            if found is not None:
                training.load(*found)
            with Log(run, training.step, config, training.tally):
                Ledger(run, training.step * config.step_size, toy.reader, writes=True)
            training.require_finite()

    return case


def journals(folder: Path) -> Case:
    """Damaged answers are dropped, never taken: what comes back is a beginning of what was kept."""
    x, sigma = torch.ones(1, 2, 3, 3), torch.ones(1)
    ask = Ask.__new__(Ask)
    for name, value in (("x", x), ("sigma", sigma)):
        object.__setattr__(ask, name, value)
    path = folder / "x.journal"
    journal = Journal(path, "key", interval=0.0)
    journal.begin()
    kept = [torch.full((1, 2, 3, 3), float(i)) for i in range(3)]
    for answer in kept:
        journal.keep(ask, answer)
    good = path.read_bytes()
    words = [b'"shape":[1e9]', b'"shape":[-1,-18]', b"[" * 900, b"\n", b'{"kind":"float32"', b"9" * 900]

    def case(rng: random.Random) -> None:
        path.write_bytes(mutate_bytes(good, rng, words))
        again = Journal(path, "key")
        again.begin()
        for answer in kept:
            found = again.answer(ask)
            if found is None:
                break
            assert torch.equal(found, answer), "a damaged answer is taken"

    return case


def stores(folder: Path) -> Case:
    """The server's database damaged as bytes, or with values that the server would not write."""
    base = folder / "good.db"
    store = open_store(base)
    job = store.add(Job("tiny", {"prompt": "a cat"}, key="k"))
    store.add(Job("tiny", {"prompt": "a dog"}, {"image": "1"}, state="running"))
    store.add_picture(PictureRecord(job.id, 0, "tiny", "h", {"seed": 1}, {}, 8, 8, 100))
    store.close()
    sound = base.read_bytes()

    def case(rng: random.Random) -> None:
        for left in folder.glob("x.db*"):
            left.unlink()
        path = folder / "x.db"
        path.write_bytes(sound if (made := rng.random() < 0.5) else mutate_bytes(sound, rng))
        if made:
            changed = sqlite3.connect(path, isolation_level=None)
            table = rng.choice(("jobs", "pictures"))
            column = rng.choice(("request", "images"))
            value: Any = rng.choice(
                ("x", "[]", "{", 7, -1, 1e300, b"\xff", "\x1b[2J", json.dumps(mutate_json({"a": {}}, rng)))
            )
            with contextlib.suppress(sqlite3.Error):
                changed.execute(f"UPDATE OR IGNORE {table} SET {column} = ?", (value,))
            changed.close()
        opened = open_store(path)
        try:
            for found in (*opened.jobs(), *opened.unfinished()):
                json.dumps(found.shown())
                opened.pictures_of(found.id)
            for picture in opened.pictures():
                json.dumps(picture.shown())
            opened.used_uploads()
            opened.counts()
            opened.keyed("", "k")
        finally:
            opened.close()

    return case
