"""A1111's `parameters` text, which most tools read: prompt, negative prompt, settings as three blocks of lines."""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any

from darkroom.config import from_dict
from darkroom.errors import InputError, cause, printable
from darkroom.prompts.syntaxes import in_own_syntax
from darkroom.requests.records.controls import described, fingerprint, recorded, written
from darkroom.requests.records.found import Findings, Found
from darkroom.requests.settings import SETTINGS, Setting
from darkroom.types import ControlUnit, Guidance, HighResolution, Region, Request

if TYPE_CHECKING:
    from darkroom.requests.plan import Plan

__all__ = ["parameters_text", "parse_parameters"]

ONLY_MASKED = "Only masked"
OWN = "Darkroom"  # the setting that holds, as JSON, what the other words cannot
PICTURES = ("image", "mask", "latent", "target")  # of a request; files hold their hashes only

# Values are quoted, or a list or a table as JSON has them (Civitai's), or go to the next comma. Keys, lists and tables
# are bounded, or else a long line without their ends would take time with the square of its length.
_PAIR = re.compile(r'(\w[\w \-/]{1,60}): {0,9}("(?:\\.|[^\\"])+"|\[[^\]]{0,4000}\]|\{[^}]{0,4000}\}|[^,]*)(?:,|$)')
NEGATIVE = "Negative prompt:"
_NAMES = {setting.path: setting.a1111 for setting in SETTINGS if setting.a1111 is not None}
# A1111's spelling of schedules, which it knows by exactly that.
_SCHEDULES = {
    "linspace": "Uniform",
    "sgm_uniform": "SGM Uniform",
    "ddim_uniform": "DDIM",
    "kl_optimal": "KL Optimal",
    "align_your_steps": "Align Your Steps",
}
# A1111's order of settings; what is not among them follows, the version last.
_ORDER = (
    *("Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Model hash", "Model", "VAE hash", "VAE"),
    *("Variation seed", "Variation seed strength", "Denoising strength", "Clip skip", "Init image hash", "RNG"),
)
# Which source of noise a picture was drawn with; A1111 writes nothing where it was the GPU.
_RNG = {"darkroom": "CPU", "diffusers": "CPU", "a1111_cpu": "CPU", "a1111": None, "a1111_nv": "NV", "nv": "NV"}
_EMPHASIS = {"no_norm": "No norm"}  # of those that A1111 knows; without a word it is its own
# Settings that say nothing about the request, or that are read by others.
_HASHES = {"Lora hashes": "lora_hashes", "TI hashes": "embedding_hashes"}  # compared with the files when it is repeated
_SILENT = {"Version", "User", "Model", "Model hash", "VAE hash", *_HASHES, "Hashes", OWN}
# Settings of other tools that mean one of A1111's.
_ALIASES = {"Guidance Scale": "CFG scale", "Strength": "Denoising strength", "Eta DDIM": "Eta"}
_KNOWN = re.compile(r"\bS(?:eed|ampler|ize): ")
# Files besides the model, and how that was loaded: settings of a picture, but not of its request.
_FILES = ("VAE", "Refiner", "Refiner switch at", "Quantization")


def parameters_text(
    plan: Plan, model: str, model_hash: str, version: str, files: Mapping[str, object] | None = None
) -> str:
    """The text for a picture that `plan` made. Every tool reads most of it; `parse_parameters` reads all of it back.

    `files`: more settings that name what the picture was made with, in A1111's words (VAE, Refiner, Lora hashes …).
    """
    request = plan.request
    settings: dict[str, object] = {
        _NAMES["steps"]: plan.steps,
        _NAMES["sampler"]: plan.sampler,
        _NAMES["schedule"]: _SCHEDULES.get(plan.schedule, plan.schedule.capitalize()),
        _NAMES["guidance_scale"]: f"{plan.guidance_scale:g}",
        _NAMES["seed"]: request.seed,
        "Size": f"{plan.width}x{plan.height}",
        "Model hash": model_hash,
        "Model": model,
    }
    if plan.guidance_interval is not None:
        settings[_NAMES["guidance.interval"]] = "{:g}-{:g}".format(*plan.guidance_interval)
    if request.variation_seed is not None:
        settings[_NAMES["variation_seed"]] = request.variation_seed
        settings[_NAMES["variation_strength"]] = f"{request.variation_strength:g}"
    if plan.starts_from_image:
        settings["Denoising strength"] = f"{plan.strength:g}"
    if request.hires is not None:
        settings["Denoising strength"] = f"{request.hires.strength:g}"
        settings["Hires upscale"] = f"{request.hires.scale:g}"
        settings["Hires upscaler"] = "Latent" if request.hires.enlarge == "latent" else "Lanczos"
        if request.hires.steps is not None:
            settings["Hires steps"] = request.hires.steps
    if request.clip_skip is not None and request.clip_skip > 1:
        settings[_NAMES["clip_skip"]] = request.clip_skip
    if request.image is not None:
        settings["Init image hash"] = fingerprint(request.image)
    if request.mask is not None:
        settings[_NAMES["mask_blur"]] = f"{request.mask_blur:g}"
    if request.draws_part:
        settings["Inpaint area"] = ONLY_MASKED
        settings[_NAMES["mask_padding"]] = request.mask_padding
    options = {"sampler_options": plan.sampler_options, "schedule_options": request.schedule_options}
    for outer, inner in (path.split(".") for path in _NAMES if path.startswith(tuple(options))):
        if (value := options[outer].get(inner)) is not None:
            settings[_NAMES[f"{outer}.{inner}"]] = value if isinstance(value, bool) else f"{value:g}"
    if request.eta_noise_seed_delta:
        settings[_NAMES["eta_noise_seed_delta"]] = request.eta_noise_seed_delta
    if request.emphasis in _EMPHASIS:
        settings["Emphasis"] = _EMPHASIS[request.emphasis]
    if (rng := _RNG.get(request.seed_mode)) is not None:
        settings["RNG"] = rng
    settings |= {f"ControlNet {i}": described(unit) for i, unit in enumerate(request.controls)}
    settings |= files or {}
    text = _joined(request, {**settings, "Version": version})
    filled = _filled(plan)
    if _comparable(parse_parameters(text).request) != _comparable(filled):
        own = json.dumps(_comparable(filled), ensure_ascii=False, separators=(",", ":"))
        text = _joined(request, {**settings, OWN: own, "Version": version})
    return text


def parse_parameters(text: str) -> Found:
    """The request that a `parameters` text describes."""
    lines = text.strip().replace("\r\n", "\n").split("\n")
    place = _settings_place(lines)
    settings = {} if place is None else _settings(lines[place])
    behind = [] if place is None else [line.strip() for line in lines[place + 1 :] if line.strip()]
    if OWN in settings:
        own = _own(settings)
        unmapped = (*own.unmapped, *(printable(line, 200) for line in behind))
        return replace(own, unmapped=unmapped, **_file_hashes(settings))
    for theirs, key in _ALIASES.items():
        if theirs in settings:
            settings.setdefault(key, settings.pop(theirs))
    found = Findings()
    found.text("prompt", "\n".join(_prompt(lines[:place], negative=False)))
    found.text("negative_prompt", "\n".join(_prompt(lines[:place], negative=True)))
    read = {"Size", "RNG", *_SILENT}
    read |= {"Inpaint area"} if settings.get("Inpaint area") == ONLY_MASKED else set()
    found.size(settings.get("Size"))
    for setting in SETTINGS:
        if setting.a1111 is not None and setting.a1111 in settings:
            read.add(setting.a1111)
            _take_over(setting, settings[setting.a1111], found)
    read |= found.scheduler_configuration({k: v for k, v in settings.items() if k not in read})
    read |= _second_pass(settings, found)
    if "Mask blur" in settings:
        found.unmapped.append("the mask")
    if (emphasis := settings.get("Emphasis")) is not None:
        found.fields["emphasis"] = "no_norm" if emphasis == "No norm" else "a1111"
        read |= {"Emphasis"} if emphasis in ("No norm", "Original") else set()
    # Without a word the noise is the GPU's; a text without settings says nothing about it.
    ours = settings.get("Version", "").startswith("darkroom") or not settings
    cpu = settings.get("RNG") == "CPU" or not settings
    found.fields["seed_mode"] = ("darkroom" if ours else "a1111_cpu") if cpu else "a1111"
    found.unmapped += [f"{key}: {value}" for key, value in settings.items() if key not in read]
    found.unmapped += behind  # what extensions add
    tool = "Darkroom" if ours and settings else "A1111"
    return replace(found.found(tool, settings.get("Model"), settings.get("Model hash")), **_file_hashes(settings))


def _file_hashes(settings: Mapping[str, str]) -> dict[str, Any]:
    """The fields of `Found` that hold hashes of files by their names."""
    found: dict[str, Any] = {}
    for key, field in _HASHES.items():
        pairs = (entry.rpartition(":") for entry in settings.get(key, "").split(","))
        found[field] = {printable(n.strip()): printable(d.strip()) for n, colon, d in pairs if colon and n.strip()}
    return found


def _prompt(lines: Sequence[str], *, negative: bool) -> list[str]:
    """The lines of the prompt, or of the negative one, which begins where a line says so."""
    first = next((i for i, line in enumerate(lines) if line.startswith(NEGATIVE)), len(lines))
    if not negative:
        return list(lines[:first])
    return [line.removeprefix(NEGATIVE).strip() if line.startswith(NEGATIVE) else line for line in lines[first:]]


def _take_over(setting: Setting, value: str, found: Findings) -> None:
    """One value in A1111's words into the field that its row of the table names."""
    if setting.path == "sampler":
        found.sampler(value)
    elif setting.path == "schedule":
        found.schedule(value)
    elif setting.path == "guidance.interval":
        first, _, last = value.partition("-")
        begin, end = (found.read_number("Guidance interval", side, float) for side in (first, last))
        if begin is not None and end is not None:
            found.fields["guidance"] = Guidance(interval=(begin, end))
    else:
        kinds = (setting.hint, *typing.get_args(setting.hint))
        number: object = value == "True"
        if bool not in kinds:
            number = found.read_number(setting.a1111 or setting.path, value, int if int in kinds else float)
        if number is None:
            return
        if setting.inner:
            found.fields.setdefault(setting.outer, {})[setting.inner] = number
        else:
            found.fields[setting.outer] = number


def _second_pass(settings: Mapping[str, str], found: Findings) -> set[str]:
    """The high-resolution fix, or how much of a picture was drawn over; returns the keys that were read."""
    strength = settings.get("Denoising strength")
    share = found.read_number("Denoising strength", strength, float)
    scale, resized = settings.get("Hires upscale"), re.fullmatch(r"(\d{1,6})x\d{1,6}", settings.get("Hires resize", ""))
    read = {"Denoising strength"}
    if scale is None and resized and found.fields.get("width"):
        scale = f"{int(resized[1]) / found.fields['width']:g}"
        read.add("Hires resize")
    if scale is None:
        if share not in (None, 1):
            found.fields["strength"] = share
            found.unmapped.append("the picture that was drawn over")
        return read
    enlarged = found.read_number("Hires upscale", scale, float)
    steps, how = settings.get("Hires steps"), settings.get("Hires upscaler", "Latent").lower()
    read |= {"Hires upscale", "Hires steps", "Hires upscaler"}
    if enlarged is None:
        return read
    if not how.startswith(("latent", "lanczos")):
        found.unmapped.append(f"Hires upscaler: {settings['Hires upscaler']}")
    found.fields["hires"] = HighResolution(
        enlarged,
        0.6 if share is None else share,
        found.read_number("Hires steps", steps, int) or None,
        "latent" if how.startswith("latent") else "picture",
    )
    return read


def _settings(line: str) -> dict[str, str]:
    return {key: _unquoted(value) for key, value in _PAIR.findall(line)}


def _settings_place(lines: list[str]) -> int | None:
    """Which of the lines holds the settings: the last that begins as they do, else the last one, with three or more.

    Extensions write lines of their own behind it.
    """
    for place in range(len(lines) - 1, -1, -1):
        if lines[place].startswith("Steps: ") and len(_settings(lines[place])) >= 3:
            return place
    for place in range(len(lines) - 1, -1, -1):
        if place == len(lines) - 1 or _KNOWN.search(lines[place]):
            known = _settings(lines[place])
            if len(known) >= 3 and (place == len(lines) - 1 or {"Seed", "Sampler", "Size"} <= set(known)):
                return place
    return None


def _joined(request: Request, settings: Mapping[str, object]) -> str:
    request = in_own_syntax(request)  # as every tool reads prompts
    lines = [request.prompt]
    if request.negative_prompt:
        lines.append(f"Negative prompt: {request.negative_prompt}")
    places = {key: place for place, key in enumerate(_ORDER)}
    ordered = sorted(settings, key=lambda key: places.get(key, len(places)))
    lines.append(", ".join(f"{key}: {_quoted(str(settings[key]))}" for key in ordered))
    return "\n".join(lines)


def _filled(plan: Plan) -> Request:
    """The request with the plan's answers where it was silent."""
    return replace(
        plan.filled(),
        strength=plan.strength if plan.starts_from_image else plan.request.strength,
        sampler_options=dict(plan.sampler_options),
    )


def _comparable(request: Request) -> dict[str, Any]:
    """What differs from an empty request, as JSON holds it; pictures by their hashes."""
    usual = Request()
    result: dict[str, Any] = {}
    for f in fields(Request):
        value = getattr(request, f.name)
        if hasattr(value, "shape"):
            result[f.name] = {"sha256": fingerprint(value)}
        elif value != getattr(usual, f.name):
            result[f.name] = _plain(value)
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, (Guidance, HighResolution, Region)):
        return _plain(asdict(value))
    if hasattr(value, "shape"):
        return {"sha256": fingerprint(value)}
    if isinstance(value, ControlUnit):
        return written(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _own(settings: Mapping[str, str]) -> Found:
    """The request in our own setting, exactly."""
    try:
        said = json.loads(settings[OWN])
        if not isinstance(said, dict):
            raise ValueError("it is no table")
        if any(name in said and not _is_hash(said[name]) for name in PICTURES):
            raise ValueError("a picture stands where its hash should")
        unmapped = tuple(f"{k}: a picture of sha256 {printable(v['sha256'])}" for k, v in said.items() if _is_hash(v))
        known = {k: v for k, v in said.items() if not _is_hash(v)}
        if "inputs" in known:
            pictures = [k for k, v in known["inputs"].items() if _is_hash(v)]
            unmapped += tuple(f"inputs.{printable(k)}: a picture" for k in pictures)
            known["inputs"] = {k: v for k, v in known["inputs"].items() if k not in pictures}
        controls = tuple(recorded(entry) for entry in known.pop("controls", ()))
        unmapped += tuple(f"{key}: {printable(settings[key])}" for key in _FILES if key in settings)
        request = from_dict(Request, known, "request")
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError) as error:
        raise InputError(f"the picture's setting {OWN!r} cannot be read: {cause(error)}") from None
    return Found(request, "Darkroom", settings.get("Model"), settings.get("Model hash"), unmapped, controls=controls)


def _is_hash(value: object) -> bool:
    return isinstance(value, dict) and "sha256" in value


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if any(c in value for c in ',\n:"') else value


def _unquoted(value: str) -> str:
    if value.startswith('"'):
        try:
            return str(json.loads(value))
        except ValueError:
            return value
    return value.strip()
