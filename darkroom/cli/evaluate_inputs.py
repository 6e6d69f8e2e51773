"""`darkroom evaluate inputs` and `denoising`: what models make of inputs beside captions, and of noise."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from darkroom.cli.models import Models
from darkroom.errors import InputError
from darkroom.requests.change import changed
from darkroom.types import Request

__all__ = ["Inputs", "denoising", "inputs"]


@dataclass(frozen=True)
class Inputs:
    """What is compared, and where the report goes."""

    base: Annotated[str, typer.Option("--base", metavar="MODEL", help="A model that is told the captions alone.")] = (
        "picturebook"
    )
    count: Annotated[int, typer.Option("--count", help="Unseen scenes.")] = 200
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="JSON file.")] = None
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="FILE", help="PNG file: what was told, what was drawn, the truth.")
    ] = None


def inputs(models: Models, wanted: Inputs, said: dict[str, Any]) -> None:
    """How a model follows classes, boxes, maps, masks and small pictures of unseen scenes, beside a baseline."""
    request = changed(Request(), said)
    from dataclasses import asdict

    import numpy as np
    from PIL import Image
    from rich.console import Console
    from rich.table import Table

    from darkroom.checkpoints.model import load_model
    from darkroom.engine.pipeline import Pipeline
    from darkroom.evaluation.inputs import followed
    from darkroom.evaluation.judging import load_judge
    from darkroom.nn.device import find_device
    from darkroom.whole_file import whole_file

    find_device(models.device)
    ours, base = models.load().model, load_model(wanted.base, models.device).model
    with ExitStack() as files:  # paths that cannot be written are refused before any work
        file = None if wanted.output is None else files.enter_context(whole_file(wanted.output))
        sheet_file = None if wanted.sheet is None else files.enter_context(whole_file(wanted.sheet))
        found = followed(Pipeline(ours), Pipeline(base), load_judge(), request, wanted.count)
        if sheet_file is not None:
            Image.fromarray(np.concatenate([f.sheet for f in found])).save(sheet_file, format="PNG")
        if file is not None:
            rows = [{k: v for k, v in asdict(f).items() if k != "sheet"} for f in found]
            file.write((json.dumps({"scenes": wanted.count, "inputs": rows}, indent=1) + "\n").encode())
    table = Table("input", "measure", "model", "95 %", "baseline", "", "95 %", "better")
    for f in found:
        better = "not decided" if f.better is None else "yes" if f.better else "no"
        numbers = [cell for m in (f.ours, f.theirs) for cell in (f"{m.value:.3g}", _interval(m.interval))]
        table.add_row(f.input, f.measure, *numbers[:2], f.baseline, *numbers[2:], better)
    Console(width=160).print(table)
    print(f"{wanted.count} unseen scenes; differences are decided scene by scene")


def _interval(interval: tuple[float, float] | None) -> str:
    return "–" if interval is None else " – ".join(f"{v:.3g}" for v in interval)


def denoising(
    models: Annotated[
        list[str], typer.Argument(help="Models of one first stage: the first is what others are beside.")
    ],
    least: Annotated[int, typer.Option(help="The least noisy timestep.")] = 0,
    most: Annotated[int, typer.Option(help="The noisiest timestep; 199: what a refiner learns.")] = 999,
    count: Annotated[int, typer.Option(help="Unseen scenes, each at one timestep.")] = 200,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …")] = "cpu",
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="JSON file.")] = None,
) -> None:
    """What models make of the same noised scenes, whose captions they are told: a refiner beside its base, say."""
    if not 0 <= least <= most <= 999 or count < 2:
        raise InputError(
            f"timesteps {least} to {most} of {count} scenes: expected are a range within 0 to 999 and at least 2 scenes"
        )
    import torch
    from rich.console import Console
    from rich.table import Table

    from darkroom.checkpoints.model import load_model
    from darkroom.evaluation.denoising import denoised
    from darkroom.nn.device import find_device
    from darkroom.whole_file import whole_file

    find_device(device)
    with ExitStack() as files:
        file = None if output is None else files.enter_context(whole_file(output))
        found = denoised(
            [(n, load_model(n, device, torch.float32).model) for n in models], count, range(least, most + 1)
        )
        if file is not None:
            rows = [
                {"model": d.model, "psnr": d.psnr.value, "gain": d.gain.value, "interval": d.gain.interval}
                for d in found
            ]
            file.write((json.dumps({"scenes": count, "models": rows}, indent=1) + "\n").encode())
    table = Table("model", "PSNR of latents, dB", "95 %", "beside the first, dB", "95 %")
    for d in found:
        numbers = [cell for m in (d.psnr, d.gain) for cell in (f"{m.value:.3f}", _interval(m.interval))]
        table.add_row(d.model, *numbers)
    Console(width=140).print(table)
    print(f"{count} unseen scenes, timesteps {least} to {most}, the same noise")
