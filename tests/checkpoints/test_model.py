"""Models by name, in the precision that suits the machine."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from darkroom.checkpoints import model as model_module
from darkroom.checkpoints.lora import write_lora
from darkroom.checkpoints.model import load_model
from darkroom.checkpoints.native import save_system
from darkroom.engine import run as run_module
from darkroom.engine.pipeline import Pipeline
from darkroom.errors import InputError
from darkroom.nn.lora import LowRank
from darkroom.nn.precision import fast_half
from darkroom.nn.quantized import QuantizedLinear
from darkroom.types import Request


def test_the_precision_is_what_is_fast_here() -> None:
    assert load_model("picturebook").model.dtype == (fast_half("cpu") or torch.float32)
    assert load_model("picturebook", dtype=torch.float32).model.dtype == torch.float32


def test_without_a_fast_half_weights_as_stored_give_the_pictures_of_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_module, "fast_half", lambda device: None)
    monkeypatch.setattr(model_module, "LARGE", 2**14)  # so that the small text transformer keeps some
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


def test_quantized_models_draw_about_the_same_and_take_loras(tmp_path: Path) -> None:
    try:
        model = load_model("picturebook", quantize="int8").model
    except InputError:
        pytest.skip("this processor has no fast products in int8")
    plain = load_model("picturebook").model
    kept = sum(p.numel() for p in model.parameters())
    assert kept < 0.9 * sum(p.numel() for p in plain.parameters())
    assert sum(isinstance(m, QuantizedLinear) for m in model.unet.modules()) == 8  # feed-forward layers of four blocks
    torch.manual_seed(0)
    adapter = LowRank(torch.randn(4, 288) / 17, torch.randn(2304, 4) / 2)
    path = tmp_path / "one.safetensors"
    write_lora(path, {"unet.mid_attention.blocks.0.ff.proj_in": adapter}, plain.system, {})
    drawn = {}
    for prompt in ("a red house", f"a red house <lora:{path}:1>"):
        pair = [Pipeline(m).generate([Request(prompt, steps=3)])[0].pixels.astype(int) for m in (model, plain)]
        drawn[prompt] = pair[0]
        assert 0 < np.abs(pair[0] - pair[1]).mean() < 3
    without, with_lora = drawn.values()
    assert np.abs(without - with_lora).mean() > 3  # the LoRA is felt
    with pytest.raises(InputError, match="no gradients pass quantized layers"):
        Pipeline(model).generate([Request("a red house", steps=3, target=without.astype(np.uint8))])


def test_what_cannot_be_quantized_is_refused_before_it_is_read() -> None:
    with pytest.raises(InputError, match="cpu has no fast products in fp8"):
        load_model("nosuch", quantize="fp8")
    with pytest.raises(InputError, match=r"quantized layers are neither compiled nor streamed|has no fast products"):
        load_model("nosuch", quantize="int8", compile=True)


def test_parts_of_huge_models_leave_memory_while_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model("picturebook").model
    request = Request("a red house", steps=2)
    (before,) = Pipeline(model).generate([request])
    left: list[object] = []
    monkeypatch.setattr(run_module, "page_out", left.append)
    model.spares_memory = True
    (after,) = Pipeline(model).generate([request])
    assert left == [model.conditioner, model.unet]
    assert (after.pixels == before.pixels).all()


def test_low_memory_keeps_weights_narrow_and_gives_the_same_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_module, "fast_half", lambda device: None)
    monkeypatch.setattr(model_module, "LARGE", 2**14)
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
    assert compiled.compiled
    for request in (Request("a red house", steps=2), Request("a dog", steps=2, width=48)):
        wanted, found = (Pipeline(m).generate([request])[0].pixels.astype(int) for m in (plain, compiled))
        assert np.abs(wanted - found).max() <= 1
