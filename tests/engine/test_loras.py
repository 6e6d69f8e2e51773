from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from narrow_checkpoints import narrow, random_model, write_vocabulary

from darkroom.checkpoints.convert import Content, write_original
from darkroom.checkpoints.load import load_checkpoint
from darkroom.checkpoints.lora import write_lora
from darkroom.engine.engine import Engine
from darkroom.engine.pipeline import Pipeline
from darkroom.errors import InputError
from darkroom.models import vocabulary
from darkroom.nn.lora import LowRank
from darkroom.systems.build import LatentDiffusion
from darkroom.types import Request


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LatentDiffusion:
    monkeypatch.setattr(vocabulary, "CLIP_PACKAGES", ())
    write_vocabulary(tmp_path)
    write_original(Content.of_model(random_model("sd-v1-5")), tmp_path / "model.safetensors")
    return load_checkpoint(tmp_path / "model.safetensors", torch.float32, system=narrow("sd-v1-5")).model


@pytest.fixture
def loras(model: LatentDiffusion, tmp_path: Path) -> Path:
    """Two files: one for a layer of the UNet, one for the text encoder."""
    (tmp_path / "loras" / "styles").mkdir(parents=True)
    names = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    unet = next(n for n in names if n.startswith("unet.") and n.endswith("attn1.to_q"))
    text = next(n for n in names if n.startswith("conditioner.") and n.endswith("to_q"))
    for name, layer in (("ink", unet), ("styles/words", text)):
        width_out, width_in = names[layer].weight.shape
        adapter = LowRank(torch.randn(2, width_in), torch.randn(width_out, 2), scale=1.0)
        write_lora(tmp_path / "loras" / f"{name}.safetensors", {layer: adapter}, model.system, {})
    return tmp_path / "loras"


def test_tags_put_loras_on_for_their_pictures_alone(model: LatentDiffusion, loras: Path) -> None:
    pipeline = Pipeline(model, [loras])

    def draw(prompt: str) -> np.ndarray:
        return pipeline.generate([Request(prompt, width=64, height=64, steps=2)])[0].pixels

    plain = draw("a cat")
    drawn = [
        plain,
        draw("a cat<lora:ink:0.8>"),
        draw("a cat<lora:ink:0.8><lora:words:1>"),
        draw("a cat<lora:words:1:0>"),
    ]
    for i, a in enumerate(drawn):
        assert all(not np.array_equal(a, b) for b in drawn[:i])
    assert np.array_equal(draw("a cat<lora:ink:0>"), plain)
    assert np.array_equal(draw("a cat"), plain)
    mixed = pipeline.generate([Request(p, width=64, height=64, steps=2) for p in ("a cat<lora:ink:0.8>", "a cat")])
    assert np.abs(mixed[0].pixels.astype(int) - drawn[1]).max() <= 1
    assert np.abs(mixed[1].pixels.astype(int) - plain).max() <= 1


def test_a_paused_picture_with_a_lora_changes_no_other(model: LatentDiffusion, loras: Path) -> None:
    pipeline = Pipeline(model, [loras])
    with_lora, plain = (Request(p, width=64, height=64, steps=3) for p in ("a cat<lora:ink:1><lora:words:1>", "a cat"))
    alone = [pipeline.generate([r])[0].pixels for r in (with_lora, plain)]
    paused = pipeline.run([with_lora])
    next(paused)
    assert np.array_equal(pipeline.generate([plain])[0].pixels, alone[1])
    *_, (_, picture) = paused
    assert np.array_equal(picture.pixels, alone[0])


def test_pictures_of_unlike_loras_share_calls(model: LatentDiffusion, loras: Path) -> None:
    pipeline = Pipeline(model, [loras])
    prompts = ("a cat<lora:ink:1>", "a cat", "a cat<lora:ink:0.5>")
    requests = [Request(p, width=64, height=64, steps=2) for p in prompts]
    alone = [pipeline.generate([r])[0].pixels.astype(int) for r in requests]
    with Engine() as engine:
        tickets = [pipeline.submit(engine, r) for r in requests]
        together = [t.result().pixels for t in tickets]
        assert engine.batcher.calls == [6, 6]
    assert max(np.abs(a - b).max() for a, b in zip(alone, together)) <= 1


def test_unknown_and_foreign_loras_are_named(model: LatentDiffusion, loras: Path) -> None:
    pipeline = Pipeline(model, [loras])
    with pytest.raises(InputError, match=r"unknown LoRA 'inc' in .*; known are: ink, words"):
        pipeline.generate([Request("<lora:inc:1>", width=64, height=64, steps=2)])
    (loras / "broken.safetensors").write_bytes(b"\x08")
    with pytest.raises(InputError, match=r"broken\.safetensors"):
        pipeline.generate([Request("<lora:broken:1>", width=64, height=64, steps=2)])


def test_compiled_models_take_loras_into_their_weights(model: LatentDiffusion, loras: Path) -> None:
    request = Request("a cat <lora:ink:1> <lora:words:1>", width=64, height=64, steps=2)
    plain = replace(request, prompt="a cat")
    pipeline = Pipeline(model, [loras])
    live, before = (pipeline.generate([r])[0].latent for r in (request, plain))
    weights = {name: p.clone() for name, p in model.named_parameters()}
    model.compiled = True
    merged, after = (pipeline.generate([r])[0].latent for r in (request, plain))
    torch.testing.assert_close(merged, live, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(live, before, rtol=1e-2, atol=1e-2)
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())
