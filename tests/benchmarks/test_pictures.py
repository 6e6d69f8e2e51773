from pathlib import Path

import numpy as np
import pytest
import torch
from narrow_checkpoints import narrow

from benchmarks.checkpoint import write_checkpoint
from benchmarks.measure import error
from benchmarks.pictures import by_diffusers, by_us, load_diffusers, picture
from benchmarks.work import Settings
from darkroom.checkpoints.load import load_checkpoint
from darkroom.engine.pipeline import Pipeline
from darkroom.systems import SYSTEMS
from darkroom.types import Request

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["sd-v1-5", "sdxl-base"])
def test_both_sides_draw_the_same_picture(tmp_path: Path, name: str) -> None:
    """Tolerance of the latent: rounding of sums in another order; of the picture: one level."""
    system = narrow(name)
    checkpoint = write_checkpoint(system, tmp_path)
    request = Request(
        "red cats",
        width=64,
        height=64,
        steps=3,
        guidance_scale=5.0,
        sampler="DDIM",
        schedule="leading",
        seed_mode="diffusers",
    )
    peer = by_diffusers(load_diffusers(checkpoint, system, CPU), request)
    ours = by_us(Pipeline(load_checkpoint(checkpoint.file, torch.float32, system=system).model), request)
    assert error(ours.latent, peer.latent) < 1e-4
    assert ours.pixels.std() > 10
    assert np.abs(ours.pixels.astype(int) - peer.pixels).max() <= 1


def test_a_whole_contest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = narrow("sd-v1-5")
    monkeypatch.setitem(SYSTEMS._entries, system.name, system)  # so that the file is recognised
    contest = picture(system, 64, 2).prepare(Settings(torch.float32, CPU, tmp_path))
    assert contest.exact is not None
    assert contest.flop
    for name in ("darkroom", "diffusers"):
        answer = contest.runs[name]().answer
        assert answer is not None
        assert error(answer, contest.exact) < 1e-4
