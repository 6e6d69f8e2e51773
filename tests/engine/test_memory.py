"""Sizes that do not fit are refused before anything is allocated; what fits one by one is drawn one by one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from narrow import narrow

from darkroom.engine import memory
from darkroom.engine.pipeline import Pipeline
from darkroom.errors import InputError
from darkroom.systems.build import LatentDiffusion, build
from darkroom.types import Request

CAT = Request("a red cat", seed=3, steps=2)


@pytest.fixture
def pipeline(tiny_model: LatentDiffusion) -> Pipeline:
    return Pipeline(tiny_model)


def test_what_does_not_fit_is_refused_before_any_work(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = memory.needed_memory(pipeline.model, 512, 512, 2)
    monkeypatch.setattr(memory, "available_memory", lambda device: needed // 4)
    with pytest.raises(InputError, match=r"512x512 needs about .* GiB of memory, .*; (\d+)x\1 would fit") as e:
        next(iter(pipeline.run([CAT, replace(CAT, width=512, height=512)])))
    side = int(str(e.value).rsplit("; ", 1)[1].split("x")[0])
    assert memory.needed_memory(pipeline.model, side, side, 2) <= needed // 4
    drawn = pipeline.generate([replace(CAT, width=side // 2 // 16 * 16, height=64)])[0]
    assert drawn.pixels.shape[0] == 64
    monkeypatch.setattr(memory, "available_memory", lambda device: 0)
    with pytest.raises(InputError, match="no size would fit"):
        next(iter(pipeline.run([CAT])))


def test_calls_have_as_many_rows_as_fit(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    hook = pipeline.model.unet.conv_in.register_forward_hook(lambda m, inputs, output: rows.append(len(output)))
    requests = [replace(CAT, width=64, height=64, seed=s) for s in range(5)]
    alone = pipeline.generate(requests[4:])[0].pixels
    rows.clear()
    needed = memory.needed_memory(pipeline.model, 64, 64, 4)
    monkeypatch.setattr(memory, "available_memory", lambda device: needed)
    pictures = pipeline.generate(requests)
    hook.remove()
    assert max(rows) == 4  # two pictures, each with and without its prompt
    assert sum(rows) == 5 * 2 * CAT.steps  # type: ignore[operator]
    assert np.abs(pictures[4].pixels.astype(int) - alone).max() <= 1


def test_a_target_takes_more(tiny_model: LatentDiffusion) -> None:
    plain = memory.needed_memory(tiny_model, 64, 64, 2)
    assert memory.needed_memory(tiny_model, 64, 64, 2, gradient=True) > 5 * plain


def test_memory_that_runs_out_is_told_with_what_to_try(pipeline: Pipeline) -> None:
    def exhaust(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    hook = pipeline.model.unet.register_forward_hook(exhaust)
    try:
        with pytest.raises(InputError, match=r"drawing 32x32 takes more memory .*; try --memory low, a smaller"):
            pipeline.generate([CAT])
    finally:
        hook.remove()
    assert pipeline.generate([CAT])[0].pixels.shape == (32, 32, 3)


def test_a_first_stage_that_is_widened_takes_as_much_as_a_wide_one() -> None:
    for name, same in (("sdxl-base", True), ("sd-v1-5", False)):
        half, wide = (build(narrow(name), "meta", t) for t in (torch.float16, torch.float32))
        needed = [memory.needed_memory(m, 1024, 1024, 2) for m in (half, wide)]
        assert (needed[0] == needed[1]) == same
