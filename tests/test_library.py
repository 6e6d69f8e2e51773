"""The library's face, as a README shows it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from narrow_checkpoints import narrow, random_model, write_vocabulary
from PIL import Image
from safetensors.torch import save_file

import darkroom
from darkroom.checkpoints.convert import Content, write_original
from darkroom.models import vocabulary
from darkroom.requests.records import read_picture
from darkroom.systems import SYSTEMS


def test_importing_imports_nothing_heavy() -> None:
    program = "import sys, darkroom\ndarkroom.Request('a cat'), darkroom.load, dir(darkroom)\n"
    program += "assert not {'torch', 'numpy', 'PIL'} & set(sys.modules), sorted(sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there() -> None:
    assert all(getattr(darkroom, name) is not None for name in darkroom.__all__)
    assert set(darkroom.__all__) <= set(dir(darkroom))
    assert "Euler a" in darkroom.sampler_names()
    assert "karras" in darkroom.schedule_names()
    assert "picturebook" in darkroom.system_names()
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        darkroom.lode  # noqa: B018
    assert (Path(darkroom.__file__).parent / "py.typed").exists()


def test_a_model_draws(tiny_folder: Path, tmp_path: Path) -> None:
    model = darkroom.load(tiny_folder)
    drawn = model.draw("a red cat", steps=2, seed=3, cfg_scale=2)
    assert drawn.pixels.shape == (32, 32, 3)
    assert drawn._repr_png_().startswith(b"\x89PNG")
    assert np.array_equal(
        model.draw(darkroom.Request("a red cat", seed=3, steps=2), guidance_scale=2).pixels, drawn.pixels
    )
    path = drawn.save(tmp_path / "cat.png")
    assert np.array_equal(np.asarray(Image.open(path)), drawn.pixels)
    request = read_picture(path).request
    assert (request.prompt, request.seed, request.guidance_scale) == ("a red cat", 3, 2.0)
    pair = model.draw_all([{"prompt": "a cat", "steps": 1}, darkroom.Request("a dog", steps=1)])
    assert [d.plan.request.prompt for d in pair] == ["a cat", "a dog"]
    with pytest.raises(darkroom.InputError, match="unknown setting 'stepz'; known are: steps"):
        model.draw("a cat", stepz=3)


def test_the_three_lines_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    (block,) = re.findall(r"((?:    [^\n]*\n|\n)*    import darkroom\n(?:    [^\n]*\n|\n)*)", readme)
    lines = [line.strip() for line in block.splitlines() if line.strip()]
    assert len(lines) == 3
    monkeypatch.chdir(tmp_path)
    exec("\n".join(lines), {})
    assert Image.open(tmp_path / "snowman.png").size == (128, 128)


def test_embeddings_are_found_by_their_names_in_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = narrow("sd-v1-5")
    monkeypatch.setitem(SYSTEMS._entries, system.name, system)  # so that the file is recognised
    monkeypatch.setattr(vocabulary, "CLIP_PACKAGES", ())
    write_vocabulary(tmp_path)
    write_original(Content.of_model(random_model("sd-v1-5")), tmp_path / "model.safetensors")
    (tmp_path / "embeddings").mkdir()
    vectors = torch.randn(2, system.unet.context_dim or 0)
    save_file({"emb_params": vectors}, tmp_path / "embeddings" / "mystyle.safetensors")
    file = tmp_path / "model.safetensors"
    model = darkroom.load(file, dtype=torch.float32, embedding_folders=[tmp_path / "embeddings"])
    styled, plain = (model.draw(p, steps=1, width=64, height=64) for p in ("a cat mystyle", "a cat"))
    assert not np.array_equal(np.asarray(styled.image), np.asarray(plain.image))
    without = darkroom.load(file, dtype=torch.float32)
    assert np.array_equal(
        np.asarray(without.draw("a cat", steps=1, width=64, height=64).image), np.asarray(plain.image)
    )
