"""`python -m benchmarks.training_runs`: whole trainings on a folder of pictures, reading and encoding them counted.

Ways take turns: a recipe of ours that encodes pictures and captions in each step, one that keeps what was encoded, and
a plain PyTorch loop around Diffusers' networks, written as its examples are. Networks, pictures, batches and precision
are the same. Each way trains for few and for more steps; the difference tells the cost of a step, the rest is that of
start and end. Beside the time stands what the process used of the processors, which other programs do not disturb.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from benchmarks.checkpoint import Checkpoint, write_checkpoint
from benchmarks.measure import machine
from benchmarks.pictures import load_diffusers
from darkroom.checkpoints.load import load_checkpoint
from darkroom.checkpoints.native import save_system
from darkroom.data.buckets import BucketConfig
from darkroom.data.folder import FolderConfig
from darkroom.data.source import PictureBook, PictureBookConfig
from darkroom.systems.narrow import narrowed
from darkroom.systems.system import SYSTEMS, System
from darkroom.training.config import LoopConfig
from darkroom.training.diffusion import DiffusionObjective, DiffusionRecipe
from darkroom.training.log import WAITING
from darkroom.training.loop import train

__all__ = ["Way", "by_peer", "by_us", "write_pictures"]

SIDE = 64  # of the pictures as they are trained on
PICTURES = 32
Run = Callable[[int], None]  # train for so many steps


@dataclass
class Way:
    """One way of training, and what it took: (steps, seconds, seconds of processors) of each run."""

    name: str
    run: Run
    taken: list[tuple[int, float, float]] = field(default_factory=list)

    def turn(self, steps: int) -> None:
        begun, used = time.perf_counter(), time.process_time()
        self.run(steps)
        self.taken.append((steps, time.perf_counter() - begun, time.process_time() - used))

    def cost(self, which: int) -> tuple[float, float]:
        """Of a step and of the rest, in seconds (`which` 1) or seconds of processors (2)."""
        by_steps = {n: statistics.median(t[which] for t in self.taken if t[0] == n) for n in {t[0] for t in self.taken}}
        few, many = min(by_steps), max(by_steps)
        step = (by_steps[many] - by_steps[few]) / (many - few)
        return step, by_steps[few] - few * step


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_runs", description=__doc__)
    parser.add_argument("--steps", type=int, nargs=2, default=(8, 32), help="few and more")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument(
        "--workers", nargs="+", default=(), help="processes that read ahead, or 'thread': the wait for data alone"
    )
    a = parser.parse_args()
    print(machine(torch.device("cpu")), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        system = narrowed(SYSTEMS["sd-v1-5"])
        # The peer's decoder has one block a level more than its encoder.
        system = replace(system, autoencoder=replace(system.autoencoder, decoder_res_blocks=2))
        checkpoint, pictures = write_checkpoint(system, folder), write_pictures(folder / "pictures")
        save_system(load_checkpoint(checkpoint.file, torch.float32, "cpu", system=system).model, folder / "model", {})
        runs = folder / "runs"
        if a.workers:
            waits(folder / "model", pictures, runs, a.batch, a.steps[1], a.workers, half=a.bf16)
            return
        ways = [
            Way("darkroom", by_us(folder / "model", pictures, runs / "plain", a.batch, half=a.bf16)),
            Way("darkroom, caches", by_us(folder / "model", pictures, runs / "kept", a.batch, half=a.bf16, keeps=True)),
            Way("diffusers, plain loop", by_peer(checkpoint, system, pictures, runs / "peer", a.batch, half=a.bf16)),
        ]
        for way in ways:
            way.run(2)  # the first pays for much
        for _ in range(a.rounds):
            for steps in a.steps:
                for way in ways:
                    way.turn(steps)
        print("\n| way | pictures / s | pictures / processor second | rest, processor s |\n|---|---:|---:|---:|")
        for way in ways:
            (step, _), (used, rest) = way.cost(1), way.cost(2)
            print(f"| {way.name} | {a.batch / step:.2f} | {a.batch / used:.2f} | {rest:.2f} |")
        for name in ("plain", "kept"):
            share = waiting(runs, name)
            print(f"darkroom, {name}: {100 * share:.1f} % of the time of its steps waiting for data", flush=True)


def waits(
    model: Path, pictures: Path, runs: Path, batch: int, steps: int, workers: Sequence[str], *, half: bool
) -> None:
    """Print the share of the time of a run's steps that it waits for data, for what reads ahead."""
    print("\n| what reads ahead | waiting, encoding in each step | waiting, latents kept |\n|---:|---:|---:|")
    for count in workers:
        shares = []
        for keeps in (False, True):
            name = f"workers{count}{'kept' if keeps else 'plain'}"
            number = None if count == "thread" else int(count)
            by_us(model, pictures, runs / name, batch, half=half, keeps=keeps, workers=number)(steps)
            shares.append(waiting(runs, name))
        print(f"| {count} | " + " | ".join(f"{100 * s:.1f} %" for s in shares) + " |", flush=True)


def waiting(runs: Path, name: str) -> float:
    """The share of the time of the steps of the runs of that name, but the first, which starts what reads ahead."""
    lines = [json.loads(line) for path in runs.glob(f"{name}-*/log.jsonl") for line in path.open()]
    return statistics.mean(line[WAITING] for line in lines if WAITING in line and line["step"] > 1)


def write_pictures(folder: Path) -> Path:
    """Scenes as JPEG files of twice the side they are trained at, and their captions beside them."""
    folder.mkdir()
    scenes = PictureBook(PictureBookConfig(2 * SIDE, PICTURES))
    for i in range(PICTURES):
        Image.fromarray(scenes.image(i)).save(folder / f"{i}.jpg", quality=92)
        (folder / f"{i}.txt").write_text(scenes.caption(i)[0])
    return folder


def by_us(
    model: Path,
    pictures: Path,
    folder: Path,
    batch: int,
    *,
    half: bool,
    keeps: bool = False,
    workers: int | None = None,
) -> Run:
    """A recipe that trains the whole denoiser; with `keeps` latents and texts are encoded once a run."""

    def run(steps: int) -> None:
        place = folder.with_name(f"{folder.name}-{steps}-{time.monotonic_ns()}")
        cache = place / "cache" if keeps else None
        loop = LoopConfig(
            steps=steps, batch_size=batch, lr=1e-5, weight_decay=0.01, ema_decay=0.999,
            precision="bf16" if half else "fp32", workers=workers, log_every=1,
        )  # fmt: skip
        recipe = DiffusionRecipe(
            loop, FolderConfig(pictures), str(model), buckets=BucketConfig(SIDE, step=SIDE), latent_cache=cache,
            text_cache=cache,
        )  # fmt: skip
        with redirect_stdout(StringIO()):
            train(DiffusionObjective(recipe), loop, place, recipe=recipe)

    return run


def by_peer(checkpoint: Checkpoint, system: System, pictures: Path, folder: Path, batch: int, *, half: bool) -> Run:
    """The peer's networks in a loop like that of its examples, which ends with saving the pipeline."""
    tools: Any = importlib.import_module("diffusers.training_utils")
    diffusers: Any = importlib.import_module("diffusers")

    def run(steps: int) -> None:
        pipeline = load_diffusers(checkpoint, system, torch.device("cpu"))
        unet, vae, text = pipeline.unet.train(), pipeline.vae.eval(), pipeline.text_encoder.eval()
        for part in (vae, text):
            part.requires_grad_(False)
        scheduler = diffusers.DDPMScheduler.from_config(pipeline.scheduler.config)
        parameters = list(unet.parameters())
        optimizer = torch.optim.AdamW(parameters, 1e-5, weight_decay=0.01, fused=True)
        rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        ema = tools.EMAModel(parameters, 0.999, foreach=True)
        batches = _batches(pictures, pipeline.tokenizer, batch)
        with (folder.with_name(f"{folder.name}-{steps}.log")).open("w") as log:
            for step in range(steps):
                pixels, tokens = next(batches)
                with torch.autocast("cpu", torch.bfloat16, enabled=half):
                    with torch.no_grad():
                        latents = vae.encode(pixels).latent_dist.sample() * vae.config.scaling_factor
                        states = text(tokens)[0]
                    noise = torch.randn_like(latents)
                    t = torch.randint(0, scheduler.config.num_train_timesteps, (batch,))
                    output = unet(scheduler.add_noise(latents, noise, t), t, states).sample
                    loss = F.mse_loss(output.float(), noise.float())
                loss.backward()
                norm = nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                rates.step()
                optimizer.zero_grad()
                ema.step(parameters)
                log.write(json.dumps({"step": step + 1, "loss": loss.item(), "norm": norm.item()}) + "\n")
        ema.copy_to(parameters)
        pipeline.save_pretrained(folder.with_name(f"{folder.name}-{steps}-{time.monotonic_ns()}"))

    return run


def _batches(pictures: Path, tokenizer: Any, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Without end: pictures brought to their side, in a random order each epoch, and the tokens of their captions."""
    names = sorted(pictures.glob("*.jpg"))

    def row(path: Path) -> tuple[Tensor, Tensor]:
        image = Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.asarray(image, np.float32) / 127.5 - 1).permute(2, 0, 1)
        caption = path.with_suffix(".txt").read_text()
        length = tokenizer.model_max_length
        tokens = tokenizer(caption, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        return pixels, tokens.input_ids[0]

    class Rows(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
        def __len__(self) -> int:
            return len(names)

        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            return row(names[index])

    while True:
        yield from DataLoader(Rows(), batch, shuffle=True, drop_last=True)


if __name__ == "__main__":
    main()
