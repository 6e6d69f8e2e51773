"""`darkroom inspect`, `convert` and `merge`: what a checkpoint is, the same in the other layout, sums of several."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from darkroom.cli.folders import kept_folders
from darkroom.errors import InputError, printable
from darkroom.requests.change import said

if TYPE_CHECKING:
    import torch

    from darkroom.diffusion.prediction import Prediction

__all__ = ["convert", "inspect", "merge"]

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff")
DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
Dtype = Annotated[str | None, typer.Option("--dtype", help="fp32, fp16 or bf16; default: as stored.")]
Ema = Annotated[str, typer.Option("--ema", help="Use the running average: auto, yes or no.")]
PredictionOption = Annotated[
    str | None, typer.Option("--prediction", help="eps, v or x0, where nothing else tells what the network predicts.")
]


def inspect(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A file, a folder, a shipped name or a hub id.")],
    ema: Ema = "auto",
    prediction: PredictionOption = None,
    hash: Annotated[bool, typer.Option(help="Compute the hash, which reads the whole file once.")] = True,
    finite: Annotated[bool, typer.Option("--finite", help="Look for NaN and infinite values.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON table.")] = False,
) -> None:
    """Say what a checkpoint is: system, prediction, precision, running average, sizes, hash; also of a LoRA.

    Of a picture it says how it was made.

    darkroom inspect v1-5-pruned-emaonly.safetensors
    """
    if Path(model).suffix.lower() in PICTURES and os.path.isfile(model):
        _print(_of_picture(Path(model)), as_json=as_json)
        return
    from darkroom.checkpoints.inspect import inspect as look
    from darkroom.checkpoints.locate import locate

    kept = kept_folders()
    facts = look(
        locate(model, kept.checkpoints + kept.loras + kept.embeddings + kept.vae + kept.controlnet),
        ema=ema,
        prediction=_prediction(prediction),
        hashed=hash,
        finite=finite,
    )
    _print(facts, as_json=as_json)


def _of_picture(path: Path) -> dict[str, Any]:
    """What the picture says of itself: settings by their paths, and what they do not cover."""
    from darkroom.requests.records import read_picture

    found = read_picture(path)
    facts = {"file": str(path), "written by": found.dialect, "model": found.model, "model hash": found.model_hash}
    for i, control in enumerate(found.controls):
        facts[f"control {i}"] = ", ".join(f"{k} {v}" for k, v in control.said().items())
    return {**facts, **said(found.request), "not understood": list(found.unmapped) or None}


def _print(facts: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts, indent=2, ensure_ascii=False, default=str))
        return
    width = max(len(name) for name in facts)
    for name, value in facts.items():  # some of it stands in the file
        if value is not None:
            print(f"{printable(name):{width}}  {printable(value, 1000)}")


def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help="A file, a folder or a hub id.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The file or folder to write.")],
    layout: Annotated[str, typer.Option("--layout", help="original (one file) or diffusers (a folder).")],
    dtype: Dtype = None,
    ema: Ema = "auto",
    prediction: PredictionOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it is a file that exists.")] = False,
) -> None:
    """Write the same weights in the other layout; there and back gives the same bits.

    darkroom convert sd_xl_base_1.0.safetensors sdxl/ --layout diffusers
    """
    if layout not in ("original", "diffusers"):
        raise InputError(f"unknown layout {layout!r}; known are: original, diffusers")
    _require_dtype(dtype)
    if layout == "original" and target.suffix != ".safetensors":
        raise InputError(f"{target} is to be one file; its name must end in .safetensors")
    if layout == "original" and os.path.exists(target) and not force:
        raise InputError(f"{target} exists already; --force replaces it")

    from darkroom.checkpoints.convert import Content, write_diffusers, write_original
    from darkroom.checkpoints.identify import identify
    from darkroom.checkpoints.locate import locate
    from darkroom.checkpoints.source import open_source

    opened = open_source(locate(source, kept_folders().checkpoints))
    identity = identify(opened, ema=ema, prediction=_prediction(prediction), hint=source)
    content = Content.of_source(opened, identity, _torch_dtype(dtype))
    notes = write_diffusers(content, target) if layout == "diffusers" else write_original(content, target)
    print(f"{identity.system.name} ({identity.told_by}), {identity.system.prediction} -> {target}")
    for note in notes or ():
        print(f"note: {note}")


def merge(
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The file or folder to write.")],
    parts: Annotated[
        list[str], typer.Argument(metavar="PART=WEIGHT", help="Models of one system or LoRAs for one, and weights.")
    ],
    dtype: Dtype = None,
    rank: Annotated[int | None, typer.Option("--rank", help="Of LoRAs: cut each layer's sum to it.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="What files of LoRAs are for, where they do not tell.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it is a file that exists.")] = False,
) -> None:
    """Write the weighted sum of models of one system, or of LoRAs for one.

    Weights of models sum to 1; those of LoRAs are free. "Add difference" is mix=1 tuned=0.7 base=-0.7.

    darkroom merge mix.safetensors a.safetensors=0.5 b.safetensors=0.5
    """
    _require_dtype(dtype)
    weighed = [_weighed(part) for part in parts]
    if len(weighed) < 2:
        raise InputError(f"only {parts[0]} is given; a merge takes two parts or more")

    from darkroom.checkpoints.locate import locate
    from darkroom.checkpoints.merge import Summand, system_called
    from darkroom.checkpoints.merge import merge as merged

    kept = kept_folders()
    folders = kept.checkpoints + kept.loras
    summands = [Summand(name, locate(name, folders), weight) for name, weight in weighed]
    system = None if model is None else system_called(model, kept.checkpoints)
    for line in merged(target, summands, dtype=_torch_dtype(dtype), rank=rank, system=system, force=force):
        print(line)


def _weighed(part: str) -> tuple[str, float]:
    """What a part of a merge is called, which may hold a `=` itself, and its weight."""
    name, _, number = part.rpartition("=")
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not name or not math.isfinite(weight) or weight == 0:
        raise InputError(f"the part is {part!r}, expected is PART=WEIGHT, its weight a finite number other than 0")
    return name, weight


def _require_dtype(dtype: str | None) -> None:
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}; known are: {', '.join(DTYPES)}")


def _torch_dtype(dtype: str | None) -> torch.dtype | None:
    import torch

    return None if dtype is None else getattr(torch, DTYPES[dtype])


def _prediction(word: str | None) -> Prediction | None:
    """Any tool's word for what a network predicts, as this project's."""
    if word is None:
        return None
    from darkroom.diffusion.prediction import find_prediction

    return find_prediction(word)
