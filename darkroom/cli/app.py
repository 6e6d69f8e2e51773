"""The commands, side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from darkroom import __version__
from darkroom.cli import checkpoints, compare, configuration, data, evaluate, generate, replicate, serve, systems, train
from darkroom.cli.options import Panels

__all__ = ["app"]

# Help in plain letters: boxes and colors would cut long names and double the time that `--help` takes.
app = typer.Typer(
    help="Train, distil, evaluate, run and serve latent diffusion models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    # Options may be written with underscores, as other tools have them.
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: name.replace("_", "-"),
        "max_content_width": 120,
    },
)


def _version(asked: bool) -> None:
    if asked:
        print(f"darkroom {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """Train, distil, evaluate, run and serve latent diffusion models."""


app.command("generate", cls=Panels)(generate.command)
app.command("serve", cls=Panels)(serve.command)
app.command("compare")(compare.command)
app.command()(replicate.replicate)
app.command()(systems.systems)
app.command()(checkpoints.inspect)
app.command()(checkpoints.convert)
app.command()(checkpoints.merge)
app.command()(configuration.config)
app.add_typer(train.app, name="train", help="Train by a recipe; plan a run, report on it.")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(data.app, name="data")
