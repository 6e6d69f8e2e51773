"""Running the requests of `darkroom generate`: models loaded, pictures written, progress and timings shown."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from darkroom.checkpoints.model import LoadedModel
    from darkroom.engine.pipeline import Picture, Pipeline
    from darkroom.requests.plan import Plan
    from darkroom.requests.records import Found
    from darkroom.requests.xyz import Axis
    from darkroom.types import Request, Step

__all__ = ["Models", "Output", "draw"]


@dataclass(frozen=True)
class Models:
    name: str
    vae: str | None
    prediction: str | None
    ema: str
    lora_folders: tuple[Path, ...]
    refiner: str | None
    switch: float
    device: str
    dtype: str
    memory: str = "auto"
    compiled: bool = False
    quantize: str | None = None


@dataclass(frozen=True)
class Output:
    folder: Path
    format: str
    axes: list[Axis]  # of a grid: then all pictures go onto one sheet
    preview: Path | None
    taesd: Path | None


def draw(
    requests: list[Request], chosen: Models, output: Output, like: Found | None, began: float, *, told: bool
) -> None:
    """Run the requests, write the pictures, say where they are and how long it took.

    `like`: what the picture that is repeated says of itself. `told`: whether anything was said of what to draw.
    """
    import torch

    from darkroom import __version__
    from darkroom.checkpoints.model import load_model
    from darkroom.engine.pipeline import Pipeline, Progress
    from darkroom.engine.upscale import enlarges, upscale
    from darkroom.pictures.picture_file import next_number, numbered_paths, write_new_picture
    from darkroom.requests.plan import plan
    from darkroom.requests.records.a1111 import parameters_text

    imported = time.perf_counter()
    kind = {"auto": None, "bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[chosen.dtype]
    load = partial(
        load_model,
        device=chosen.device,
        dtype=kind,
        memory=chosen.memory,
        compile=chosen.compiled,
        quantize=chosen.quantize,
    )
    base = load(chosen.name, vae=chosen.vae, prediction=chosen.prediction, ema=chosen.ema)
    if not told and "caption" in base.model.conditioner.embedders:
        raise InputError(f"no prompt is given; {base.model.system.name} wants one, '' for a picture of anything")
    if like is not None:
        _tell_what_is_lost(like, base)
    for remark in dict.fromkeys(r for request in requests for r in plan(request, base.model.system).remarks):
        print(remark, file=sys.stderr)
    pipeline = Pipeline(base.model, chosen.lora_folders)
    refiner: LoadedModel | None = None
    if chosen.refiner is not None:
        from darkroom.engine.refine import refine

        refiner = load(chosen.refiner)
        events = refine(pipeline, Pipeline(refiner.model, chosen.lora_folders), requests, chosen.switch)
    else:
        events = upscale(pipeline, requests) if enlarges(base.model) else pipeline.run(requests)
    loaded = time.perf_counter()
    written: list[Path] = []
    pictures: dict[int, Picture] = {}
    number = next_number(output.folder)
    writing = 0.0

    def write(index: int, picture: Picture, pixels: np.ndarray) -> None:
        nonlocal writing
        start = time.perf_counter()
        files = _files(picture.plan, chosen, refiner)
        text = parameters_text(picture.plan, base.name, base.hash, f"darkroom {__version__}", files)
        ending = f"-{picture.plan.request.seed}.{output.format}"
        output.folder.mkdir(parents=True, exist_ok=True)
        written.append(write_new_picture(numbered_paths(output.folder, number + index, ending), pixels, text))
        writing += time.perf_counter() - start

    show = _preview(pipeline, output)
    for event in events:
        if isinstance(event, Progress):
            _show(event.step.index + 1, event.step.total, time.perf_counter() - loaded)
            if show is not None:
                show(event.step)
        elif output.axes:
            pictures[event[0]] = event[1]
        else:
            write(event[0], event[1], event[1].pixels)
    if output.axes:
        from darkroom.requests.xyz import grid_sheet

        write(0, pictures[0], grid_sheet([pictures[i].pixels for i in range(len(requests))], output.axes))
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


def _tell_what_is_lost(like: Found, model: LoadedModel) -> None:
    """What of the picture that is repeated this run has not."""
    lost = list(like.unmapped)
    if like.model_hash != model.hash and (like.model or like.model_hash):
        lost.append(
            f"the model {like.model or ''} [{like.model_hash or 'unknown'}]; this is {model.name} [{model.hash}]"
        )
    for thing in lost:
        print(f"not taken over: {thing}", file=sys.stderr)


def _files(plan: Plan, chosen: Models, refiner: LoadedModel | None) -> dict[str, object]:
    """The files besides the model that a picture was made with, as A1111 writes them."""
    from darkroom.checkpoints.fingerprint import lora_hash, model_hash
    from darkroom.checkpoints.folders import LORAS, find_file

    files: dict[str, object] = {}
    if chosen.vae is not None:
        path = Path(chosen.vae)
        files |= {"VAE hash": model_hash(path)} if path.is_file() else {}
        files["VAE"] = path.name
    if refiner is not None:
        files |= {"Refiner": f"{refiner.name} [{refiner.hash}]", "Refiner switch at": f"{chosen.switch:g}"}
    if chosen.quantize is not None:
        files["Quantisation"] = chosen.quantize
    found = {tag.name: find_file(LORAS, tag.name, chosen.lora_folders) for tag in plan.prompt.loras}
    hashes = [f"{name}: {lora_hash(path)}" for name, path in found.items()]
    return files | ({"Lora hashes": ", ".join(hashes)} if hashes else {})


def _preview(pipeline: Pipeline, output: Output) -> Callable[[Step], None] | None:
    """What writes the clean estimate of a step to the preview's file."""
    if output.preview is None:
        return None
    from darkroom.engine.preview import Preview
    from darkroom.whole_file import whole_file

    path, preview = output.preview, Preview(pipeline.model, output.taesd)

    def show(step: Step) -> None:
        with whole_file(path) as file:
            file.write(preview.jpeg(step.x0))

    return show


def _show(step: int, total: int, seconds: float) -> None:
    """A line of progress on a terminal, once the work takes longer than a second."""
    if seconds > 1 and sys.stderr.isatty():
        filled = 30 * step // total
        print(f"\r[{'█' * filled}{'·' * (30 - filled)}] step {step}/{total}", end="", file=sys.stderr, flush=True)
