"""`darkroom data`: looking at the picture-book world and drawing prompts from it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from darkroom.errors import InputError, require
from darkroom.whole_file import made_folder

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
        raise InputError(f"the size is {size!r}, expected is WIDTHxHEIGHT, such as 256x256")
    if count < 1:
        raise InputError(f"the number of scenes is {count}, expected is at least 1")

    from darkroom.data.picturebook.preview import contact_sheet, picture_format
    from darkroom.whole_file import whole_file

    kind = picture_format(output)
    with whole_file(output) as file:
        contact_sheet(count, int(match[1]), int(match[2]), seed, maps=maps).save(file, format=kind)
    print(output)


@app.command()
def check(
    path: Annotated[
        Path, typer.Argument(help="A folder of pictures, of N_class folders, a kohya TOML, or tar shards.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for report.txt, clean.txt and contact.jpg.")
    ] = None,
    resolution: Annotated[int, typer.Option(help="Side of the square with the area of the buckets.")] = 512,
    shapes: Annotated[str, typer.Option(help="square, aspect or sdxl.")] = "aspect",
    step: Annotated[int, typer.Option(help="Sides are multiples of this many pixels.")] = 64,
    least: Annotated[int, typer.Option(help="Pixels that the shorter side must have.")] = 64,
    system: Annotated[
        str | None, typer.Option("--system", help="Whose tokenizer captions must fit: a name of `darkroom systems`.")
    ] = None,
) -> None:
    """Find what is wrong with training pictures: unreadable, tiny, doubled, without captions; nothing is changed."""
    from rich.progress import Progress

    from darkroom.config import from_dict
    from darkroom.data.buckets import BucketConfig, Bucketing
    from darkroom.data.catalog import open_unchecked, remarks
    from darkroom.data.check import check_dataset, contact_sheet
    from darkroom.training.caption_fit import caption_fault
    from darkroom.whole_file import whole_file

    require(least >= 1, "least", least, "at least 1")
    settings = {"resolution": resolution, "shapes": shapes, "step": step}
    bucketing = Bucketing(from_dict(BucketConfig, settings, "the buckets"))
    fault = caption_fault(system) if system is not None else lambda text: None
    dataset, texts = open_unchecked(path)
    with Progress(transient=True) as bar:
        task = bar.add_task("reading", total=len(texts))
        report = check_dataset(
            dataset, texts, bucketing, least=least, caption_fault=fault,
            progress=lambda done: bar.update(task, completed=done),
        )  # fmt: skip
    report.remarks += remarks(path, dataset)
    for line in report.lines():
        print(line)
    if output is None:
        return
    made_folder(output)
    for name, lines in (("report.txt", report.lines()), ("clean.txt", report.clean)):
        with whole_file(output / name) as file:
            file.write("".join(f"{line}\n" for line in lines).encode())
    with whole_file(output / "contact.jpg") as file:
        contact_sheet(dataset, report.clean).save(file, format="JPEG", quality=88)
    print(f"written: report.txt, clean.txt, contact.jpg in {output}")


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
        raise InputError(f"the number of things is {things!r}, expected is a number or a range such as 1-2")

    from darkroom.data.picturebook.prompts import sample_prompts, write_prompts
    from darkroom.whole_file import whole_file

    low = int(match[1])
    with whole_file(output) as file:
        write_prompts(file, sample_prompts(seed, count, (low, int(match[2] or low))))
    print(output)
