"""`darkroom train`: a recipe to a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    threads: Annotated[int | None, typer.Option("-t", "--threads", help="Processor threads.")] = None,
) -> None:
    """Train by a recipe. A run that was stopped or killed goes on when the same command is given again."""
    import torch

    from darkroom.training.loop import train as run
    from darkroom.training.recipe import load_recipe

    if threads is not None:
        torch.set_num_threads(threads)
    loaded = load_recipe(recipe, overrides or ())
    folder = output or Path("runs") / recipe.stem
    steps = run(loaded.objective(), loaded.recipe.loop, folder, recipe=loaded.recipe, minutes=minutes)
    total = loaded.recipe.loop.steps
    if steps < total:
        print(f"stopped at step {steps} of {total}; the same command goes on from {folder}")
    else:
        print(f"done: {folder / 'export'}")
