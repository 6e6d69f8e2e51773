"""What draws: the options that choose and change a model, and what is added to it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from darkroom.checkpoints.folders import CHECKPOINTS, called
from darkroom.cli.folders import completed
from darkroom.cli.options import Also, Preferred
from darkroom.errors import InputError, require
from darkroom.names import names_of

if TYPE_CHECKING:
    from darkroom.checkpoints.model import LoadedModel
    from darkroom.checkpoints.model_folders import ModelFolders

__all__ = ["Additions", "Models", "known_models", "require_threads"]

MAX_THREADS = 1024

PANEL = "Models"
DTYPES = ("auto", "bf16", "fp16", "fp32")
EMA = ("auto", "yes", "no")
MEMORY = ("auto", "low")
QUANTIZATIONS = ("int8", "fp8")
DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?")


def known_models(context: typer.Context, incomplete: str) -> list[str]:
    """Names that the shell offers for `-m`, besides paths."""
    from darkroom.checkpoints.locate import HOMES, shipped

    own = completed("checkpoints")(context, incomplete)
    return [*own, *(name for name in (*shipped(), *HOMES) if name.startswith(incomplete))]


@dataclass(frozen=True)
class Models:
    """The model, and how it is loaded."""

    name: Annotated[
        str,
        typer.Option(
            *("-m", "--model"),
            metavar="MODEL",
            help="A checkpoint's file or folder, a hub id, or a name; default: picturebook.",
            rich_help_panel=PANEL,
            autocompletion=known_models,
        ),
        Also("--ckpt"),
        Preferred("model"),
    ] = "picturebook"
    vae: Annotated[
        str | None,
        typer.Option(
            "--vae",
            metavar="MODEL",
            help="Another first stage's file, folder or name.",
            rich_help_panel=PANEL,
            autocompletion=completed("vae"),
        ),
    ] = None
    prediction: Annotated[
        str | None,
        typer.Option("--prediction", metavar="eps|v|x0", help="Against what the file says.", rich_help_panel=PANEL),
    ] = None
    ema: Annotated[
        str, typer.Option("--ema", metavar="auto|yes|no", help="Averaged weights.", rich_help_panel=PANEL)
    ] = "auto"
    dtype: Annotated[
        str,
        typer.Option(
            "--dtype", metavar="auto|bf16|fp16|fp32", help="Precision; auto: what is fast here.", rich_help_panel=PANEL
        ),
    ] = "auto"
    device: Annotated[
        str,
        typer.Option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1 …", rich_help_panel=PANEL),
        Preferred("device"),
    ] = "cpu"
    threads: Annotated[
        int | None,
        typer.Option("-t", "--threads", metavar="INTEGER", help="Cores to use; default: all.", rich_help_panel=PANEL),
    ] = None
    memory: Annotated[
        str, typer.Option("--memory", metavar="auto|low", help="low: slower, in less.", rich_help_panel=PANEL)
    ] = "auto"
    quantize: Annotated[
        str | None,
        typer.Option(
            "--quantize",
            metavar="int8|fp8",
            help="Round large linear layers: faster, another picture.",
            rich_help_panel=PANEL,
        ),
    ] = None
    local: Annotated[
        bool,
        typer.Option("--local", help="Draw here, also where a server of yours runs.", rich_help_panel=PANEL),
    ] = False
    compiled: Annotated[
        bool, typer.Option("--compile", help="Make kernels first; pays for many pictures.", rich_help_panel=PANEL)
    ] = False

    def __post_init__(self) -> None:
        for what, value, known in (
            ("dtype", self.dtype, DTYPES),
            ("choice of averaged weights", self.ema, EMA),
            ("memory", self.memory, MEMORY),
            ("quantization", self.quantize, (None, *QUANTIZATIONS)),
        ):
            if value not in known:
                raise InputError(f"unknown {what} {value!r}; known are: {', '.join(filter(None, known))}")
        if not DEVICE.fullmatch(self.device):
            raise InputError(f"unknown device {self.device!r}; known are: cpu, cuda, cuda:1 …, mps")
        if self.prediction is not None:
            names_of("prediction").name(self.prediction)
        if self.compiled and self.memory == "low":
            raise InputError("compiled kernels want their weights in place: take either --compile or --memory low")
        require_threads(self.threads)

    def within(self, folders: ModelFolders) -> Models:
        """With the paths of files that are called by their names in `folders`."""
        vae = self.vae and called(CHECKPOINTS, self.vae, folders.vae)
        return replace(self, name=called(CHECKPOINTS, self.name, folders.checkpoints), vae=vae)

    def load(self) -> LoadedModel:
        """The model, ready to run."""
        import torch

        from darkroom.checkpoints.model import load_model

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        kinds = {"auto": None, "bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
        return load_model(
            self.name,
            self.device,
            kinds[self.dtype],
            vae=self.vae,
            prediction=self.prediction,
            ema=self.ema,
            memory=self.memory,
            compile=self.compiled,
            quantize=self.quantize,
        )


@dataclass(frozen=True)
class Additions:
    """What changes the model of some pictures: LoRAs, and a second model for the end."""

    lora: Annotated[
        list[str] | None,
        typer.Option(
            "--lora",
            metavar="NAME[:WEIGHT]",
            help="As <lora:NAME:WEIGHT> in every prompt.",
            rich_help_panel=PANEL,
            autocompletion=completed("loras"),
        ),
    ] = None
    refiner: Annotated[
        str | None,
        typer.Option(
            "--refiner",
            metavar="MODEL",
            help="A model that draws the end.",
            rich_help_panel=PANEL,
            autocompletion=known_models,
        ),
    ] = None
    switch_at: Annotated[
        float | None,
        typer.Option(
            "--switch-at",
            metavar="NUMBER",
            help="Share of the schedule that the base draws, 0.8 by default.",
            rich_help_panel=PANEL,
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.switch_at is not None and self.refiner is None:
            raise InputError("--switch-at says nothing without --refiner")

    def within(self, folders: ModelFolders) -> Additions:
        """With the path of a refiner that is called by its name in `folders`."""
        return replace(self, refiner=self.refiner and called(CHECKPOINTS, self.refiner, folders.checkpoints))

    @property
    def switch(self) -> float:
        """The share of the schedule that the base draws."""
        return 0.8 if self.switch_at is None else self.switch_at

    @property
    def tags(self) -> str:
        """The LoRAs as tags of a prompt. A name may be a path; the weight is what stands behind the last colon."""
        return "".join(_tag(entry) for entry in self.lora or ())


def _tag(entry: str) -> str:
    name, colon, weight = entry.rpartition(":")
    try:
        return f"<lora:{name}:{float(weight):g}>" if colon else f"<lora:{entry}:1>"
    except ValueError:
        return f"<lora:{entry}:1>"


def require_threads(threads: int | None) -> None:
    """`InputError` for a number of threads for which OpenMP would end the process."""
    require(threads is None or 1 <= threads <= MAX_THREADS, "the number of threads", threads, f"1 to {MAX_THREADS}")
