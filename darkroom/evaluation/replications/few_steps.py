"""A distilled student draws in one to four steps what its teacher needs many for (papers G.18)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from darkroom.checkpoints.model import load_model
from darkroom.data.picturebook.prompts import sample_prompts
from darkroom.engine.pipeline import Pipeline
from darkroom.evaluation.drawn import draw_pixels
from darkroom.evaluation.few_steps import FewStepsRow, few_steps_row
from darkroom.evaluation.judging import load_judge
from darkroom.evaluation.replications.claim import CLAIMS, Claim, Outcome, Verdict, apart, no_higher
from darkroom.evaluation.replications.laboratory import point, shown
from darkroom.evaluation.replications.plot import curves
from darkroom.evaluation.replications.trial import Trial
from darkroom.pictures.labels import labeled_sheet
from darkroom.types import Request

__all__ = ["run", "verdicts_of"]

TEACHER, STUDENT = "picturebook", "picturebook-turbo"
SHOWN = 5


@dataclass(frozen=True)
class Size:
    teacher: tuple[int, ...]  # numbers of steps, from few to many
    student: tuple[int, ...]
    prompts: int
    varied: int  # of them are drawn with several seeds


SIZES = {
    "tiny": Size((4, 16), (1, 4), 100, 12),
    "small": Size((4, 8, 16), (1, 2, 4), 300, 30),
    "full": Size((4, 8, 16, 25, 50), (1, 2, 4), 5000, 200),
}


def run(trial: Trial) -> Outcome:
    """The teacher with DPM++ 2M at several numbers of steps, the student at one to four; the same prompts and seeds."""
    size, seed, judge = SIZES[trial.scale], trial.seed, load_judge()
    listed = sample_prompts(seed, size.prompts, (1, 2))
    models = {name: load_model(name, "cpu") for name in (TEACHER, STUDENT)}
    rows: list[FewStepsRow] = []
    drawings: list[np.ndarray] = []
    for name, steps in ((TEACHER, size.teacher), (STUDENT, size.student)):
        pipeline = Pipeline(models[name].model)
        for n in steps:
            rows.append(few_steps_row(pipeline, name, listed, judge, Request(steps=n), varied=size.varied))
            requests = [Request(p.caption, seed=i, steps=n) for i, p in enumerate(listed[:SHOWN])]
            drawings += list(draw_pixels(pipeline, requests))
    table = [["model", "steps", "prompts kept", "Fréchet distance", "variety", "seconds a picture"]]
    for r in rows:
        low, high = r.right.interval
        kept = f"{r.right.value:.0%} ({low:.0%} – {high:.0%})"
        table.append([r.model, str(r.steps), kept, shown(r.frechet), shown(r.variety), f"{r.seconds:.2f}"])
    panels = {
        "prompts kept": [(r.right.value, r.right.interval) for r in rows],
        "Fréchet distance": [point(r.frechet) for r in rows],
        "variety": [point(r.variety) for r in rows],
    }
    places = [f"{'t' if r.model == TEACHER else 's'} {r.steps}" for r in rows]
    columns = [p.caption for p in listed[:SHOWN]]
    picture = labeled_sheet(drawings, columns, places, [""])
    hashes = ", ".join(f"{m.name} {m.hash}" for m in models.values())
    teacher, student = rows[: len(size.teacher)], rows[len(size.teacher) :]
    notes = (
        f"{size.prompts} prompts; t: the teacher, s: the student. Seconds are of the clock, longer where other "
        f"programs run. Models {hashes}, the judge that ships."
    )
    return Outcome(table, verdicts_of(teacher, student), curves("steps", places, panels), picture, notes)


def verdicts_of(teacher: list[FewStepsRow], student: list[FewStepsRow]) -> list[Verdict]:
    """Rows by rising steps; shares and means by their intervals."""
    few, many = teacher[0], teacher[-1]
    one, four = student[0], student[-1]
    return [
        Verdict(
            f"one step of the student keeps more prompts than {few.steps} of its teacher",
            apart(one.right.interval, few.right.interval),
        ),
        Verdict(
            f"{four.steps} steps of the student keep no fewer prompts than {many.steps} of its teacher",
            no_higher(many.right.interval, four.right.interval),
        ),
        Verdict(
            "more steps of the student keep no fewer prompts than one",
            no_higher(one.right.interval, four.right.interval),
        ),
        Verdict("the price is variety: the student's pictures of one prompt are more alike",
                apart(many.variety, four.variety)),
    ]  # fmt: skip


CLAIMS.add(
    "few-steps",
    Claim(
        title="Adversarial distillation: one to four steps",
        source="Sauer et al. 2023, table 2 and figures 4 and 8",
        paper="COCO: one step of the student has FID 19.7, DPM-Solver on its teacher 20.1 after 25 steps, 31.7 "
        "after 8; more steps refine, and variety is the price.",
        protocol="The picture-book model that ships and the student distilled from it. Prompts kept: the judge finds "
        "all that the prompt says. Variety: the mean distance of pictures of one prompt in the judge's features, over "
        "that of pictures of different ones.",
        run=run,
    ),
)
