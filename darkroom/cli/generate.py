"""`darkroom generate`: sentences in, pictures out. What it draws is put together here and drawn in `draw`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from darkroom.cli.controls import Controls
from darkroom.cli.draw import Job, draw
from darkroom.cli.folders import Folders
from darkroom.cli.listing import Listing
from darkroom.cli.models import Additions, Models
from darkroom.cli.options import with_options
from darkroom.cli.output import Output
from darkroom.cli.prompts import Prompts
from darkroom.config import from_text
from darkroom.errors import InputError, require
from darkroom.requests.change import changed, check_needs
from darkroom.requests.settings import SETTINGS, START
from darkroom.types import Request

__all__ = ["command"]

SHEETS = "Grids, frames and previews"


@dataclass(frozen=True)
class Origin:
    """Pictures that a request begins with, besides those that are settings."""

    like: Annotated[
        Path | None,
        typer.Option(
            "--like",
            metavar="FILE",
            help="Repeat this picture: its parameters hold where no option is given.",
            rich_help_panel=START,
        ),
    ] = None
    outpaint: Annotated[
        str | None,
        typer.Option("--outpaint", metavar="L,T,R,B", help="Pixels to add at each side.", rich_help_panel=START),
    ] = None

    def extended(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """`said`, its picture with what is to be added, and the mask of that."""
        if self.outpaint is None:
            return dict(said)
        from darkroom.pictures.outpaint import extended

        if "image" not in said:
            raise InputError("outpainting needs a picture to add to: give it with --init-image")
        left, top, right, bottom = from_text(tuple[int, int, int, int], self.outpaint, "--outpaint")
        image, mask = extended(said["image"], left, top, right, bottom)
        return {**said, "image": image, "mask": mask}


@dataclass(frozen=True)
class Sheets:
    """Several pictures that belong together, and a look at them while they are drawn."""

    x: Annotated[
        str | None,
        typer.Option("-x", metavar="SETTING=A,B,…", help="Columns of one labelled grid.", rich_help_panel=SHEETS),
    ] = None
    y: Annotated[str | None, typer.Option("-y", metavar="SETTING=A,B,…", help="Its rows.", rich_help_panel=SHEETS)] = (
        None
    )
    z: Annotated[
        str | None, typer.Option("-z", metavar="SETTING=A,B,…", help="Its blocks.", rich_help_panel=SHEETS)
    ] = None
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames",
            metavar="INTEGER",
            help="This many from the first prompt to the second, or to --to-seed; -o film.webp makes one file.",
            rich_help_panel=SHEETS,
        ),
    ] = None
    to_seed: Annotated[
        int | None,
        typer.Option("--to-seed", metavar="INTEGER", help="Where the frames' noise goes.", rich_help_panel=SHEETS),
    ] = None
    rate: Annotated[
        float, typer.Option("--fps", metavar="NUMBER", help="Frames a second of one file.", rich_help_panel=SHEETS)
    ] = 8.0
    preview: Annotated[
        Path | None,
        typer.Option("--preview-path", metavar="FILE", help="JPEG, rewritten at every step.", rich_help_panel=SHEETS),
    ] = None
    taesd: Annotated[
        Path | None,
        typer.Option("--taesd", metavar="FILE", help="A TAESD decoder for the previews.", rich_help_panel=SHEETS),
    ] = None

    def __post_init__(self) -> None:
        if self.to_seed is not None and self.frames is None:
            raise InputError("--to-seed says nothing without --frames")
        if self.taesd is not None and self.preview is None:
            raise InputError("--taesd says nothing without --preview-path")
        if (self.y and not self.x) or (self.z and not self.y):
            raise InputError("the axes of a grid go in the order -x, -y, -z")
        if self.x and self.frames is not None:
            raise InputError("frames are not drawn on a grid: take --frames or -x")
        require(0.02 <= self.rate <= 50, "--fps", self.rate, "0.02 to 50")


def _generate(
    listing: Listing,
    prompts: Prompts,
    output: Output,
    origin: Origin,
    models: Models,
    additions: Additions,
    controls: Controls,
    folders: Folders,
    sheets: Sheets,
    said: dict[str, Any],
) -> None:
    """Draw pictures from sentences.

    darkroom generate "a red house left of a yellow tree, at night" --seed 7
    """
    began = time.perf_counter()
    entries = prompts.read()
    kept = folders.found()
    output.check(frames=sheets.frames is not None)
    seed = said.pop("seed", None)
    said = {**origin.extended(said), **controls.said()}
    if origin.like is None:
        found = None
        check_needs(said, Request(), as_flags=True)
        request = changed(Request(), said)
    else:
        from darkroom.requests.records import read_picture, recalled
        from darkroom.requests.repeat import repeated

        found = recalled(read_picture(origin.like))
        check_needs(said, found.request, as_flags=True)
        request = repeated(found.request, said)
        seed = found.request.seed if seed is None else seed
    request = replace(request, seed=secrets.randbelow(2**31) if seed == -1 else seed or 0)
    told = bool(entries) or origin.like is not None or bool(request.inputs) or request.image is not None
    drawn = [_of_entry(request, entry, additions.tags) for entry in entries or [{"prompt": request.prompt}]]
    models, additions = models.within(kept), additions.within(kept)
    from darkroom.cli.early import check_early  # NumPy comes with it

    check_early(drawn, [models.name, *filter(None, [additions.refiner])], kept)
    job = Job(
        models,
        additions,
        kept,
        output,
        sheets.preview,
        sheets.taesd,
        found,
        told=told,
    )
    if sheets.x is not None:
        from darkroom.requests.xyz import grid_requests, parse_axis

        if len(drawn) > 1 or prompts.batch > 1:
            raise InputError("a grid takes one prompt, without -b")
        axes = [parse_axis(axis) for axis in (sheets.x, sheets.y, sheets.z) if axis is not None]
        draw(grid_requests(drawn[0], axes), replace(job, axes=tuple(axes)), began)
    elif sheets.frames is not None:
        from darkroom.requests.interpolation import interpolated

        if len(drawn) > 2 or prompts.batch > 1:
            raise InputError("frames go from one prompt to a second, without -b")
        last = drawn[-1] if sheets.to_seed is None else replace(drawn[-1], seed=sheets.to_seed)
        requests = interpolated(drawn[0], last, sheets.frames)
        draw(requests, replace(job, rate=sheets.rate if output.animates() else None), began)
    else:
        draw([replace(r, seed=r.seed + i) for r in drawn for i in range(prompts.batch)], job, began)


def _of_entry(request: Request, entry: Mapping[str, Any], tags: str) -> Request:
    """The request of one prompt with the settings that come with it."""
    return changed(request, {**entry, "prompt": tags + entry["prompt"]})


GROUPS = (Listing, Prompts, Output, Origin, Models, Additions, Controls, Folders, Sheets)
command = with_options(_generate, *GROUPS, settings=SETTINGS)
