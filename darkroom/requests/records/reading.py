"""Which dialect a picture's metadata is in, and what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from darkroom.errors import InputError, printable
from darkroom.pictures.picture_file import user_comment
from darkroom.pictures.reading import DAMAGE, opened
from darkroom.requests.records import a1111, comfy, diffusers, draw_things, fooocus, invoke, invoke_old, novelai, swarm
from darkroom.requests.records.found import Found

__all__ = ["read_picture"]

MAX_TEXT = 4 << 20  # characters; ComfyUI's graphs are the longest that are written
MAX_NESTED = 100  # tables within tables

Texts = dict[str, str]  # of a file, by their keys


def read_picture(path: Path) -> Found:
    """What the picture at `path` says of how it was made, by this tool or another one.

    Known are A1111 and what writes as it does (Forge, SD.Next …), ComfyUI, InvokeAI, Fooocus, SwarmUI, NovelAI, Draw
    Things, Easy Diffusion and scripts around Diffusers. `InputError` if it is no picture or says nothing.
    """
    with opened(path) as image:
        texts = _texts(image)
    for key, reader in DIALECTS:
        if key in texts and (found := reader(texts)) is not None:
            return found
    held = ", ".join(texts) or "nothing"
    raise InputError(f"{path} does not say how it was made; its texts are: {printable(held, 300)}")


def _texts(image: Image.Image) -> Texts:
    texts = {k: v for k, v in image.info.items() if isinstance(k, str) and isinstance(v, str)}
    for key in ("xmp", "comment"):  # the comment of GIF and JPEG
        if isinstance(value := image.info.get(key), bytes):
            texts[key] = value.decode(errors="replace")
    try:
        tags = [image.getexif().get(tag) for tag in COMFY_TAGS]
        comment = user_comment(image)
    except DAMAGE:  # the other texts may be sound
        tags, comment = [], None
    for tag in tags:
        key, colon, text = tag.partition(":") if isinstance(tag, str) else ("", "", "")
        if colon and key.lower() in ("prompt", "workflow"):
            texts.setdefault(key.lower(), text)
    if comment:
        texts.setdefault("parameters", comment)
    xmp = texts.get("XML:com.adobe.xmp", texts.get("xmp"))
    if xmp is not None and len(xmp) <= MAX_TEXT and (said := draw_things.comment(xmp)) is not None:
        texts.setdefault("parameters", said)
    for key, text in texts.items():
        if len(text) > MAX_TEXT:
            raise InputError(
                f"the picture's text {printable(key)!r} has {len(text)} characters, read are at most {MAX_TEXT}"
            )
    return texts


COMFY_TAGS = (ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model)  # of its WebP files


def table(text: str) -> dict[str, Any] | None:
    """JSON that is a table, nested MAX_NESTED deep at most; None for anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    level: list[Any] = [found] if isinstance(found, dict) else []
    for _ in range(MAX_NESTED):
        inner = (v for held in level for v in (held.values() if isinstance(held, dict) else held))
        level = [v for v in inner if isinstance(v, (dict, list))]
    return found if isinstance(found, dict) and not level else None


def _a1111(texts: Texts) -> Found | None:
    if table(texts["parameters"]) is not None or not texts["parameters"].strip():
        return None
    found = a1111.parse_parameters(texts["parameters"])
    if texts.get("fooocus_scheme") == "a1111":  # A1111's words and weights, but ComfyUI's prompts and noise
        told = replace(found.request, seed_mode="comfy", prompt_syntax="comfy", emphasis="a1111")
        return replace(found, dialect="Fooocus", request=told)
    return found


def _parameter_table(texts: Texts) -> Found | None:
    """The tools that write a table where A1111 writes its text."""
    said = table(texts["parameters"])
    if said is None:
        return None
    graph = said.get("prompt")
    readers = (swarm.read, diffusers.read, fooocus.read, draw_things.read)
    found = next((f for reader in readers if (f := reader(said)) is not None), None)
    return found or comfy.read(graph if isinstance(graph, dict) else said)


def _comfy(texts: Texts) -> Found | None:
    graph = table(texts["prompt"])
    return None if graph is None else comfy.read(graph)


def _workflow(texts: Texts) -> Found | None:
    workflow = table(texts["workflow"])
    return None if workflow is None else comfy.read_workflow(workflow)


def _invoke(texts: Texts) -> Found | None:
    said = table(texts["invokeai_metadata"])
    return None if said is None else invoke.read(said)


def _invoke_2(texts: Texts) -> Found | None:
    said = table(texts["sd-metadata"])
    return None if said is None else invoke_old.read(said)


def _novelai(texts: Texts) -> Found | None:
    said = table(texts["Comment"])
    return None if said is None or not {"uc", "scale"} <= said.keys() else novelai.read(said, texts.get("Source"))


def _comment(texts: Texts) -> Found | None:
    """The comment of a GIF or JPEG, where it is such a text as A1111's."""
    return a1111.parse_parameters(texts["comment"]) if "Steps: " in texts["comment"] else None


# In the order they are tried, by the key that holds them.
DIALECTS: tuple[tuple[str, Callable[[Texts], Found | None]], ...] = (
    ("invokeai_metadata", _invoke),
    ("parameters", _parameter_table),
    ("parameters", _a1111),
    ("prompt", _comfy),
    ("workflow", _workflow),
    ("num_inference_steps", diffusers.read),
    ("sd-metadata", _invoke_2),
    ("Dream", lambda texts: invoke_old.read_dream(texts["Dream"])),
    ("Comment", _novelai),
    ("comment", _comment),
)
