"""`darkroom compare`: blind studies of folders and models."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from darkroom.cli.options import with_options
from darkroom.errors import InputError, require
from darkroom.input_file import read_text
from darkroom.whole_file import made_folder

if TYPE_CHECKING:
    from darkroom.evaluation.drawn import Draws
    from darkroom.evaluation.study.collection import Candidate, Collection
    from darkroom.evaluation.study.design import Design, Item
    from darkroom.evaluation.study.votes import Votes

__all__ = ["command", "prompt_items"]


@dataclass(frozen=True)
class Compared:
    """Who is compared, and by what."""

    candidates: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CANDIDATE]...",
            help="Folders of pictures, or models with settings: picturebook,steps=4. None: the study that is there.",
        ),
    ] = None
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", metavar="FILE", help="What models draw: one a line, or JSON lines."),
    ] = None
    folder: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="The study: its pictures and votes.")
    ] = Path("study")
    questions: Annotated[
        str | None,
        typer.Option(
            "--questions", metavar="quality,prompt", help="What is asked; default: both, if there are prompts."
        ),
    ] = None
    attention: Annotated[
        float, typer.Option("--attention", metavar="NUMBER", help="Share of pairs that test whether voters look.")
    ] = 0.08
    repeats: Annotated[
        float, typer.Option("--repeats", metavar="NUMBER", help="Share of pairs that come a second time.")
    ] = 0.04
    device: Annotated[str, typer.Option("--device", metavar="DEVICE", help="Where models draw.")] = "cpu"


@dataclass(frozen=True)
class Asked:
    """What is done with the study; without any of these the page is served."""

    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Where voters reach the page.")] = "127.0.0.1"
    port: Annotated[int, typer.Option("--port", metavar="INTEGER", help="0: any that is free.")] = 0
    page: Annotated[
        Path | None, typer.Option("--page", metavar="FILE", help="Write one HTML file that saves votes as JSON.")
    ] = None
    most: Annotated[int, typer.Option("--most", metavar="INTEGER", help="Questions in that file.")] = 200
    votes: Annotated[
        list[Path] | None, typer.Option("--votes", metavar="FILE", help="Take votes that such a page saved.")
    ] = None
    voter: Annotated[
        str | None,
        typer.Option("--voter", metavar="NAME", help="Let a machine vote, marked as one: judge, clip=FOLDER."),
    ] = None
    export: Annotated[
        Path | None, typer.Option("--export", metavar="FILE", help="Write the votes as LMArena publishes them.")
    ] = None
    report: Annotated[bool, typer.Option("--report", help="Print what the votes say.")] = False

    def __post_init__(self) -> None:
        require(0 <= self.port <= 65_535, "the port", self.port, "0 to 65535")
        require(self.most >= 1, "the number of questions", self.most, "at least 1")

    @property
    def serves(self) -> bool:
        return not (self.page or self.votes or self.voter or self.export or self.report)


def _compare(compared: Compared, asked: Asked) -> None:
    """Let people, or a machine, say blindly which of two pictures is better, and what that proves.

    darkroom compare picturebook picturebook,steps=4 --prompts prompts.txt
    """
    from darkroom.evaluation.study.collection import Collection
    from darkroom.evaluation.study.votes import Votes

    collection = Collection(compared.folder)
    design = _design(compared, collection)
    with Votes(compared.folder / "votes.sqlite") as votes:
        _take(asked, design, collection, votes)
        if asked.page is not None:
            from darkroom.evaluation.study.page import static_page
            from darkroom.whole_file import whole_file

            with whole_file(asked.page) as file:
                file.write(static_page(design, collection, asked.most).encode())
            print(asked.page)
        if asked.export is not None:
            from darkroom.evaluation.study.report import arena_lines
            from darkroom.whole_file import whole_file

            with whole_file(asked.export) as file:
                file.writelines(f"{line}\n".encode() for line in arena_lines(design, votes.all()))
        if asked.serves:
            _serve(asked, design, collection, votes)
        if asked.page is None or asked.report:
            _report(compared.folder, design, votes)


def _design(compared: Compared, collection: Collection) -> Design:
    """The study in the folder, its pictures complete; made if it is not there."""
    from darkroom.evaluation.study.collection import candidate, is_folder
    from darkroom.evaluation.study.design import load_design, save_design

    there = os.path.isfile(compared.folder / "study.json")
    if not compared.candidates or there:
        design = load_design(compared.folder)
        if compared.candidates and tuple(compared.candidates) != design.candidates:
            known = ", ".join(design.candidates)
            raise InputError(f"{compared.folder} is a study of {known}: name another folder with -o")
        entries = [candidate(name) for name in design.candidates]
    else:
        entries = [candidate(name) for name in compared.candidates]
        design = _new_design(compared, entries)
        collection.check(entries, design.items)
        made_folder(compared.folder)
        save_design(compared.folder, design)
    for number, entry in enumerate(entries):
        if is_folder(entry):
            collection.take_folder(number, design.items, Path(entry.source))
    collection.draw(entries, design.items, partial(_drawing, compared.device), lambda text: typer.echo(text, err=True))
    return design


def _drawing(device: str, model: str) -> Draws:
    """What draws as `model`: the user's server where it has it, else the model itself."""
    from darkroom.cli.handover import served_model
    from darkroom.cli.models import Models

    if (served := served_model(Models(name=model, device=device))) is not None:
        return served
    from darkroom.checkpoints.model import load_model
    from darkroom.engine.pipeline import Pipeline

    return Pipeline(load_model(model, device).model)


def _new_design(compared: Compared, entries: list[Candidate]) -> Design:
    from darkroom.evaluation.study.collection import folder_items, is_folder
    from darkroom.evaluation.study.design import QUESTIONS, Design

    prompts = prompt_items(compared.prompts) if compared.prompts is not None else []
    folders = [Path(e.source) for e in entries if is_folder(e)]
    if len(folders) < len(entries) and not prompts:
        drawing = next(e.name for e in entries if not is_folder(e))
        raise InputError(f"{drawing} is no folder of pictures; what a model is to draw is said with --prompts FILE")
    items: list[Item] = prompts
    if folders:
        items, rest = folder_items(folders, prompts)
        if rest:
            typer.echo(f"{rest} pictures are not in every folder and are left out", err=True)
    asked = compared.questions.split(",") if compared.questions else list(QUESTIONS)
    if not compared.questions and not all(item.prompt for item in items):
        asked.remove("prompt")
    names = tuple(name.strip() for name in asked)
    return Design(tuple(e.name for e in entries), tuple(items), names, compared.attention, compared.repeats)


def prompt_items(path: Path) -> list[Item]:
    """The lines of the file as items; those of `darkroom data prompts` with what they promise."""
    from darkroom.cli.prompts import parse_lines
    from darkroom.config import from_dict
    from darkroom.data.picturebook.caption import Facts
    from darkroom.evaluation.study.design import Item

    text = read_text(path)
    entries = parse_lines(text, str(path))
    if not entries:
        raise InputError(f"{path} holds no prompts")
    items = [
        Item(f"{i:05d}", e["prompt"], {k: v for k, v in e.items() if k != "prompt"}) for i, e in enumerate(entries)
    ]
    promised = [_promised(line) for line in text.split("\n") if line.strip()]
    return [
        item if facts is None else replace(item, facts=from_dict(Facts, facts, f"{path}, {item.prompt!r}"))
        for item, facts in zip(items, promised, strict=True)
    ]


def _promised(line: str) -> object:
    """The facts of a line of `darkroom data prompts`; None where it has none."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return said.get("facts") if isinstance(said, dict) and "caption" in said else None


def _take(asked: Asked, design: Design, collection: Collection, votes: Votes) -> None:
    """Votes from files and machines."""
    for path in asked.votes or ():
        from darkroom.evaluation.study.page import take_votes
        from darkroom.json_file import read_json

        typer.echo(f"{take_votes(design, votes, read_json(path), str(path))} new votes from {path}", err=True)
    if asked.voter is not None:
        from darkroom.evaluation.study.machines import let_vote

        typer.echo(f"{let_vote(asked.voter, design, collection, votes)} votes of {asked.voter}", err=True)


def _serve(asked: Asked, design: Design, collection: Collection, votes: Votes) -> None:
    """The page until Ctrl-C."""
    from darkroom.evaluation.study.server import StudyServer

    with StudyServer(design, collection, votes, asked.host, asked.port) as server:
        print(f"Vote at {server.address} (Ctrl-C: end and report)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


def _report(folder: Path, design: Design, votes: Votes) -> None:
    from darkroom.evaluation.study.printing import print_report
    from darkroom.evaluation.study.report import report, write_report
    from darkroom.whole_file import whole_file

    found = report(design, votes.all())
    with whole_file(folder / "report.json") as file:
        write_report(file, found)
    print_report(found)


command = with_options(_compare, Compared, Asked)
