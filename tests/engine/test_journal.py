"""Runs that go on inside a picture, also after the process was killed there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from darkroom.engine.desks import exact
from darkroom.engine.engine import Engine, Ticket
from darkroom.engine.journal import Journal, journaled
from darkroom.engine.pipeline import Pipeline
from darkroom.engine.run import Picture
from darkroom.systems.build import LatentDiffusion
from darkroom.types import HighResolution, Request, Step

CAT = Request("a [cat:dog:0.5]", seed=3, steps=5)


def begun(pipeline: Pipeline, engine: Engine, request: Request, path: Path, key: str = "k") -> Ticket:
    draw = partial(pipeline.draw, pipeline.checked(request))
    return engine.submit(exact(journaled(draw, Journal(path, key, interval=0.0))))


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": "DPM++ 2M SDE"},
        {"sampler": "Heun", "guidance_scale": 1.0},
        {"sampler": "UniPC", "hires": HighResolution(1.5, 0.6)},
        {"sampler": "DPM adaptive"},
    ],
    ids=lambda changes: changes["sampler"],
)
def test_a_run_goes_on_with_the_same_bits(tiny_model: LatentDiffusion, tmp_path: Path, changes: dict) -> None:

    request, pipeline = replace(CAT, **changes), Pipeline(tiny_model)
    whole = pipeline.generate([request])[0]
    with Engine() as engine:
        begun(pipeline, engine, request, tmp_path / "j")
        for _ in range(3):
            engine.tick()
    with Engine() as engine:
        again = begun(pipeline, engine, request, tmp_path / "j").result()
        calls = len(engine.batcher.calls)
    with Engine() as engine:
        pipeline.submit(engine, request).result()
        assert calls == len(engine.batcher.calls) - 3  # those that were answered are not asked again
    assert torch.equal(again.latent, whole.latent)
    assert np.array_equal(again.pixels, whole.pixels)


def test_half_an_entry_and_foreign_journals_are_dropped(tiny_model: LatentDiffusion, tmp_path: Path) -> None:
    pipeline, path = Pipeline(tiny_model), tmp_path / "j"
    whole = pipeline.generate([CAT])[0]

    def calls(key: str = "k") -> int:
        with Engine() as engine:
            picture: Picture = begun(pipeline, engine, CAT, path, key).result()
            assert torch.equal(picture.latent, whole.latent)
            return len(engine.batcher.calls)

    assert calls() == 5
    assert calls() == 0
    full = path.read_bytes()
    path.write_bytes(full[:-10])
    assert calls() == 1
    damaged = bytearray(full)
    damaged[len(full) // 2] ^= 1
    path.write_bytes(bytes(damaged))
    assert 1 <= calls() <= 4
    path.write_bytes(full.replace(b'"shape":[', b'"shape":[1,', 1))  # the answer's bytes are sound, what is said is not
    assert calls() >= 4
    assert calls("another model") == 5
    path.write_bytes(b"\x00not a journal")
    assert calls() == 5


def test_runs_that_keep_features_begin_anew(tiny_model: LatentDiffusion, tmp_path: Path) -> None:

    pipeline, request = Pipeline(tiny_model), replace(CAT, deepcache_interval=2)
    whole = pipeline.generate([request])[0]
    for _ in range(2):
        with Engine() as engine:
            again = begun(pipeline, engine, request, tmp_path / "j").result()
            assert len(engine.batcher.calls) == 5
        assert torch.equal(again.latent, whole.latent)


def child(folder: Path, journal: Path) -> None:
    """The process that is killed: it says each step that it has finished, and waits for its end in the third."""
    from darkroom.checkpoints.model import load_model

    pipeline = Pipeline(load_model(str(folder)).model)
    draw = partial(pipeline.draw, pipeline.checked(CAT))

    def listen(step: Step, pass_number: int) -> None:
        print(step.index, flush=True)
        if step.index == 2:
            time.sleep(600)

    with Engine() as engine:
        engine.submit(exact(journaled(draw, Journal(journal, "k", interval=0.0))), listen).result()


def test_a_killed_process_loses_no_step(tiny_folder: Path, tmp_path: Path) -> None:
    from darkroom.checkpoints.model import load_model

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    command = [sys.executable, __file__, str(tiny_folder), str(tmp_path / "j")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != "2":
            assert process.poll() is None, "it ended before it was killed"
        process.send_signal(signal.SIGKILL)
    pipeline = Pipeline(load_model(str(tiny_folder)).model)
    whole = pipeline.generate([CAT])[0]
    with Engine() as engine:
        again = begun(pipeline, engine, CAT, tmp_path / "j").result()
        assert len(engine.batcher.calls) <= 2  # of five
    assert torch.equal(again.latent, whole.latent)


if __name__ == "__main__":
    child(Path(sys.argv[1]), Path(sys.argv[2]))
