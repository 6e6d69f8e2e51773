"""Where pictures go: numbered files in a folder, one named file, or the frames of one animation."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from darkroom.cli.options import Preferred
from darkroom.errors import InputError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Output"]

ENDINGS = ("png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "avif")  # of names that mean a picture


@dataclass(frozen=True)
class Output:
    """A folder, or the name of one file."""

    path: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="PATH", help="Folder for the pictures, or the name of one: picture.png."
        ),
        Preferred("output"),
    ] = Path("out")
    form: Annotated[
        str | None, typer.Option("--format", metavar="png|jpg|webp", help="All carry the parameters; default: png.")
    ] = None

    @property
    def ending(self) -> str:
        """The format of pictures, without the dot; also that of the one file."""
        return self.form or (self.path.suffix[1:].lower() if self.is_file else "png")

    @property
    def is_file(self) -> bool:
        """Whether the path is a picture's name."""
        return self.path.suffix[1:].lower() in ENDINGS and not os.path.isdir(self.path)

    @property
    def folder(self) -> Path:
        """Where the files come to lie."""
        return self.path.parent if self.is_file else self.path

    def check(self, *, frames: bool = False) -> None:
        """`InputError` if nothing can be written there. `frames`: they may become one animation."""
        from darkroom.pictures.animation import ANIMATIONS
        from darkroom.pictures.picture_file import FORMATS, check_writable

        known = dict.fromkeys((*FORMATS, *ANIMATIONS)) if frames and self.is_file else FORMATS
        if self.ending not in known:
            raise InputError(f"unknown format {self.ending!r}; known are: {', '.join(known)}")
        if self.is_file and self.form is not None and _kind(self.form) != _kind(self.path.suffix[1:].lower()):
            raise InputError(f"--format {self.form} is another format than that of {self.path}")
        check_writable(self.folder, self.path.name if self.is_file else "")

    def animates(self) -> bool:
        """Whether frames become one file that moves."""
        from darkroom.pictures.animation import ANIMATIONS

        return self.is_file and self.ending in ANIMATIONS

    def first_number(self) -> int:
        """That of the first of several pictures: after those that are in the folder."""
        from darkroom.pictures.picture_file import next_number

        return 0 if self.is_file else next_number(self.folder)

    def write(self, number: int, of: int, pixels: np.ndarray, parameters: str, seed: int) -> Path:
        """Write the picture `number`, one of `of`, uint8 (H, W, 3); returns its path.

        One picture takes the place of the named file. Several get its name with numbers; those, and the names in a
        folder, are always new.
        """
        from darkroom.pictures.picture_file import write_new_picture, write_picture
        from darkroom.whole_file import made_folder

        made_folder(self.folder)
        if self.is_file and of == 1:
            write_picture(self.path, pixels, parameters)
            return self.path
        return write_new_picture(self._new_paths(number, seed), pixels, parameters)

    def place(self, number: int, of: int, content: bytes, seed: int) -> Path:
        """As `write`, of a picture whose file's bytes are there already."""
        from darkroom.whole_file import made_folder, new_file, whole_file

        made_folder(self.folder)
        if self.is_file and of == 1:
            with whole_file(self.path) as file:
                file.write(content)
            return self.path
        with new_file(self._new_paths(number, seed)) as new:
            new.file.write(content)
        return new.path

    def write_animation(self, frames: Sequence[np.ndarray], parameters: str, rate: float) -> Path:
        """Write `frames`, uint8 (H, W, 3) each, as one file, `rate` of them a second."""
        from darkroom.pictures.animation import write_animation
        from darkroom.whole_file import made_folder

        made_folder(self.folder)
        write_animation(self.path, frames, parameters, rate)
        return self.path

    def _new_paths(self, first: int, seed: int) -> Iterator[Path]:
        """The paths that one of several pictures may get, the next ones where others have them."""
        from darkroom.pictures.picture_file import numbered_paths

        if not self.is_file:
            return numbered_paths(self.folder, first, f"-{seed}.{self.ending}")
        return (self.path.with_name(f"{self.path.stem}-{i}{self.path.suffix}") for i in count(first))


def _kind(ending: str) -> str:
    return "jpg" if ending == "jpeg" else ending
