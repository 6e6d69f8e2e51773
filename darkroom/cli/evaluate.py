"""`darkroom evaluate`: what the models are worth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from darkroom.cli import (
    evaluate_composition,
    evaluate_few_steps,
    evaluate_inputs,
    evaluate_metrics,
    evaluate_pictures,
)
from darkroom.cli.models import Models
from darkroom.cli.options import Panels, with_options
from darkroom.errors import InputError
from darkroom.requests.change import changed
from darkroom.requests.settings import GUIDANCE, SETTINGS, SPEED
from darkroom.types import Request

__all__ = ["app"]

app = typer.Typer(help="Measure models.", no_args_is_help=True)


@app.command()
def judge(
    count: Annotated[int, typer.Option("--count", help="Held-out renders to read.")] = 2000,
    weights: Annotated[Path | None, typer.Option(help="A judge's file; default: the one that ships.")] = None,
) -> None:
    """The judge's own accuracy on renders that it was not trained on."""
    if count < 1:
        raise InputError(f"the number of renders is {count}, expected is at least 1")
    import dataclasses

    from darkroom.evaluation.judging import judge_accuracy, load_judge

    accuracy = judge_accuracy(load_judge(weights), count)
    for name, value in dataclasses.asdict(accuracy).items():
        print(f"{name:13} {value if name == 'things' else f'{value:.2%}'}")


@dataclass(frozen=True)
class Benchmark:
    """What is drawn and judged, and where the report goes."""

    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", metavar="FILE", help="JSON lines; default: 500 prompts of one or two things."),
    ] = None
    judge: Annotated[
        Path | None, typer.Option("--judge", metavar="FILE", help="A judge's file; default: the one that ships.")
    ] = None
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="JSON file for the report.")] = (
        None
    )
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="FILE", help="PNG file for a sheet of the first pictures.")
    ] = None
    varied: Annotated[
        int,
        typer.Option(
            "--varied", min=0, help="Prompts that are drawn six times more, to see what varies that they leave open."
        ),
    ] = 0


def _picturebook(models: Models, wanted: Benchmark, said: dict[str, Any]) -> None:
    """Draw a list of held-out prompts and report how many pictures keep what was promised.

    The judge reads on the processor, whatever draws.
    """
    request = changed(Request(), said)
    from contextlib import ExitStack

    from darkroom.cli.handover import served_model
    from darkroom.data.picturebook.prompts import read_prompts, sample_prompts
    from darkroom.engine.pipeline import Pipeline
    from darkroom.evaluation.judging import load_judge
    from darkroom.evaluation.picturebook import benchmark, print_report, write_report
    from darkroom.nn.device import find_device
    from darkroom.whole_file import whole_file

    find_device(models.device)
    listed = read_prompts(wanted.prompts) if wanted.prompts is not None else sample_prompts(0, 500, (1, 2))
    pipeline = served_model(models) or Pipeline(models.load().model)
    with ExitStack() as files:  # paths that cannot be written are refused before any work
        report_file = None if wanted.output is None else files.enter_context(whole_file(wanted.output))
        sheet_file = None if wanted.sheet is None else files.enter_context(whole_file(wanted.sheet))
        report = benchmark(pipeline, listed, load_judge(wanted.judge), request, sheet_file, varied=wanted.varied)
        if report_file is not None:
            write_report(report_file, report)
    print_report(report)


# What may be varied: how pictures are drawn, not what they show.
SAMPLING = ("steps", "guidance_scale", "sampler", "schedule", "sigmas", "sampler_options.eta", "sampler_options")
DRAWN_BY = tuple(s for s in SETTINGS if s.path in SAMPLING or (s.panel in (GUIDANCE, SPEED) and s.kind == "value"))
SIZED_BY = tuple(s for s in SETTINGS if s.path in ("width", "height", "seed", "negative_prompt"))
app.command("picturebook", cls=Panels)(with_options(_picturebook, Models, Benchmark, settings=DRAWN_BY))
app.command("composition", cls=Panels)(
    with_options(
        evaluate_composition.composition, Models, evaluate_composition.Composition, settings=(*DRAWN_BY, *SIZED_BY)
    )
)
app.command("inputs", cls=Panels)(
    with_options(evaluate_inputs.inputs, Models, evaluate_inputs.Inputs, settings=DRAWN_BY)
)


@dataclass(frozen=True)
class Diagnosis:
    """What is drawn to tell words from seeds, and where the report goes."""

    model: Annotated[str, typer.Argument(metavar="[MODEL]", help="Folder of a system, or its name.")] = "picturebook"
    prompts: Annotated[int, typer.Option("--prompts", help="Prompts for each sort of word.")] = 6
    seeds: Annotated[int, typer.Option("--seeds", help="Seeds for each prompt.")] = 6
    scenes: Annotated[int, typer.Option("--scenes", help="True scenes to encode and decode.")] = 256
    device: Annotated[
        str, typer.Option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1 …; the judge reads on the processor.")
    ] = "cpu"
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="JSON file for the report.")] = (
        None
    )
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="SVG file for a drawing of the report.")
    ] = None


def _conditioning(wanted: Diagnosis, said: dict[str, Any]) -> None:
    """How far pictures follow each sort of word, how far the seed, at which noise; what the first stage loses."""
    request = changed(Request(steps=12), said)
    from contextlib import ExitStack

    from darkroom.checkpoints.model import load_model
    from darkroom.evaluation.conditioning import measure
    from darkroom.evaluation.conditioning_report import draw_conditioning, print_conditioning, write_conditioning
    from darkroom.evaluation.first_stage import first_stage_ceiling
    from darkroom.evaluation.judging import load_judge
    from darkroom.nn.device import find_device
    from darkroom.whole_file import whole_file

    find_device(wanted.device)
    model, judge = load_model(wanted.model, wanted.device).model, load_judge()
    with ExitStack() as files:  # paths that cannot be written are refused before any work
        report_file = None if wanted.output is None else files.enter_context(whole_file(wanted.output))
        plot_file = None if wanted.plot is None else files.enter_context(whole_file(wanted.plot))
        report = measure(model, judge, request, prompts=wanted.prompts, seeds=wanted.seeds)
        ceiling = first_stage_ceiling(model, judge, wanted.scenes)
        if report_file is not None:
            write_conditioning(report_file, report, ceiling)
        if plot_file is not None:
            draw_conditioning(plot_file, report)
    print_conditioning(report, ceiling)


STEPPED_BY = tuple(s for s in SETTINGS if s.path in ("steps", "guidance_scale"))
app.command("conditioning", cls=Panels)(with_options(_conditioning, Diagnosis, settings=STEPPED_BY))
for command in (
    evaluate_pictures.pictures,
    evaluate_pictures.pairs,
    evaluate_pictures.prompts,
    evaluate_pictures.copies,
    evaluate_pictures.autoencoder,
    evaluate_metrics.metrics,
    evaluate_few_steps.few_steps,
    evaluate_inputs.denoising,
):
    app.command()(command)
