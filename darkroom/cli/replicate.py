"""`darkroom replicate`: claims of the papers in miniature."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from darkroom.errors import InputError

__all__ = ["replicate"]


def replicate(
    name: Annotated[str, typer.Argument(help="The claim; `list` tells which there are.")],
    scale: Annotated[str, typer.Option("--scale", metavar="tiny|small|full", help="How large.")] = "tiny",
    seed: Annotated[int, typer.Option("-s", "--seed", help="Of data, training and noise.")] = 0,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Markdown file.")] = None,
) -> None:
    """Try a claim of a paper by its protocol, and say whether it holds here."""
    from darkroom.evaluation.replications import schedule_flaws  # noqa: F401  # puts it into CLAIMS
    from darkroom.evaluation.replications.claim import CLAIMS, SCALES, page, replicated
    from darkroom.whole_file import whole_file

    if name == "list":
        for known, claim in CLAIMS.items():
            print(f"{known:20} {claim.title} ({claim.source})")
        return
    CLAIMS.name(name)
    chosen = SCALES[scale]
    if seed < 0:
        raise InputError(f"the seed is {seed}, expected is 0 or more")
    with ExitStack() as files:
        file = None if output is None else files.enter_context(whole_file(output))
        outcome, seconds = replicated(name, chosen, seed)
        text = page(name, outcome, chosen, seed, seconds)
        if file is not None:
            file.write(text.encode())
    print(text, end="")
