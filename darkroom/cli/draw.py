"""Running the requests of `darkroom generate`: models loaded, pictures written, progress and timings shown.

Paths of pictures stand alone on standard output, each when its file is whole; all else goes to standard error.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.cli.handover import hand_over
from darkroom.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np

    from darkroom.checkpoints.model import LoadedModel
    from darkroom.checkpoints.model_folders import ModelFolders
    from darkroom.cli.models import Additions, Models
    from darkroom.cli.output import Output
    from darkroom.engine.pipeline import Events
    from darkroom.engine.run import Picture
    from darkroom.requests.records import Found
    from darkroom.requests.xyz import Axis
    from darkroom.types import Request, Step

__all__ = ["Job", "draw", "files_of"]


@dataclass(frozen=True)
class Job:
    """What one call of the command is to do with its requests.

    `like`: what the picture that is repeated says of itself. `told`: whether anything was said of what to draw. `axes`:
    of a grid, then all pictures go onto one sheet. `rate`: frames a second of the one file that all pictures make.
    """

    models: Models
    additions: Additions
    folders: ModelFolders
    output: Output
    preview: Path | None = None
    taesd: Path | None = None
    like: Found | None = None
    told: bool = True
    axes: tuple[Axis, ...] = ()
    rate: float | None = None


def draw(requests: list[Request], job: Job, began: float) -> None:
    """Run the requests and write the pictures; what is finished when Ctrl-C comes is written, too.

    A server of the same user that draws the same draws them instead.
    """
    if hand_over(requests, job, began):
        return
    base = job.models.load()
    if not job.told and "caption" in base.model.conditioner.embedders:
        raise InputError(f"no prompt is given; {base.model.system.name} wants one, '' for a picture of anything")
    if job.like is not None:
        _tell_what_is_lost(job.like, base)
    writer = _Writer(job, base, len(requests), job.output.first_number())
    events = _events(requests, job, base, writer)
    show = _preview(base, job)
    loaded = time.perf_counter()
    try:
        for event in events:
            if isinstance(event, tuple):
                writer.take(*event)
                continue
            _show_progress(event.step.index + 1, event.step.total, time.perf_counter() - loaded)
            if show is not None:
                show(event.step)
        writer.finish()
    except KeyboardInterrupt:
        writer.rescue()
        _clear_line()
        print(f"interrupted: {_pictures(len(writer.written))} of {len(requests)} saved", file=sys.stderr)
        raise
    done = time.perf_counter()
    _clear_line()
    print(
        f"{_pictures(len(writer.written))} in {done - began:.2f} s: start and load {loaded - began:.2f}, "
        f"draw {done - loaded - writer.seconds:.2f}, write {writer.seconds:.2f}",
        file=sys.stderr,
    )


def _events(requests: list[Request], job: Job, base: LoadedModel, writer: _Writer) -> Events:
    """What happens while the requests are drawn."""
    from darkroom.engine.pipeline import Pipeline, drawn
    from darkroom.engine.planned import planned
    from darkroom.requests.remarks import remarks

    folders = (job.folders.loras, job.folders.embeddings, job.folders.controlnet)
    pipeline = Pipeline(base.model, *folders)
    plans = [pipeline.planned(request) for request in requests]
    for remark in dict.fromkeys(remark for p in plans for remark in remarks(p, base.model.system)):
        print(remark, file=sys.stderr)
    refiner = None
    if job.additions.refiner is not None:
        from dataclasses import replace

        writer.refiner = replace(job.models, name=job.additions.refiner, vae=None, prediction=None).load()
        refiner = Pipeline(writer.refiner.model, *folders)
    return drawn([planned(pipeline, request, refiner, job.additions.switch)[1] for request in requests])


@dataclass
class _Writer:
    """Writes pictures as they come, or keeps those that make one file together."""

    job: Job
    base: LoadedModel
    count: int
    first: int = 0  # number of the first picture's file
    refiner: LoadedModel | None = None
    written: list[Path] = field(default_factory=list)
    seconds: float = 0.0
    compared: bool = False  # the files with those of the picture that is repeated
    _kept: dict[int, Picture] = field(default_factory=dict)

    def take(self, index: int, picture: Picture) -> None:
        if self.job.like is not None and not self.compared:
            from darkroom.engine.loras import LoraShelf
            from darkroom.requests.records.files import other_files

            _tell_lost(other_files(self.job.like, picture.plan, LoraShelf(self.job.folders.loras).find))
            self.compared = True
        if self.job.axes or self.job.rate is not None:
            self._kept[index] = picture
        else:
            self._write(index, self.count, picture, picture.pixels)

    def finish(self) -> None:
        """The one file of all pictures, where they make one."""
        pixels = [self._kept[i].pixels for i in range(len(self._kept))]
        if self.job.axes:
            from darkroom.requests.xyz import grid_sheet

            self._write(0, 1, self._kept[0], grid_sheet(pixels, self.job.axes))
        elif self.job.rate is not None:
            rate, text = self.job.rate, self._parameters(self._kept[0])
            self._timed(lambda: self.job.output.write_animation(pixels, text, rate))

    def rescue(self) -> None:
        """Pictures that were to make one file, each as a file."""
        for index, picture in sorted(self._kept.items()):
            self._write(index, max(2, self.count), picture, picture.pixels)

    def _write(self, index: int, of: int, picture: Picture, pixels: np.ndarray) -> None:
        text, seed = self._parameters(picture), picture.plan.request.seed
        self._timed(lambda: self.job.output.write(self.first + index, of, pixels, text, seed))

    def _timed(self, write: Callable[[], Path]) -> None:
        start = time.perf_counter()
        self.written.append(write())
        self.seconds += time.perf_counter() - start
        _clear_line()
        print(self.written[-1], flush=True)

    def _parameters(self, picture: Picture) -> str:
        from darkroom.engine.loras import LoraShelf
        from darkroom.engine.parameters import made_with

        shelf = LoraShelf(self.job.folders.loras)
        return made_with(self.base, picture.plan, shelf, files_of(self.job, self.refiner))


def _tell_what_is_lost(like: Found, model: LoadedModel) -> None:
    """What of the picture that is repeated this run has not."""
    lost = list(like.unmapped)
    if like.model_hash != model.hash and (like.model or like.model_hash):
        lost.append(
            f"the model {like.model or ''} [{like.model_hash or 'unknown'}]; this is {model.name} [{model.hash}]"
        )
    _tell_lost(lost)


def _tell_lost(things: Iterable[str]) -> None:
    for thing in things:
        _clear_line()
        print(f"not taken over: {thing}", file=sys.stderr)


def files_of(job: Job, refiner: LoadedModel | None) -> dict[str, object]:
    """The files besides the model and LoRAs that pictures are made with, as A1111 writes them."""
    from darkroom.checkpoints.fingerprint import model_hash

    files: dict[str, object] = {}
    if job.models.vae is not None:
        path = Path(job.models.vae)
        files |= {"VAE hash": model_hash(path)} if os.path.isfile(path) else {}
        files["VAE"] = path.name
    if refiner is not None:
        from darkroom.engine.refine import refiner_files

        files |= refiner_files(refiner, job.additions.switch)
    if job.models.quantize is not None:
        files["Quantization"] = job.models.quantize
    return files


def _preview(base: LoadedModel, job: Job) -> Callable[[Step], None] | None:
    """What writes the clean estimate of a step to the preview's file."""
    if job.preview is None:
        return None
    from darkroom.checkpoints.taesd import decoder_beside
    from darkroom.engine.preview import Preview
    from darkroom.whole_file import whole_file

    path, preview = job.preview, Preview(base.model, job.taesd or decoder_beside(base.hashed))

    def show(step: Step) -> None:
        with whole_file(path) as file:
            file.write(preview.jpeg(step.x0))

    return show


def _show_progress(step: int, total: int, seconds: float) -> None:
    """A line of progress on a terminal, once the work takes longer than a second."""
    if seconds > 1 and sys.stderr.isatty():
        filled = 30 * step // total
        print(f"\r[{'█' * filled}{'·' * (30 - filled)}] step {step}/{total}", end="", file=sys.stderr, flush=True)


def _clear_line() -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _pictures(count: int) -> str:
    return f"{count} picture{'s' if count != 1 else ''}"
