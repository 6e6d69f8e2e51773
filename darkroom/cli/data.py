"""`darkroom data`: looking at the picture-book world and drawing prompts from it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from darkroom.errors import InputError

__all__ = ["app"]

app = typer.Typer(help="Training data: previews and prompts.", no_args_is_help=True)


@app.command()
def preview(
    output: Annotated[Path, typer.Option("-o", "--output", help="Picture file: .png, .jpg or .webp.")] = Path(
        "preview.png"
    ),
    count: Annotated[int, typer.Option("--count", help="Scenes.")] = 12,
    size: Annotated[str, typer.Option("--size", help="WIDTHxHEIGHT of each scene.")] = "256x256",
    seed: Annotated[int, typer.Option("-s", "--seed")] = 0,
    maps: Annotated[bool, typer.Option(help="Boxes, instance and semantic maps beside each scene.")] = True,
) -> None:
    """Write a contact sheet of scenes with captions, boxes and maps drawn in."""
    match = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", size)
    if not match:
        raise InputError(f"the size is {size!r}, wanted is WIDTHxHEIGHT, such as 256x256")
    if count < 1:
        raise InputError(f"the number of scenes is {count}, wanted is at least 1")

    from darkroom.data.picturebook.preview import contact_sheet, picture_format
    from darkroom.whole_file import whole_file

    kind = picture_format(output)
    with whole_file(output) as file:
        contact_sheet(count, int(match[1]), int(match[2]), seed, maps=maps).save(file, format=kind)
    print(output)


@app.command()
def prompts(
    seed: Annotated[int, typer.Option("-s", "--seed", help="Of the list; other seeds, other prompts.")],
    count: Annotated[int, typer.Option("--count", help="How many.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File of JSON lines.")],
    things: Annotated[str, typer.Option("--things", help="Things in a prompt: 1, 2, 1-2 …")] = "1-2",
) -> None:
    """Draw prompts to measure with: one JSON object a line, caption and facts."""
    match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", things)
    if not match:
        raise InputError(f"the number of things is {things!r}, wanted is a number or a range such as 1-2")

    from darkroom.data.picturebook.prompts import sample_prompts, write_prompts
    from darkroom.whole_file import whole_file

    low = int(match[1])
    with whole_file(output) as file:
        write_prompts(file, sample_prompts(seed, count, (low, int(match[2] or low))))
    print(output)
