"""Picture files that carry their request."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from darkroom.errors import InputError

__all__ = ["check_writable", "write_png"]


def check_writable(folder: Path) -> None:
    """Make `folder` if need be; `InputError` if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the output folder {folder} cannot be made: {error.strerror}") from None
    probe = folder / f".darkroom-{os.getpid()}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"nothing can be written to the output folder {folder}: {error.strerror}") from None


def write_png(path: Path, pixels: np.ndarray, parameters: str) -> None:
    """Write uint8 (H, W, 3) with the text under the key `parameters`, whole or not at all."""
    info = PngInfo()
    info.add_text("parameters", parameters)
    fresh = path.with_name(path.name + ".new")
    try:
        Image.fromarray(pixels).save(fresh, format="PNG", pnginfo=info)
        os.replace(fresh, path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written: {error.strerror}") from None
