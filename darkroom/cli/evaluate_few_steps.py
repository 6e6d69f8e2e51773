"""`darkroom evaluate few-steps`: a teacher beside its students."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from darkroom.cli.models import Models
from darkroom.errors import InputError

__all__ = ["few_steps"]


def few_steps(
    teacher: Annotated[str, typer.Argument(help="The model of many steps: a file, folder, hub id or name.")],
    students: Annotated[list[str], typer.Argument(help="Models of few steps.")],
    teacher_steps: Annotated[str, typer.Option(help="Numbers of steps, with commas.")] = "50,25,16,8,4,2,1",
    student_steps: Annotated[str, typer.Option(help="Numbers of steps, with commas.")] = "4,2,1",
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON lines; default: prompts of one or two things."),
    ] = None,
    count: Annotated[int, typer.Option(help="Prompts to draw.")] = 500,
    varied: Annotated[int, typer.Option(help="Prompts that are drawn four times more, for variety.")] = 32,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …; the judge reads on the processor.")] = "cpu",
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="JSON file.")] = None,
) -> None:
    """Prompts right, Fréchet distance, variety and time of models at numbers of steps, in the picture-book world."""
    many, few = _numbers("teacher-steps", teacher_steps), _numbers("student-steps", student_steps)
    if count < 2 or varied < 2:
        raise InputError(f"the prompts are {count}, of which {varied} for variety; expected are at least 2 of each")
    from contextlib import ExitStack

    from darkroom.data.picturebook.prompts import read_prompts, sample_prompts
    from darkroom.engine.pipeline import Pipeline
    from darkroom.evaluation.few_steps import few_steps_row, print_rows, write_rows
    from darkroom.evaluation.judging import load_judge
    from darkroom.nn.device import find_device
    from darkroom.types import Request
    from darkroom.whole_file import whole_file

    find_device(device)
    listed = sample_prompts(0, count, (1, 2)) if prompts is None else read_prompts(prompts)[:count]
    judge, rows = load_judge(), []
    with ExitStack() as files:  # a path that cannot be written is refused before any work
        file = None if output is None else files.enter_context(whole_file(output))
        for name, numbers in ((teacher, many), *((student, few) for student in students)):
            pipeline = Pipeline(Models(name=name, device=device).load().model)
            rows += [
                few_steps_row(pipeline, name, listed, judge, Request(steps=steps), varied=varied) for steps in numbers
            ]
        if file is not None:
            write_rows(file, rows)
    print_rows(rows)


def _numbers(option: str, text: str) -> list[int]:
    found = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 0 < int(part) <= 1000 for part in found):
        raise InputError(f"--{option} is {text!r}, expected are numbers of steps with commas, such as 4,2,1")
    return [int(part) for part in found]
