"""What stands on the command line of `darkroom generate`, read into what a request holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from darkroom.requests.records import Found
    from darkroom.types import Request

__all__ = [
    "alike",
    "check_companions",
    "lora_tag",
    "numbers",
    "read_boxes",
    "read_pictures",
    "region_of",
    "setting",
    "shares",
]

# Options by the names of their parameters, and the field of the request that each sets where the names differ.
FIELDS = {"negative": "negative_prompt", "region": "regions"}
# Options for parts of `hires` and `guidance`, and the parts.
HIRES = {"hires": "scale", "hires_strength": "strength", "hires_steps": "steps", "hires_upscaler": "enlarge"}
GUIDANCE = ("rescale", "interval", "dynamic_threshold", "pag_scale", "apg")
# What says nothing without another option: (that option as it is spelled, whether the request has it).
COMPANIONS = {
    "strength": ("--init-img", "image"),
    "mask_blur": ("--mask", "mask"),
    "hires_strength": ("--hires", "hires"),
    "hires_steps": ("--hires", "hires"),
    "hires_upscaler": ("--hires", "hires"),
    "target_strength": ("--target", "target"),
    "variation_strength": ("--variation-seed", "variation_seed"),
    "switch_at": ("--refiner", "refiner"),
    "to_seed": ("--frames", "frames"),
    "taesd": ("--preview-path", "preview"),
}


def read_pictures(**paths: Path | None) -> dict[str, Any]:
    """The pictures in the files, by what they are for."""
    if not any(paths.values()):
        return dict.fromkeys(paths)
    from darkroom.pictures.reading import read_classes, read_depth, read_mask, read_pixels

    readers = {"mask": read_mask, "segmentation": read_classes, "depth": read_depth}
    return {k: None if path is None else readers.get(k, read_pixels)(path) for k, path in paths.items()}


def read_boxes(path: Path | None) -> list[Any] | None:
    """The list in a JSON file; what its entries must be is the embedder's matter."""
    if path is None:
        return None
    import json

    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as boxes: {error}") from None
    if not isinstance(found, list):
        raise InputError(f"{path} holds no list of boxes")
    return found


def numbers(option: str, text: str, count: int | None, kind: type) -> list[Any]:
    """Numbers with commas between them, exactly `count` of them unless that is None."""
    try:
        values = [kind(v) for v in text.split(",")]
    except ValueError:
        values = []
    if not values or (count is not None and len(values) != count):
        raise InputError(f"{option} is {text!r}, wanted are {count or 'some'} numbers with commas between them")
    return values


def shares(option: str, text: str | None) -> tuple[float, float] | None:
    """`first,last` as two numbers; None stays None."""
    if text is None:
        return None
    first, last = numbers(option, text, 2, float)
    return first, last


def setting(entry: str) -> tuple[str, Any]:
    """`key=value` with the value's own type."""
    key, equals, value = entry.partition("=")
    if not equals or not key:
        raise InputError(f"the sampler option {entry!r} is wrong, wanted is KEY=VALUE")
    if value.lower() in ("true", "false"):
        return key, value.lower() == "true"
    for kind in (int, float):
        try:
            return key, kind(value)
        except ValueError:
            continue
    return key, value


def region_of(entry: str) -> Any:
    """`LEFT,TOP,RIGHT,BOTTOM[,WEIGHT]:PROMPT` as a region."""
    from darkroom.types import Region

    place, colon, prompt = entry.partition(":")
    try:
        numbers = [float(v) for v in place.split(",")]
    except ValueError:
        numbers = []
    if not colon or len(numbers) not in (4, 5):
        raise InputError(f"the region {entry!r} is wrong, wanted is LEFT,TOP,RIGHT,BOTTOM[,WEIGHT]:PROMPT")
    left, top, right, bottom = numbers[:4]
    return Region(prompt, (left, top, right, bottom), *numbers[4:])


def lora_tag(entry: str) -> str:
    """`name:weight` as a prompt's tag; the name may be a path, the weight is what stands behind the last colon."""
    name, colon, weight = entry.rpartition(":")
    try:
        return f"<lora:{name}:{float(weight):g}>" if colon else f"<lora:{entry}:1>"
    except ValueError:
        return f"<lora:{entry}:1>"


def check_companions(said: Mapping[str, Any], request: Request) -> None:
    """`InputError` for an option among `said` that would be passed over, as another is missing."""
    for name, (option, owner) in COMPANIONS.items():
        if name in said and owner not in said and getattr(request, owner, None) is None:
            raise InputError(f"--{name.replace('_', '-')} says nothing without {option}")


def alike(found: Found, request: Request, said: Mapping[str, Any]) -> Request:
    """The request that was found in a picture, changed by the options `said`, besides prompt and seed.

    `request` is what the options make on their own; `said` are their values by the names of parameters.
    """
    from dataclasses import fields, replace

    from darkroom.diffusion.samplers import split_name
    from darkroom.types import Request

    before = found.request
    known = {f.name for f in fields(Request)} - {"prompt", "seed", "inputs", "latent", "hires", "guidance"}
    named = {FIELDS.get(name, name) for name in said} & known
    if "outpaint" in said:
        named |= {"image", "mask"}
    changed = {name: getattr(request, name) for name in named}
    if "sampler" in said:  # neither the options of the picture's sampler nor its schedule where the name has one
        changed["sampler_options"] = request.sampler_options
        if split_name(said["sampler"])[1] is not None and "schedule" not in said:
            changed["schedule"] = None
    elif "sampler_option" in said:
        changed["sampler_options"] = {**before.sampler_options, **request.sampler_options}
    if "sigmas" not in said and said.keys() & {"steps", "schedule"}:
        changed["sigmas"] = None  # which would rule both
    changed["guidance"] = replace(before.guidance, **{k: getattr(request.guidance, k) for k in GUIDANCE if k in said})
    if (second := before.hires or request.hires) is not None:
        changed["hires"] = replace(second, **{part: said[option] for option, part in HIRES.items() if option in said})
    changed["inputs"] = {**before.inputs, **request.inputs}
    return replace(before, **changed)
