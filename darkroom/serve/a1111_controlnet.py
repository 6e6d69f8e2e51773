"""ControlNet in AUTOMATIC1111's shape: units in `alwayson_scripts`, and what its clients ask of the extension."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from darkroom.errors import InputError, printable
from darkroom.serve.a1111_pictures import edited, stretched
from darkroom.serve.answers import preprocessor_names, service_of
from darkroom.serve.examples import PIXEL
from darkroom.types import Size

__all__ = ["control_units", "router"]

router = APIRouter(prefix="/controlnet")

SCRIPTS = ("controlnet", "control net")
CROP, STRETCH, FILL = "crop and resize", "just resize", "resize and fill"
FITS = {
    0: STRETCH,
    "just resize": STRETCH,
    "resize": STRETCH,
    1: CROP,
    "crop and resize": CROP,
    "scale to fit (inner fit)": CROP,
    "inner fit (scale to fit)": CROP,
    2: FILL,
    "resize and fill": FILL,
    "envelope (outer fit)": FILL,
    "outer fit (shrink to fit)": FILL,
}
CONTROL_MODES = {0: False, "balanced": False, 2: True, "controlnet is more important": True}  # whether it guesses
# Fields of a unit that mean a setting of a control unit.
SETTINGS = {"weight": "weight", "guidance_start": "start", "guidance_end": "end"}
# Fields that ask for what is not done here: refused where they say more than these.
WITHOUT = {
    "mask": (None, "", "None"),
    "mask_image": (None, "", "None"),
    "effective_region_mask": (None, "", "None"),
    "hr_option": (None, "", "Both", 0),
    "advanced_weighting": (None, [], ""),
    "union_control_type": (None, "", "Unknown"),
    "ipadapter_input": (None, []),
    "inpaint_crop_input_image": (None, False, True),  # says nothing without `inpaint_full_res`
}
# Fields that change no picture here: preprocessors work on the picture at the size that is drawn ("pixel perfect").
SILENT = {
    *("enabled", "is_ui", "input_mode", "batch_images", "output_dir", "loopback", "low_vram", "lowvram"),
    *(
        "pixel_perfect",
        "processor_res",
        "save_detected_map",
        "use_preview_as_input",
        "generated_image",
        "animatediff_batch",
    ),
    *(
        "batch_image_dir",
        "batch_input_gallery",
        "batch_mask_dir",
        "batch_mask_gallery",
        "batch_modifiers",
        "pulid_mode",
    ),
    *("multi_inputs_gallery", "mask_image_fg", "image_fg", "type_filter", "batch_keyframe_idx", "batch_image_files"),
}
READ = {"image", "input_image", "model", "module", "resize_mode", "control_mode", "threshold_a", "threshold_b"}
CANNY = {"threshold_a": 100, "threshold_b": 200}


def control_units(scripts: Mapping[str, Any], size: Size | None, image: str | None) -> list[dict[str, Any]]:
    """The settings of the control units among A1111's `alwayson_scripts`; `image` is looked at by those without one.

    `InputError` for another script that is to do anything, and for what a unit asks that cannot be done here.
    """
    found: list[dict[str, Any]] = []
    for name, said in scripts.items():
        arguments = said.get("args") if isinstance(said, Mapping) else said
        if name.lower() not in SCRIPTS:
            if any(arguments if isinstance(arguments, list) else [arguments]):
                raise InputError(f"alwayson_scripts names {printable(name)}, which this server does not have")
            continue
        if not isinstance(arguments, list):
            raise InputError(f"the args of {printable(name)} are no list of control units")
        for unit in arguments:
            if not isinstance(unit, Mapping):
                raise InputError("a control unit is no table")
            if unit.get("enabled", True):
                found.append(_settings(unit, size, image))
    return found


def _settings(unit: Mapping[str, Any], size: Size | None, image: str | None) -> dict[str, Any]:
    for name, value in unit.items():
        if name in WITHOUT and value not in WITHOUT[name]:
            raise InputError(f"{name} of a control unit is {printable(value)}, which this server does not do")
        if name not in {*WITHOUT, *SETTINGS, *SILENT, *READ} and value is not None:
            raise InputError(f"unknown field {printable(name)} of a control unit")
    model, module = str(unit.get("model") or "None").partition(" [")[0], _module(unit)
    if model == "None":
        raise InputError("a control unit names no model")
    found: dict[str, Any] = {"model": model, "guess": _one_of("control_mode", unit, CONTROL_MODES, False)}
    found |= {ours: unit[name] for name, ours in SETTINGS.items() if unit.get(name) is not None}
    if module is not None:
        found["preprocessor"] = module
    picture = unit.get("image") or unit.get("input_image") or image
    if isinstance(picture, Mapping):
        if picture.get("mask"):
            raise InputError("the mask of a control unit's picture is not done here")
        picture = picture.get("image")
    fit = _one_of("resize_mode", unit, FITS, CROP)
    if fit == FILL:
        raise InputError("resize_mode of a control unit is Resize and Fill, which this server does not do")
    if fit == STRETCH and size is not None and isinstance(picture, str):
        picture = stretched(picture, "the picture of a control unit", size)
    return {**found, "image": picture}


def _module(unit: Mapping[str, Any]) -> str | None:
    """The preprocessor; None where the picture is the hint, and for IP-Adapters, which look at it themselves."""
    module = str(unit.get("module") or "none").partition(" (")[0].lower()
    if module == "none" or module.startswith(("ip-adapter", "ip_adapter")):
        return None
    if module == "canny":
        for name, expected in CANNY.items():
            if (value := unit.get(name)) is not None and value >= 0 and value != expected:
                raise InputError(f"{name} of a control unit is {printable(value)}; canny is done here with 100 and 200")
    return module


def _one_of(name: str, unit: Mapping[str, Any], known: Mapping[Any, Any], usual: Any) -> Any:
    value = unit.get(name)
    if value is None:
        return usual
    key = value.lower() if isinstance(value, str) else value
    if isinstance(key, (str, int)) and key in known:
        return known[key]
    names = ", ".join(str(k) for k in known if isinstance(k, str))
    raise InputError(f"{name} of a control unit is {printable(value)}, known are: {names}")


@router.get("/version")
async def version() -> dict[str, int]:
    """That of the extension whose units are understood."""
    return {"version": 3}


@router.get("/settings")
async def settings(request: Request) -> dict[str, int]:
    """How many units a picture may have."""
    return {"control_net_unit_count": service_of(request).config.limits.controls}


@router.get("/model_list")
async def models(request: Request) -> dict[str, list[str]]:
    """The control networks that units may name."""
    return {"model_list": await asyncio.to_thread(service_of(request).control_names)}


@router.get("/module_list")
async def modules() -> dict[str, Any]:
    """The preprocessors."""
    names = ["none", *await asyncio.to_thread(preprocessor_names)]
    return {"module_list": names, "module_detail": {name: {"model_free": False, "sliders": []} for name in names}}


@router.get("/control_types")
async def control_types(request: Request) -> dict[str, Any]:
    """One type of all."""
    names = ["none", *await asyncio.to_thread(preprocessor_names)]
    known = ["None", *await asyncio.to_thread(service_of(request).control_names)]
    every = {"module_list": names, "model_list": known, "default_option": "none", "default_model": "None"}
    return {"control_types": {"All": every}}


class DetectBody(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"controlnet_module": "canny", "controlnet_input_images": [PIXEL]}]}
    )
    controlnet_module: str = "none"
    controlnet_input_images: list[str] = Field(default_factory=list, max_length=16)


@router.post("/detect")
async def detect(body: DetectBody) -> dict[str, Any]:
    """The hints that a preprocessor makes of pictures."""
    module = _module({"module": body.controlnet_module})

    def hint(text: str) -> str:
        import numpy as np
        from PIL import Image

        from darkroom.pictures.hints import HINTS

        make = (lambda pixels: pixels) if module is None else HINTS[module]
        return edited(text, "the picture", lambda image: Image.fromarray(make(np.array(image.convert("RGB")))))

    images = [await asyncio.to_thread(hint, text) for text in body.controlnet_input_images]
    return {"images": images, "info": "Success"}
