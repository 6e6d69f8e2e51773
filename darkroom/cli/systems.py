"""`darkroom systems`: the catalogue."""

from __future__ import annotations

from typing import Annotated

import typer

from darkroom.names import names_of, table

__all__ = ["systems"]


def systems(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One system, with the words that it knows.")
    ] = None,
) -> None:
    """List every system and first stage with its size, its latent, what it reads and its defaults."""
    if name is not None:
        print(table()["about"][names_of("system").name(name)])
        return
    from rich.console import Console
    from rich.table import Table

    rows = Table("system", "what", "denoiser", "first stage", "reads (encoder)", "latent", "defaults")
    for cells in table()["systems"]:
        rows.add_row(*cells)
    stages = Table("first stage", "what", "parameters", "f", "channels", "codes")
    for cells in table()["first stages"]:
        stages.add_row(*cells)
    console = Console()
    if not console.is_terminal:
        console = Console(width=240)  # a file or a pipe has no width; rows stay on one line
    console.print(rows)
    console.print(stages)
