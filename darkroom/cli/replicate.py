"""`darkroom replicate`: claims of the papers in miniature."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from darkroom.errors import InputError

__all__ = ["replicate"]


def replicate(
    name: Annotated[
        str, typer.Argument(help="The claim; `list` tells which there are, `overview` how those went that were tried.")
    ],
    scale: Annotated[str, typer.Option("--scale", metavar="tiny|small|full", help="How large.")] = "tiny",
    seed: Annotated[int, typer.Option("-s", "--seed", help="Of data, training and noise.")] = 0,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Markdown file; plot, picture and record go beside it."),
    ] = None,
) -> None:
    """Try a claim of a paper by its protocol, and say whether it holds here."""
    from PIL import Image

    from darkroom.evaluation.replications.catalog import CLAIMS
    from darkroom.evaluation.replications.claim import page, replicated
    from darkroom.evaluation.replications.overview import as_json, machine, overview, record_of
    from darkroom.evaluation.replications.trial import SCALES, Trial
    from darkroom.whole_file import whole_file

    if name == "list":
        for known, claim in CLAIMS.items():
            print(f"{known:20} {claim.title} ({claim.source})")
        return
    if output is not None and output.is_dir():
        raise InputError(f"{output} is a folder, expected is the file to write, such as {output / f'{name}.md'}")
    if name == "overview":
        text = overview(Path() if output is None else output.parent)
        if output is not None:
            with whole_file(output) as file:
                file.write(text.encode())
        print(text, end="")
        return
    name = CLAIMS.name(name)
    parts = None if output is None else output.with_name(f"{name}-{scale}-{seed}.parts")
    trial = Trial(SCALES[scale], seed, parts)
    if seed < 0:
        raise InputError(f"the seed is {seed}, expected is 0 or more")
    if output is not None and output.suffix != ".md":
        raise InputError(f"{output} is to be a Markdown file, its name must end in .md")
    with ExitStack() as files:

        def beside(suffix: str) -> Path:
            assert output is not None, "asked only where there is a page"
            return output.with_name(name + suffix)

        file = None if output is None else files.enter_context(whole_file(output))
        outcome, seconds = replicated(name, trial)
        text = page(name, outcome, trial, seconds, machine())
        if file is not None:
            file.write(text.encode())
            record = files.enter_context(whole_file(beside(".json")))
            record.write(as_json(record_of(name, outcome, trial, seconds)))
            files.enter_context(whole_file(beside(".svg"))).write(outcome.plot.encode())
            image = files.enter_context(whole_file(beside(".png")))
            Image.fromarray(outcome.picture).quantize(128).save(image, format="PNG", optimize=True)
    if parts is not None:
        shutil.rmtree(parts, ignore_errors=True)
    print(text, end="")
