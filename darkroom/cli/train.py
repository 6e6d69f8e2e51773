"""`darkroom train`: a recipe to a run."""

from __future__ import annotations

import math
import os
import re
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from darkroom.cli.models import require_threads
from darkroom.errors import InputError, require

if TYPE_CHECKING:
    from darkroom.training.recipe import LoadedRecipe
    from darkroom.training.sample_metrics import Measure

__all__ = ["app", "memory_size"]

RUN = "run"  # what `darkroom train RECIPE` is short for


class Recipes(TyperGroup):
    """A group whose first argument is a recipe unless it is the name of a command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = [RUN, *args]
        return super().parse_args(ctx, args)

    def get_help(self, ctx: Any) -> str:
        """The help of a run, the other commands, and every key of every recipe."""
        from darkroom.names import recipe_keys_text

        run = self.commands[RUN]
        own = run.get_help(type(ctx)(run, info_name=ctx.info_name, parent=ctx.parent))
        others = "\n".join(f"  {n:9}{c.get_short_help_str(100)}" for n, c in self.commands.items() if n != RUN)
        commands = f"More commands (darkroom train COMMAND --help):\n{others}"
        return f"{own}\n\n{commands}\n\nKeys of recipes:\n\n{recipe_keys_text().rstrip()}"


app = typer.Typer(cls=Recipes, no_args_is_help=True)


@app.command(RUN, hidden=True)
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
    require_threads(threads)
    _require_recipe(recipe)
    import torch

    from darkroom.training.loop import train as run
    from darkroom.training.prior import kept_in
    from darkroom.training.recipe import load_recipe
    from darkroom.training.report import write_report
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
        measure = _measure(loaded.recipe, loop.device)
        whole = replace(kept_in(loaded.recipe, folder), loop=replace(loop, device=world.device(loop.device)))
        with loaded.naming_places():
            objective = loaded.objective(whole)
            end = run(objective, whole.loop, folder, recipe=whole, minutes=minutes, world=world, measure=measure)
        if world.first:
            if end.step < loop.steps:
                print(f"stopped at step {end.step} of {loop.steps}; the same command goes on from {folder}")
            else:
                print(f"done: {folder / 'export'}, {write_report(folder)}")
    if end.signal is not None:
        raise typer.Exit(128 + end.signal)


def _measure(recipe: Any, device: str) -> Measure | None:
    """What gives the numbers that the recipe's metrics ask for."""
    if (metrics := getattr(recipe, "metrics", None)) is None:
        return None
    from darkroom.evaluation.while_training import SampleMeasure

    return SampleMeasure(metrics.networks, device)


def _smoke(loaded: LoadedRecipe, output: Path | None) -> None:
    """In `output`, or in a folder that goes again."""
    from darkroom.training.smoke import smoke

    start = time.monotonic()
    with nullcontext(output) if output is not None else TemporaryDirectory() as folder:
        picture = smoke(loaded, Path(folder))
        where = f": {picture}" if output is not None else ""
        print(f"runs: two steps, the export read back, a picture drawn{where} ({time.monotonic() - start:.1f} s)")


@app.command()
def plan(
    recipe: Annotated[Path, typer.Argument(help="A recipe, as for a run.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]…")] = None,
    devices: Annotated[int, typer.Option(help="How many equal ones the run has.")] = 1,
    memory: Annotated[str | None, typer.Option(help="Of each device, such as 80GB.")] = None,
    rate: Annotated[float | None, typer.Option(help="Pictures a second of all devices, as measured.")] = None,
    tflops: Annotated[float | None, typer.Option(help="In place of --rate: what one device reaches.")] = None,
    price: Annotated[float | None, typer.Option(help="Of a device for an hour.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder of the run, whose report shows the plan beside it.")
    ] = None,
) -> None:
    """Memory by part, work, time, cost and buckets of a run before it begins; no weights are made."""
    for name, value in (("rate", rate), ("tflops", tflops), ("price", price)):
        require(value is None or 0 < value < math.inf, f"--{name}", value, "a number above 0")
    require(devices >= 1, "--devices", devices, "at least 1")
    _require_recipe(recipe)
    size = None if memory is None else memory_size(memory)
    from darkroom.training.plan import plan_run, plan_text
    from darkroom.training.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or ())
    work = None if tflops is None else tflops * 1e12
    with loaded.naming_places():
        found = plan_run(loaded.recipe, devices=devices, images_per_second=rate, device_flops=work)
    print(plan_text(found, devices=devices, memory=size, price=price))
    if output is not None:
        from darkroom.training.report import write_plan

        print(f"written: {write_plan(found, output)}")


@app.command()
def report(run: Annotated[Path, typer.Argument(help="The folder of a run, also while it goes on.")]) -> None:
    """Write report.html to a run's folder: curves, samples, ledger, the plan beside what happened; one file."""
    from darkroom.training.report import write_report

    print(write_report(run))


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="The folder of a run, also before its end.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder; default RUN/export.")] = None,
) -> None:
    """Export what a run has learned so far, as its newest checkpoint has it; `-m RUN` then takes it."""
    from darkroom.training.rebuild import export_newest

    folder = output or run / "export"
    print(f"{folder}: step {export_newest(run, folder)}")


@app.command()
def ema(
    run: Annotated[Path, typer.Argument(help="The folder of a run whose recipe has loop.ema_lengths.")],
    length: Annotated[float, typer.Option(help="Of the mean, as a share of the run: 0.005 to 0.28.")],
    at: Annotated[
        int | None, typer.Option(help="The step until which it goes; the last snapshot's by default.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder; default RUN/ema-LENGTH.")] = None,
) -> None:
    """Export the weights of a run averaged over another length of it, rebuilt of its snapshots."""
    from darkroom.training.rebuild import export_length

    folder = output or run / f"ema-{length:g}"
    rebuilt = export_length(run, length, folder, at)
    told = f"{100 * rebuilt.error:.1f} % from its exact weight over time"
    print(f"{folder}: the mean of length {length:g} at step {rebuilt.step}, {told}")


@app.command()
def keys(
    kind: Annotated[str | None, typer.Argument(help="Of recipes; all of them when not given.")] = None,
    page: Annotated[bool, typer.Option("--page", help="As the page of the documentation.")] = False,
) -> None:
    """Every key of recipes, with its default and meaning."""
    from darkroom.training.recipe import RECIPE_KINDS
    from darkroom.training.recipe_keys import keys_page, keys_text

    if page:
        print(keys_page(), end="")
    else:
        print("\n\n".join(keys_text(None if kind is None else RECIPE_KINDS.name(kind)).values()))


def _require_recipe(path: Path) -> None:
    """`InputError` without PyTorch where there is no such file; what is in it is looked at later."""
    if not os.path.isfile(path):
        raise InputError(f"there is no file {str(path)!r}")


def memory_size(text: str) -> float:
    """In bytes; `InputError` for what is no size."""
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,15})?)\s*(B|[KMGT]i?B?)\s*", text, re.IGNORECASE)
    size = 0.0 if match is None else float(match[1])
    if match is None or not size:
        raise InputError(f"--memory: {text!r} is wrong, expected is a size above 0 such as 80GB, 24GiB or 1.5TB")
    # Devices are sold by binary gigabytes under the decimal name.
    return size * 1024 ** "BKMGT".index(match[2][0].upper())
