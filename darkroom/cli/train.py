"""`darkroom train`: a recipe to a run."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from darkroom.errors import require

if TYPE_CHECKING:
    from darkroom.training.recipe import LoadedRecipe

__all__ = ["train"]


def train(
    recipe: Annotated[Path, typer.Argument(help="A TOML file such as recipes/picturebook/diffusion.toml.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="loop.steps=100 and the like.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder of the run; default runs/NAME.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stop after so long with a checkpoint; the same command goes on.")
    ] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="See that it runs: two steps at a narrow width on a tiny data set.")
    ] = False,
    threads: Annotated[int | None, typer.Option("-t", "--threads", help="Processor threads.")] = None,
) -> None:
    """Train by a recipe. A run that was stopped or killed goes on when the same command is given again."""
    require(minutes is None or 0 <= minutes < math.inf, "minutes", minutes, "a number from 0 up")
    require(threads is None or threads >= 1, "threads", threads, "at least 1")
    import torch

    from darkroom.training.loop import train as run
    from darkroom.training.recipe import load_recipe
    from darkroom.training.run_folder import natural_precision, resolved
    from darkroom.training.world import open_world

    if threads is not None:
        torch.set_num_threads(threads)
    loaded = load_recipe(recipe, overrides or ())
    if smoke:
        _smoke(loaded, output)
        return
    folder = output or Path("runs") / recipe.stem
    asked = loaded.recipe.loop
    loop = resolved(asked, folder)
    fast = natural_precision(loop.device)
    with open_world(loop.device) as world:
        if asked.precision == "auto" and loop.precision != fast and world.first:
            print(f"going on in {loop.precision}, as the run in {folder} began; a new run would take {fast} here")
        whole = replace(loaded.recipe, loop=replace(loop, device=world.device(loop.device)))
        end = run(loaded.objective(whole), whole.loop, folder, recipe=whole, minutes=minutes, world=world)
        if world.first:
            if end.step < loop.steps:
                print(f"stopped at step {end.step} of {loop.steps}; the same command goes on from {folder}")
            else:
                print(f"done: {folder / 'export'}")
    if end.signal is not None:
        raise typer.Exit(128 + end.signal)


def _smoke(loaded: LoadedRecipe, output: Path | None) -> None:
    """In `output`, or in a folder that goes again."""
    from darkroom.training.smoke import smoke

    start = time.monotonic()
    with nullcontext(output) if output is not None else TemporaryDirectory() as folder:
        picture = smoke(loaded, Path(folder))
        where = f": {picture}" if output is not None else ""
        print(f"runs: two steps, the export read back, a picture drawn{where} ({time.monotonic() - start:.1f} s)")
