"""Control networks on the command line: each `--control` with a picture, and with what else is said of it in order."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from darkroom.cli.options import Also
from darkroom.errors import InputError
from darkroom.types import ControlUnit

__all__ = ["Controls"]

PANEL = "Control networks"


@dataclass(frozen=True)
class Controls:
    """The units of all pictures. Options are given once for each `--control`, in its order, or once for all."""

    models: Annotated[
        list[str] | None,
        typer.Option(
            "--control",
            metavar="MODEL",
            help="A ControlNet, T2I-Adapter or IP-Adapter: its file, folder, name or hub id. One --hint each.",
            rich_help_panel=PANEL,
        ),
        Also("--controlnet", "--ip-adapter", "--t2i-adapter"),
    ] = None
    hints: Annotated[
        list[str] | None,
        typer.Option("--hint", metavar="FILE", help="The picture that it reads.", rich_help_panel=PANEL),
        Also("--control-image", "--ip-adapter-image"),
    ] = None
    preprocessors: Annotated[
        list[str] | None,
        typer.Option(
            "--preprocessor",
            metavar="NAME",
            help="Make the hint of the picture: canny, lineart, blur, tile, or none.",
            rich_help_panel=PANEL,
        ),
    ] = None
    weights: Annotated[
        list[float] | None,
        typer.Option("--control-weight", metavar="NUMBER", help="How strongly, 1 by default.", rich_help_panel=PANEL),
        Also("--controlnet-scale", "--ip-adapter-scale"),
    ] = None
    starts: Annotated[
        list[float] | None,
        typer.Option("--control-start", metavar="NUMBER", help="From this share of the steps.", rich_help_panel=PANEL),
    ] = None
    ends: Annotated[
        list[float] | None,
        typer.Option("--control-end", metavar="NUMBER", help="To this share of the steps.", rich_help_panel=PANEL),
    ] = None
    guess: Annotated[
        bool,
        typer.Option(
            "--guess", help="ControlNets act where the prompt does, coarse features most.", rich_help_panel=PANEL
        ),
    ] = False
    encoder: Annotated[
        str | None,
        typer.Option(
            "--image-encoder",
            metavar="MODEL",
            help="Of IP-Adapters; default: image_encoder beside them.",
            rich_help_panel=PANEL,
        ),
    ] = None

    def __post_init__(self) -> None:
        count = len(self.models or ())
        if len(self.hints or ()) != count:
            pictures = _times(len(self.hints or ()))
            raise InputError(f"--control is given {_times(count)}, --hint {pictures}: expected is one picture each")
        for flag, values in (
            ("--preprocessor", self.preprocessors),
            ("--control-weight", self.weights),
            ("--control-start", self.starts),
            ("--control-end", self.ends),
        ):
            if values and not count:
                raise InputError(f"{flag} says nothing without --control")
            if values and len(values) not in (1, count):
                raise InputError(f"{flag} is given {_times(len(values))}, expected is once, or once for each --control")
        if not count and (self.guess or self.encoder is not None):
            raise InputError(f"{'--guess' if self.guess else '--image-encoder'} says nothing without --control")

    def said(self) -> dict[str, Any]:
        """The setting of a request; nothing where no control is given. Reads the pictures."""
        if not self.models:
            return {}
        from darkroom.pictures.reading import read_pixels

        made = [None if name == "none" else name for name in self.preprocessors or ("none",)]
        others = (made, self.weights or (1.0,), self.starts or (0.0,), self.ends or (1.0,))
        rows = zip(self.models, self.hints or (), *(_each(values, len(self.models)) for values in others))
        return {
            "controls": tuple(
                ControlUnit(
                    model,
                    read_pixels(path := Path(os.path.expanduser(hint))),
                    weight=weight,
                    start=start,
                    end=end,
                    guess=self.guess,
                    preprocessor=preprocessor,
                    encoder=self.encoder,
                    image_path=str(path.absolute()),
                )
                for model, hint, preprocessor, weight, start, end in rows
            )
        }


def _each(values: Any, count: int) -> Any:
    return values if len(values) == count else [*values] * count


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
