"""Models by name, in the precision that suits the machine."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from darkroom.errors import InputError
from darkroom.nn.precision import fast_half
from darkroom.systems.native import save_system
from darkroom.tasks import model as tasks_model
from darkroom.tasks import pipeline as tasks_pipeline
from darkroom.tasks.model import load_model
from darkroom.tasks.pipeline import Pipeline
from darkroom.types import Request


def test_the_precision_is_what_is_fast_here() -> None:
    assert load_model("picturebook").model.dtype == (fast_half("cpu") or torch.float32)
    assert load_model("picturebook", dtype=torch.float32).model.dtype == torch.float32


def test_without_a_fast_half_weights_as_stored_give_the_pictures_of_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks_model, "fast_half", lambda device: None)
    monkeypatch.setattr(tasks_model, "LARGE", 2**14)  # so that the small text transformer keeps some
    model = load_model("picturebook").model
    assert {p.dtype for p in model.unet.parameters()} == {torch.float32}
    assert torch.bfloat16 in {p.dtype for p in model.conditioner.parameters()}
    exact = load_model("picturebook", dtype=torch.float32).model
    request = Request("a red house", steps=2)
    ours, wanted = (Pipeline(m).generate([request])[0].pixels for m in (model, exact))
    assert np.abs(ours.astype(int) - wanted).max() <= 1  # convolutions may filter minimally


def test_unknown_predictions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown prediction 'sharpness'; known are: .*velocity"):
        load_model("picturebook", prediction="sharpness")
    save_system(load_model("picturebook").model, tmp_path / "own", {})
    assert load_model(str(tmp_path / "own")).name == "own"


def test_parts_of_huge_models_leave_memory_while_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model("picturebook").model
    request = Request("a red house", steps=2)
    (before,) = Pipeline(model).generate([request])
    left: list[object] = []
    monkeypatch.setattr(tasks_pipeline, "page_out", left.append)
    model.spares_memory = True
    (after,) = Pipeline(model).generate([request])
    assert left == [model.conditioner, model.unet]
    assert (after.pixels == before.pixels).all()


def test_low_memory_keeps_weights_narrow_and_gives_the_same_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks_model, "fast_half", lambda device: None)
    monkeypatch.setattr(tasks_model, "LARGE", 2**14)
    plain, low = load_model("picturebook").model, load_model("picturebook", memory="low").model
    assert {p.dtype for p in plain.unet.parameters()} == {torch.float32}
    assert torch.bfloat16 in {p.dtype for p in low.unet.parameters()}
    assert (plain.spares_memory, low.spares_memory) == (False, True)
    request = Request("a red house", steps=2)
    wanted, found = (Pipeline(m).generate([request])[0].pixels for m in (plain, low))
    assert np.array_equal(wanted, found)
    with pytest.raises(InputError, match="unknown memory 'high'; known are: auto, low"):
        load_model("picturebook", memory="high")
    with pytest.raises(InputError, match="take either --compile or --memory low"):
        load_model("picturebook", memory="low", compile=True)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_compiled_models_draw_the_same_picture(tiny_folder: Path) -> None:
    plain, compiled = (load_model(str(tiny_folder), dtype=torch.float32, compile=c).model for c in (False, True))
    request = Request("a red house", steps=2)
    wanted, found = (Pipeline(m).generate([request])[0].pixels.astype(int) for m in (plain, compiled))
    assert compiled.compiled
    assert np.abs(wanted - found).max() <= 1
