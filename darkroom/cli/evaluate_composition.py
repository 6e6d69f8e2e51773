"""`darkroom evaluate composition`: does a model compose what its prompts say?"""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from darkroom.cli.models import Models
from darkroom.errors import InputError
from darkroom.requests.change import changed
from darkroom.types import Request

if TYPE_CHECKING:
    from darkroom.evaluation.share import Share

__all__ = ["Composition", "composition"]


@dataclass(frozen=True)
class Composition:
    """Which tasks, how many pictures, and where they go."""

    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            help="GenEval's metadata (.jsonl) or T2I-CompBench's prompts (.txt); default: tasks of the world.",
        ),
    ] = None
    count: Annotated[int, typer.Option("--count", help="Tasks of each tag, of the picture-book world.")] = 20
    samples: Annotated[int, typer.Option("--samples", help="Pictures of each prompt.")] = 4
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", metavar="FOLDER", help="Keep the pictures, in the benchmark's own layout."),
    ] = None
    judge: Annotated[
        Path | None, typer.Option("--judge", metavar="FILE", help="A judge's file; default: the one that ships.")
    ] = None
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="JSON lines: a verdict for every picture.")
    ] = None


def composition(models: Models, wanted: Composition, said: dict[str, Any]) -> None:
    """Single things, two, counts, colors, positions, whose color is whose, parts: after GenEval.

    Prompts of things that the judge does not know are drawn into --pictures, for the benchmark's own tools to judge.
    """
    request = changed(Request(), said)
    from darkroom.engine.pipeline import Pipeline
    from darkroom.evaluation.composing import ceiling, compose, geneval_place, judged, overall, t2i_compbench_place
    from darkroom.evaluation.composition import read_tasks, world_tasks
    from darkroom.evaluation.judging import load_judge
    from darkroom.nn.device import find_device
    from darkroom.whole_file import whole_file

    find_device(models.device)
    known = world_tasks(wanted.count) if wanted.prompts is None else []
    tasks = [task for task, _ in known] if wanted.prompts is None else read_tasks(wanted.prompts)
    can_judge = all(task.can_be_judged for task in tasks)
    if not can_judge and wanted.pictures is None:
        raise InputError(
            f"the judge does not know all things of {wanted.prompts}; to have them drawn, give --pictures FOLDER"
        )
    if not can_judge and wanted.output is not None:
        raise InputError(
            f"{wanted.output} is to hold verdicts, and the judge does not know all things of {wanted.prompts}: leave "
            "-o out, and let the benchmark's own tools judge the pictures"
        )
    loaded = models.load()
    place = t2i_compbench_place if wanted.prompts is not None and wanted.prompts.suffix == ".txt" else geneval_place
    made = {"model": loaded.name, "hash": loaded.hash, "settings": json.loads(json.dumps(said, default=str))}
    with ExitStack() as files:
        file = None if wanted.output is None else files.enter_context(whole_file(wanted.output))
        folder = wanted.pictures or Path(files.enter_context(tempfile.TemporaryDirectory())) / "pictures"
        paths = compose(Pipeline(loaded.model), tasks, wanted.samples, request, folder, place, made)
        if not can_judge:
            print(f"{len(paths)} pictures in {folder}; the judge does not know what they should show")
            return
        judge = load_judge(wanted.judge)
        found = judged(judge, tasks, paths, folder)
        defaults = loaded.model.system.defaults
        best = overall(ceiling(judge, known, defaults.width, defaults.height)) if known else None
        if file is not None:
            file.writelines(json.dumps(asdict(j)).encode() + b"\n" for j in found)
    _print(overall(found), best)


def _print(found: tuple[dict[str, Share], float], best: tuple[dict[str, Share], float] | None) -> None:
    from rich.console import Console
    from rich.table import Table

    shares, mean = found
    table = Table("task", "fulfilled", "95 %", "pictures", "true scenes")
    for tag, share in shares.items():
        low, high = share.interval
        true = "" if best is None else f"{best[0][tag].value:.1%}"
        table.add_row(tag, f"{share.value:.1%}", f"{low:.1%} – {high:.1%}", str(share.asked), true)
    table.add_row("overall", f"{mean:.1%}", "", "", "" if best is None else f"{best[1]:.1%}")
    Console().print(table)
