"""Drawing tasks of composition into the folders of their benchmarks, judging them, and the table of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.progress import track

from darkroom.data.picturebook import Scene, render
from darkroom.engine.pipeline import Pipeline, Progress
from darkroom.errors import InputError, require
from darkroom.evaluation.composition import Task, verdict
from darkroom.evaluation.judging import look
from darkroom.evaluation.share import Share
from darkroom.evaluation.signs import read_sign
from darkroom.input_file import entries
from darkroom.json_file import read_json
from darkroom.models.judge import Judge
from darkroom.pictures.picture_file import write_picture
from darkroom.pictures.reading import read_pixels
from darkroom.pixels import to_tensor
from darkroom.types import Request
from darkroom.whole_file import made_folder, whole_file

__all__ = ["Place", "ceiling", "compose", "geneval_place", "judged", "overall", "t2i_compbench_place"]

# Where the picture of a task, by its number, and a sample lies below the folder.
Place = Callable[[int, Task, int], Path]


def geneval_place(number: int, task: Task, sample: int) -> Path:
    """`00000/samples/0000.png`, beside `00000/metadata.jsonl`."""
    return Path(f"{number:05}") / "samples" / f"{sample:04}.png"


def t2i_compbench_place(number: int, task: Task, sample: int) -> Path:
    """`samples/PROMPT_000000.png`, numbered through."""
    return Path("samples") / f"{task.prompt.replace('/', ' ')}_{number:06}.png"


@dataclass(frozen=True)
class Judgement:
    """One picture, as a line of GenEval's results."""

    filename: str
    tag: str
    prompt: str
    correct: bool
    reason: str
    metadata: str  # the task as JSON, by which GenEval's summary groups pictures


def compose(
    pipeline: Pipeline,
    tasks: Sequence[Task],
    samples: int,
    settings: Request,
    folder: Path,
    place: Place,
    made: Mapping,
) -> list[Path]:
    """Draw `samples` pictures of every task into `folder`, seeds counted from the settings'; those that are there stay.

    `made` says how they are drawn (model, settings): a folder that was drawn otherwise is refused. Returns the paths,
    task by task. The folder is one to give to the benchmark's own tools.
    """
    require(samples >= 1, "the number of samples", samples, "at least 1")
    if place is t2i_compbench_place:
        tasks = [t for t in tasks for _ in range(samples)]  # it numbers pictures, not prompts
        work = [(i, task, i % samples) for i, task in enumerate(tasks)]
    else:
        work = [(i, task, s) for i, task in enumerate(tasks) for s in range(samples)]
    paths = [folder / place(i, task, s) for i, task, s in work]
    _claim(folder, made)
    notes = {folder / f"{i:05}" / "metadata.jsonl": task for i, task in enumerate(tasks) if place is geneval_place}
    _require_same_tasks(notes)
    left = [n for n, path in enumerate(paths) if not os.path.isfile(path)]
    requests = [replace(settings, prompt=work[n][1].prompt, seed=settings.seed + work[n][2]) for n in left]
    for path in {p.parent for p in paths}:
        made_folder(path)
    for path, task in notes.items():
        with whole_file(path) as file:
            file.write(json.dumps(task.metadata()).encode())
    events = (e for e in pipeline.run(requests, batch_size=16) if not isinstance(e, Progress))
    for index, picture in track(events, "drawing", total=len(requests), transient=True):
        write_picture(paths[left[index]], picture.pixels, requests[index].prompt)
    return paths


def _claim(folder: Path, made: Mapping) -> None:
    """Make the folder, or make sure that what is in it was drawn in the same way."""
    note = folder / "drawn.json"
    if os.path.isfile(note):
        if (found := read_json(note)) != made:
            names = [k for k in {**found, **made} if found.get(k) != made.get(k)]
            raise InputError(f"{folder} holds pictures drawn otherwise ({', '.join(names)}); give another folder")
        return
    if os.path.exists(folder) and (not os.path.isdir(folder) or entries(folder)):
        raise InputError(f"{folder} exists already and was not drawn by this command; give an empty folder")
    made_folder(folder)
    with whole_file(note) as file:
        file.write(json.dumps(dict(made), indent=1).encode())


def _require_same_tasks(notes: Mapping[Path, Task]) -> None:
    """Refuse a folder in which one of the notes, GenEval's beside the pictures of a task, is of another task."""
    for path, task in notes.items():
        if os.path.isfile(path) and read_json(path) != task.metadata():
            raise InputError(
                f"{path} is not of {task.prompt!r}: its pictures are of other prompts; give another folder"
            )


def judged(judge: Judge, tasks: Sequence[Task], paths: Sequence[Path], folder: Path) -> list[Judgement]:
    """The judge's verdict on every picture; `paths` are as many a task as `compose` gave, task by task."""
    samples, found = len(paths) // len(tasks), []
    for n, path in enumerate(track(paths, "judging", transient=True)):
        found.append(_judgement(judge, tasks[n // samples], read_pixels(path), path.relative_to(folder).as_posix()))
    return found


def ceiling(judge: Judge, tasks: Sequence[tuple[Task, Scene]], width: int, height: int) -> list[Judgement]:
    """What the judge says of true scenes: no model can be found to do better."""
    known = enumerate(track(tasks, "true scenes", transient=True))
    return [_judgement(judge, task, render(scene, width, height), str(n)) for n, (task, scene) in known]


def _judgement(judge: Judge, task: Task, pixels: np.ndarray, name: str) -> Judgement:
    (findings,) = look(judge, to_tensor(pixels[None]))
    sign = None if task.sign is None else read_sign(pixels)
    correct, reason = verdict(task, findings.things, sign)
    return Judgement(name, task.tag, task.prompt, correct, reason, json.dumps(task.metadata()))


def overall(found: Sequence[Judgement]) -> tuple[dict[str, Share], float]:
    """By tag, and their mean: GenEval's overall score."""
    tags = list(dict.fromkeys(j.tag for j in found))
    shares = {t: Share(sum(j.correct for j in found if j.tag == t), sum(j.tag == t for j in found)) for t in tags}
    return shares, float(np.mean([s.value for s in shares.values()]))
