"""`darkroom generate`: sentences in, pictures out."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from darkroom.errors import InputError

__all__ = ["generate"]


def generate(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT…", help="What to draw; one picture or batch each.")],
    model: Annotated[
        str, typer.Option("-m", "--model", "--ckpt", help="Folder of a system, or its name.")
    ] = "picturebook",
    negative: Annotated[str, typer.Option("-n", "--negative-prompt", help="What to keep away from.")] = "",
    width: Annotated[int | None, typer.Option("-W", "--width", "--W", help="Pixels; default: the system's.")] = None,
    height: Annotated[int | None, typer.Option("-H", "--height", "--H", help="Pixels; default: the system's.")] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", "--num-inference-steps", help="Sampler steps; default: the system's.")
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option("--cfg-scale", "--guidance-scale", "--scale", help="How strictly the prompt is kept."),
    ] = None,
    seed: Annotated[int, typer.Option("-s", "--seed", help="Of the first picture; -1 draws one.")] = 0,
    batch: Annotated[int, typer.Option("-b", "--batch-count", help="Pictures per prompt, with seeds counting up.")] = 1,
    sampler: Annotated[str | None, typer.Option("--sampler", "--sampling-method", help="Euler a, DPM++ 2M, …")] = None,
    schedule: Annotated[str | None, typer.Option("--schedule", "--scheduler", help="karras, trailing, …")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the pictures.")] = Path("out"),
    dtype: Annotated[str, typer.Option(help="Precision of the networks: bf16 or fp32.")] = "bf16",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …")] = "cpu",
) -> None:
    """Draw pictures from sentences.

    darkroom generate "a red house left of a yellow tree, at night" --seed 7
    """
    began = time.perf_counter()
    if batch < 1:
        raise InputError(f"the batch count is {batch}, wanted is at least 1")
    if dtype not in ("bf16", "fp32"):
        raise InputError(f"unknown dtype {dtype!r}; known are: bf16, fp32")

    from darkroom.tasks.picture_file import check_writable, write_png

    check_writable(output)

    import torch

    from darkroom import __version__
    from darkroom.tasks.model import load_model
    from darkroom.tasks.parameters import parameters_text
    from darkroom.tasks.pipeline import Pipeline, Progress
    from darkroom.types import Request

    imported = time.perf_counter()
    loaded_model = load_model(model, device, {"bf16": torch.bfloat16, "fp32": torch.float32}[dtype])
    loaded = time.perf_counter()
    first = int(torch.randint(2**31, ()).item()) if seed == -1 else seed
    requests = [
        Request(
            prompt=prompt,
            negative_prompt=negative,
            width=width,
            height=height,
            seed=first + i,
            steps=steps,
            guidance=guidance,
            sampler=sampler,
            schedule=schedule,
        )
        for prompt in prompts
        for i in range(batch)
    ]
    written: list[Path] = []
    number = _next_number(output)
    writing = 0.0
    for event in Pipeline(loaded_model.model).run(requests):
        if isinstance(event, Progress):
            _show(event.step.index + 1, event.step.total, time.perf_counter() - loaded)
            continue
        index, picture = event
        text = parameters_text(picture.plan, loaded_model.name, loaded_model.hash, f"darkroom {__version__}")
        path = output / f"{number + index:05d}-{picture.plan.request.seed}.png"
        start = time.perf_counter()
        write_png(path, picture.pixels, text)
        writing += time.perf_counter() - start
        written.append(path)
    done = time.perf_counter()
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    for path in sorted(written):
        print(path)
    print(
        f"{len(written)} picture{'s' if len(written) != 1 else ''} in {done - began:.2f} s: "
        f"start {imported - began:.2f}, load {loaded - imported:.2f}, draw {done - loaded - writing:.2f}, "
        f"write {writing:.2f}"
    )


def _next_number(folder: Path) -> int:
    """One more than the highest number that a picture in `folder` begins with."""
    numbers = [int(p.name[:5]) for p in folder.glob("[0-9][0-9][0-9][0-9][0-9]-*.png")]
    return max(numbers, default=-1) + 1


def _show(step: int, total: int, seconds: float) -> None:
    """A line of progress on a terminal, once the work takes longer than a second."""
    if seconds > 1 and sys.stderr.isatty():
        filled = 30 * step // total
        print(f"\r[{'█' * filled}{'·' * (30 - filled)}] step {step}/{total}", end="", file=sys.stderr, flush=True)
