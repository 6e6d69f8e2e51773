"""The commands, side by side."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from darkroom.cli import checkpoints, data, evaluate, generate, systems, train

__all__ = ["app"]


class _Plain(TyperGroup):
    """The list of commands in plain letters: panels and colours would double the time that `--help` takes."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{**settings, "rich_markup_mode": None})


app = typer.Typer(
    help="Train, distil, evaluate and run latent diffusion models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    cls=_Plain,
    # Options may be written with underscores, as other tools have them.
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: name.replace("_", "-"),
    },
)
app.command()(generate.generate)
app.command()(train.train)
app.command()(systems.systems)
app.command()(checkpoints.inspect)
app.command()(checkpoints.convert)
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(data.app, name="data")
