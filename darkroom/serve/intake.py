"""From what a client sends to a submission: settings checked, pictures kept, limits held. No torch."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from darkroom.errors import InputError, require
from darkroom.requests.change import said
from darkroom.requests.settings import find_setting
from darkroom.serve.jobs import Submission
from darkroom.serve.uploads import PICTURES, Uploads, control_picture, with_pictures
from darkroom.types import ControlUnit, Request

if TYPE_CHECKING:
    from darkroom.requests.plan import Plan

__all__ = ["Limits", "check_plan", "decoded_base64", "plain_settings", "taken_in"]


@dataclass(frozen=True)
class Limits:
    """What one client may ask for, and how much waits."""

    pixels: int = 2048 * 2048  # of a picture, in its larger pass
    steps: int = 200  # of a picture, both passes
    count: int = 64  # pictures of one job
    text: int = 20_000  # characters of all prompts
    body: int = 48 << 20  # bytes of a request, an upload too
    upload_pixels: int = 32_000_000
    controls: int = 8  # control units of a picture
    queue: int = 1000  # jobs that wait
    client_queue: int = 200  # of one client
    rate: float = 20.0  # requests that change something, a second and client; ten times as many at once


def taken_in(asked: Submission, uploads: Uploads, limits: Limits) -> Submission:
    """`asked` as it is kept: settings by their paths and without defaults, pictures as uploads, a seed.

    Pictures among the settings are base64. `InputError` for what is unknown, of a wrong type or beyond the limits.
    """
    require(1 <= asked.count <= limits.count, "the number of pictures", asked.count, f"1 to {limits.count}")
    require(-100 <= asked.priority <= 100, "the priority", asked.priority, "-100 to 100")
    require(0 < asked.switch_at < 1, "switch_at", asked.switch_at, "a share between 0 and 1")
    settings, images = dict[str, Any](), dict(asked.images)
    for name, value in asked.request.items():
        kind = find_setting(name).kind
        if kind == "tensor":
            raise InputError(f"{name} cannot be given to a server")
        if kind == "controls" and value is not None:
            settings[name] = _units(value, images, uploads, limits)
        elif kind in PICTURES and value is not None:
            images[name] = uploads.add(decoded_base64(value, name))[0]
        elif value is not None or kind not in PICTURES:
            settings[name] = value
    images = uploads.check(images)
    request = with_pictures(settings, dict.fromkeys(images, True))  # of pictures it matters here that they are there
    seed = secrets.randbelow(2**31) if request.seed == -1 else request.seed
    texts = (request.prompt, request.negative_prompt, *(r.prompt for r in request.regions))
    require(sum(map(len, texts)) <= limits.text, "the prompts' length", sum(map(len, texts)), f"up to {limits.text}")
    kept = plain_settings(replace(request, seed=seed))
    return replace(asked, request=kept, images=images)


def _units(value: object, images: dict[str, str], uploads: Uploads, limits: Limits) -> list[dict[str, Any]]:
    """The control units without their pictures, which become uploads among `images`."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(unit, Mapping) for unit in value):
        raise InputError("controls is no list of tables, one for each control unit")
    require(len(value) <= limits.controls, "the number of control units", len(value), f"at most {limits.controls}")
    for number, unit in enumerate(value):
        if (picture := unit.get("image")) is not None:
            path = control_picture(number)
            images[path] = uploads.add(decoded_base64(picture, path))[0]
    return [{name: said for name, said in unit.items() if name != "image"} for unit in value]


def decoded_base64(value: object, name: str) -> bytes:
    """The bytes in base64, also in a data URL; `InputError` if it is none."""
    if not isinstance(value, str):
        raise InputError(f"{name} is no text in base64")
    try:
        return base64.b64decode(value.partition(",")[2] if value.startswith("data:") else value, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{name} is not valid base64") from None


def check_plan(plan: Plan, limits: Limits) -> None:
    """`InputError` where a picture is larger or takes more steps than this server allows."""
    passes = [plan, *([plan.second] if plan.second is not None else [])]
    pixels = max(p.width * p.height for p in passes)
    steps = sum(len(p.sigmas) - 1 for p in passes)
    require(pixels <= limits.pixels, "the number of pixels", pixels, f"at most {limits.pixels} on this server")
    require(steps <= limits.steps, "the number of steps", steps, f"at most {limits.steps} on this server")


UNSAID = (*PICTURES, "tensor")  # kinds of settings that JSON does not hold


def plain_settings(request: Request) -> dict[str, Any]:
    """What `request` says, as JSON has it, without its pictures: with these `with_pictures` says the same."""
    settings = {k: v for k, v in said(request).items() if find_setting(k).kind not in UNSAID}
    if request.controls:
        settings["controls"] = [_plain_unit(unit) for unit in request.controls]
    return json.loads(json.dumps(settings, default=_table))


def _plain_unit(unit: ControlUnit) -> dict[str, Any]:
    """What a unit says besides the defaults, without its picture."""
    said = {f.name: getattr(unit, f.name) for f in fields(unit) if f.name != "image"}
    usual = {f.name: f.default for f in fields(unit)}
    return {name: value for name, value in said.items() if value != usual[name]}


def _table(value: Any) -> dict[str, Any]:
    assert is_dataclass(value), f"{type(value)} is no value of a setting"
    return asdict(value)  # type: ignore[arg-type]
