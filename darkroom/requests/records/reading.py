"""Which dialect a picture's metadata is in, and what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from darkroom.errors import InputError
from darkroom.pictures.picture_file import user_comment
from darkroom.pictures.reading import opened
from darkroom.requests.records import a1111, comfy, fooocus, invoke
from darkroom.requests.records.found import Found

__all__ = ["read_picture"]

MAX_TEXT = 4 << 20  # characters; ComfyUI's graphs are the longest that are written


def read_picture(path: Path) -> Found:
    """What the PNG, JPEG or WebP at `path` says of how it was made, by this tool, A1111, ComfyUI, InvokeAI or Fooocus.

    `InputError` if it is no picture or says nothing.
    """
    with opened(path) as image:
        texts = _texts(image)
    for key, reader in DIALECTS:
        if key in texts and (found := reader(texts)) is not None:
            return found
    held = ", ".join(texts) or "nothing"
    raise InputError(f"{path} does not say how it was made; its texts are: {held}")


def _texts(image: Image.Image) -> dict[str, str]:
    texts = {k: v for k, v in image.info.items() if isinstance(k, str) and isinstance(v, str)}
    comment = user_comment(image)
    if comment:
        texts.setdefault("parameters", comment)
    for key, text in texts.items():
        if len(text) > MAX_TEXT:
            raise InputError(f"the picture's text {key!r} has {len(text)} characters, read are at most {MAX_TEXT}")
    return texts


def table(text: str) -> dict[str, Any] | None:
    """JSON that is a table; None for anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _a1111(texts: dict[str, str]) -> Found | None:
    found = a1111.parse_parameters(texts["parameters"])
    if texts.get("fooocus_scheme") == "a1111":  # A1111's words, but the noise is ComfyUI's
        return replace(found, dialect="Fooocus", request=replace(found.request, seed_mode="comfy"))
    return found


def _fooocus(texts: dict[str, str]) -> Found | None:
    said = table(texts["parameters"])
    return None if said is None else fooocus.read(said)


def _comfy(texts: dict[str, str]) -> Found | None:
    graph = table(texts["prompt"])
    return None if graph is None else comfy.read(graph)


def _invoke(texts: dict[str, str]) -> Found | None:
    said = table(texts["invokeai_metadata"])
    return None if said is None else invoke.read(said)


# In the order they are tried, by the key that holds them. Fooocus's own scheme is JSON under A1111's key.
DIALECTS: tuple[tuple[str, Callable[[dict[str, str]], Found | None]], ...] = (
    ("invokeai_metadata", _invoke),
    ("parameters", _fooocus),
    ("parameters", _a1111),
    ("prompt", _comfy),
)
