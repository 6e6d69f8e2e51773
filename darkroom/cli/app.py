"""The commands, side by side."""

from __future__ import annotations

import typer

from darkroom.cli import checkpoints, data, evaluate, generate, systems, train

__all__ = ["app"]

app = typer.Typer(
    help="Train, distil, evaluate and run latent diffusion models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
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
