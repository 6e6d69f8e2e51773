"""docs/extend.md does what it says. Each block runs in a process of its own: registries are global."""

from __future__ import annotations

import re
import runpy
from functools import partial
from pathlib import Path

import pytest
from darkroom_process import darkroom

PAGE = Path(__file__).parents[1] / "docs" / "extend.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)

CHECKS = {
    "split_euler": """
import torch
from darkroom.diffusion.samplers import SAMPLERS
sigmas = torch.logspace(1, -1, 21, dtype=torch.float64)
x = torch.full((1, 1, 1, 1), 5.0, dtype=torch.float64)
steps = list(SAMPLERS["k_split"](lambda x, s: x * 1.69 / (1.69 + s**2), x, sigmas, None))
exact = 5 * ((1.69 + sigmas[-1] ** 2) / (1.69 + sigmas[0] ** 2)) ** 0.5
assert len(steps) == 20 and abs(float(steps[-1].x) - float(exact)) < 0.05
""",
    "cubic": """
from darkroom.diffusion.process import DiffusionProcess
from darkroom.noise_schedule import NoiseSchedule
from darkroom.diffusion.sigma_schedules import spaced
sigmas = spaced("Cubic", DiffusionProcess(NoiseSchedule("scaled_linear", 0.00085, 0.012), "eps"), 9)
assert len(sigmas) == 10 and (sigmas[:-1] > sigmas[1:]).all()
""",
    "HourConfig": """
import tempfile
from pathlib import Path
import numpy as np
from darkroom.engine.pipeline import Pipeline
from darkroom.errors import InputError
from darkroom.systems.build import build
from darkroom.checkpoints.native import load_system, save_system
from darkroom.types import Request
small = {"channel_mult": (1, 1), "model_channels": 64, "head_dim": 16, "context_dim": 16, "num_res_blocks": 1}
stage = {"channels": 32, "channel_mult": (1, 1), "decoder_res_blocks": 1}
def narrow(system):
    embedders = tuple(e if e.kind == "numbers" else replace(e, width=16) for e in system.embedders)
    return replace(system, embedders=embedders, unet=replace(system.unet, **small),
                   autoencoder=replace(system.autoencoder, **stage))
model = build(narrow(SYSTEMS["hourly"])).requires_grad_(False)
for p in model.unet.parameters():
    p.add_(0.05 * torch.randn(p.shape))
def draw(model, **inputs):
    request = Request("a cow", width=32, height=32, steps=2, inputs=inputs)
    return Pipeline(model).generate([request])[0].pixels
seven = draw(model, hour=7.5)
assert not np.array_equal(seven, draw(model))
with tempfile.TemporaryDirectory() as folder:
    save_system(model, Path(folder) / "model", {}, torch.float32)
    assert np.array_equal(seven, draw(load_system(Path(folder) / "model"), hour=7.5))
try:
    draw(build(narrow(base)), hour=7.5)
    raise AssertionError("passed over")
except InputError as error:
    assert "'hour' is given, which picturebook does not read" in str(error)
""",
    "picturebook-wide": """
from darkroom.systems.build import build
assert build(SYSTEMS["picturebook-wide"], "meta").unet.conv_in.out_channels == 128
""",
    "OVER_GREY": """
from darkroom.checkpoints.model import load_model
from darkroom.engine.pipeline import Pipeline
from darkroom.tasks import catalog
from darkroom.types import Request
catalog.TASKS = (OVER_GREY, *catalog.TASKS)
pipeline = Pipeline(load_model("picturebook", dtype=torch.float32).model)
own, plain = pipeline.generate([Request(p, steps=1, seed=4) for p in ("grey cat", "a grey cat")])
assert abs(own.pixels.astype(int) - plain.pixels).max() > 1
""",
    "Ramps": """
from darkroom.data.dataset import Joined
both = Joined([Ramps(3, 8), Ramps(2, 4)], [1, 2], [1.0, 0.5])
sample = both.sample(4, np.random.default_rng(0))
assert len(both) == 7 and both.size(6) == Size(4, 4) and sample.image.shape == (4, 4, 3)
assert sample.conditions == {"caption": "ramp 1"} and both.key(0) != both.key(3)
""",
    "Spread": """
import numpy as np
from darkroom.evaluation.compare import see
from darkroom.evaluation.features import open_features
from darkroom.pixels import to_tensor
network = open_features("judge")
grey = np.stack([np.full((32, 32, 3), v, np.uint8) for v in (100, 104)])
noise = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
ours, theirs = (see([network(to_tensor(p))], network, ["spread"]).metrics["spread"] for p in (grey, noise))
assert ours.result(theirs)["spread"].value < 1
""",
    "Sharpen": """
import json
import tempfile
from pathlib import Path
from darkroom.data.source import PictureBook, PictureBookConfig
from darkroom.training.config import LoopConfig
from darkroom.training.loop import train
class Written(Sharpen):
    def export(self, folder, metadata):
        folder.mkdir()
loop = LoopConfig(steps=25, batch_size=4, lr=0.02, precision="fp32", log_every=1)
folder = Path(tempfile.mkdtemp()) / "run"
train(Written(PictureBook(PictureBookConfig(size=32, count=32)), loop), loop, folder)
losses = [json.loads(line)["loss/net"] for line in (folder / "log.jsonl").open()]
assert len(losses) == 25 and sum(losses[-5:]) < 0.6 * sum(losses[:5])
""",
    "load_attention": """
import tempfile
from pathlib import Path
import torch
from safetensors.torch import save_file
block = AttentionBlock(32, 1)
state = {k: torch.randn_like(t) for k, t in block.state_dict().items()}
qkv = {leaf: torch.cat([state[f"to_{x}.{leaf}"] for x in "qkv"]) for leaf in ("weight", "bias")}
theirs = {f"attn.qkv.{leaf}": t for leaf, t in qkv.items()}
theirs |= {f"attn.group_norm.{leaf}": state[f"norm.{leaf}"] for leaf in ("weight", "bias")}
theirs |= {f"attn.proj.{leaf}": state[f"to_out.{leaf}"] for leaf in ("weight", "bias")}
path = Path(tempfile.mkdtemp()) / "block.safetensors"
save_file(theirs, path)
loaded = load_attention(path, 32).state_dict()
assert all(torch.equal(loaded[k], t) for k, t in state.items())
""",
    "drum": """
import numpy as np
from darkroom.data.picturebook import render, sample_scene
scenes = (sample_scene(np.random.default_rng(i)) for i in range(500))
drums = [s for s in scenes if any(t.kind == "drum" for t in s.things)]
assert drums and render(drums[0], 64, 64).shape == (64, 64, 3)
""",
}


@pytest.mark.parametrize("name", list(CHECKS))
def test_the_page_does_what_it_says(name: str, tmp_path: Path) -> None:
    (block,) = [b for b in BLOCKS if name in b]
    assert len(block.splitlines()) < 30
    (tmp_path / "page.py").write_text(block + CHECKS[name], encoding="utf-8")
    done = darkroom(cwd=tmp_path, program=partial(runpy.run_path, "page.py"))
    assert done.returncode == 0, done.stderr


def test_every_block_is_checked() -> None:
    assert len(BLOCKS) == len(CHECKS)
