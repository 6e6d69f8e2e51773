"""The prompts of a command: on the line, in a file, or from standard input."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from darkroom.errors import InputError, require
from darkroom.input_file import read_stdin, read_text
from darkroom.requests.settings import DRAWING

__all__ = ["Prompts", "parse_lines"]

MAX_PICTURES = 100_000  # of one call: all are planned before the first is drawn, in 6 KB each


@dataclass(frozen=True)
class Prompts:
    """What to draw, and how often."""

    listed: Annotated[
        list[str] | None, typer.Argument(metavar="[PROMPT]...", help="What to draw; one picture or batch each.")
    ] = None
    more: Annotated[
        list[str] | None,
        typer.Option("-p", "--prompt", metavar="TEXT", help="One more of them.", rich_help_panel=DRAWING),
    ] = None
    file: Annotated[
        str | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            help="One a line, or JSON lines; - reads standard input.",
            rich_help_panel=DRAWING,
        ),
    ] = None
    batch: Annotated[
        int,
        typer.Option(
            "-b",
            "--batch-count",
            metavar="INTEGER",
            help="Pictures per prompt, with seeds counting up.",
            rich_help_panel=DRAWING,
        ),
    ] = 1

    def __post_init__(self) -> None:
        require(1 <= self.batch <= MAX_PICTURES, "the batch count", self.batch, f"1 to {MAX_PICTURES}")
        words = self.listed or []
        if len(words) > 1 and not any(" " in word or not word for word in words):
            text, each = " ".join(words), " ".join(f"-p {word}" for word in words)
            raise InputError(
                f'the words are not quoted: write "{text}" for one picture of them, {each} for one of each'
            )

    def read(self) -> list[dict[str, Any]]:
        """For each prompt the settings that come with it, the prompt among them. None where nothing is asked for."""
        entries: list[dict[str, Any]] = [{"prompt": text} for text in (*(self.listed or ()), *(self.more or ()))]
        if self.file is not None:
            name = "standard input" if self.file == "-" else self.file
            found = parse_lines(_text(self.file), name)
            if not found:
                raise InputError(f"{name} holds no prompts")
            entries += found
        if (pictures := len(entries) * self.batch) > MAX_PICTURES:
            raise InputError(f"{pictures} pictures are asked for, accepted are at most {MAX_PICTURES} a call")
        return entries


def parse_lines(text: str, name: str) -> list[dict[str, Any]]:
    """A prompt a line; a JSON object is settings by name, `prompt` among them, or a line of `darkroom data prompts`."""
    lines = text.split("\n")  # other characters that end lines may stand inside JSON
    if len(lines) > 10 * MAX_PICTURES:
        raise InputError(f"{name} has {len(lines)} lines, accepted are at most {10 * MAX_PICTURES}")
    return [_line(line.strip(), f"{name} line {i}") for i, line in enumerate(lines, 1) if line.strip()]


def _line(line: str, where: str) -> dict[str, Any]:
    if not line.startswith("{"):
        return {"prompt": line}
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return {"prompt": line}  # braces are words of a prompt
    if isinstance(caption := said.get("caption"), str):
        return {"prompt": caption}
    if not isinstance(said.get("prompt"), str):
        raise InputError(f"{where} holds neither a prompt nor a caption")
    return said


def _text(file: str) -> str:
    if file == "-":
        return read_stdin()
    return read_text(Path(os.path.expanduser(file)))
