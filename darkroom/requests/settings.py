"""The table of settings: each field of a request once, with its names in every place where people type it.

The command line's options, the axes of grids, repeated pictures, other tools' records and the JSON of requests are
read from `SETTINGS`. A new field is a line in `types.py`, a row here, and the code where it acts.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Literal

from darkroom.config import from_text
from darkroom.errors import InputError
from darkroom.registry import Registry, nearest
from darkroom.requests.texts import READERS
from darkroom.types import Request

__all__ = ["OPEN", "SETTINGS", "TABLES", "Setting", "find_setting", "inner_class"]

# Tables whose keys the embedders, the samplers and the schedules decide.
OPEN = ("inputs", "sampler_options", "schedule_options")
LISTED = 8  # known names in the answer to an unknown one

Kind = Literal[
    "value", "picture", "mask", "classes", "depth", "boxes", "regions", "controls", "options", "tensor"
]  # fmt: skip

DRAWING, START, GUIDANCE, SEEDS, SPEED, CONDITIONS = (
    "What to draw",
    "Starting from a picture",
    "Guidance and prompts",
    "Seeds",
    "Speed",
    "Conditions of special systems",
)


@dataclass(frozen=True)
class Setting:
    """One field of a request. Names are looked up without regard to case, and `_`, `-` and blanks are one.

    `path`: its place in `Request`, inner fields with a dot. `flags`: the command line's options, empty for what cannot
    be typed there. `aliases`: more names, understood but not shown. `needs`: the path of the setting without which this
    one says nothing. `kind`: what stands on the line for it. `type`: of entries of `inputs`, which `Request` leaves
    open. `a1111`, `comfy`: what AUTOMATIC1111's parameters and ComfyUI's sampler nodes call it.
    """

    path: str
    flags: tuple[str, ...]
    help: str
    panel: str = DRAWING
    aliases: tuple[str, ...] = ()
    metavar: str | None = None
    needs: str | None = None
    kind: Kind = "value"
    type: Any = None
    a1111: str | None = None
    comfy: str | None = None

    @property
    def outer(self) -> str:
        """The field of `Request`."""
        return self.path.partition(".")[0]

    @property
    def inner(self) -> str:
        """The field inside of that field; empty where there is none."""
        return self.path.partition(".")[2]

    @property
    def hint(self) -> Any:
        """The type of its value."""
        if self.outer in OPEN and self.inner:
            return Any if self.type is None else self.type | None
        hint = _hints(Request)[self.outer]
        return _hints(inner_class(self.outer))[self.inner] if self.inner else hint

    @property
    def default(self) -> Any:
        """Its value in an empty request."""
        if self.outer in OPEN:
            return None
        holder = inner_class(self.outer) if self.inner else Request
        return next(f.default for f in fields(holder) if f.name == (self.inner or self.outer))

    @property
    def repeats(self) -> bool:
        """Whether it may be given several times on a line, each time one more entry."""
        return self.kind in ("regions", "options")

    def read(self, text: str, name: str | None = None) -> Any:
        """The value that `text` stands for on the command line; pictures and boxes by the path of their file.

        `name` begins the message of `InputError`. Of settings that repeat, one entry.
        """
        if self.kind in READERS:
            return READERS[self.kind](text)
        return from_text(self.hint, text, name or self.path)


SETTINGS: tuple[Setting, ...] = (
    Setting("prompt", (), "What to draw."),
    Setting("negative_prompt", ("-n", "--negative-prompt"), "What to keep away from."),
    Setting("width", ("-W", "--width"), "Pixels; default: the system's.", aliases=("--W",), comfy="width"),
    Setting("height", ("-H", "--height"), "Pixels; default: the system's.", aliases=("--H",), comfy="height"),
    Setting(
        "steps",
        ("--steps",),
        "Sampler steps; default: the system's.",
        aliases=("--num-inference-steps", "--ddim-steps"),
        a1111="Steps",
        comfy="steps",
    ),
    Setting(
        "guidance_scale",
        ("--guidance-scale", "--cfg-scale"),
        "How strictly the prompt is kept; 1: without guidance.",
        aliases=("--scale", "--cfg"),
        a1111="CFG scale",
        comfy="cfg",
    ),
    Setting(
        "seed",
        ("-s", "--seed"),
        "Of the first picture, default 0; -1 draws one.",
        aliases=("noise_seed",),
        a1111="Seed",
    ),
    Setting(
        "sampler",
        ("--sampler",),
        "Euler a, DPM++ 2M, …: see --list samplers.",
        aliases=("--sampling-method", "sampler_name"),
        a1111="Sampler",
        comfy="sampler_name",
    ),
    Setting(
        "schedule",
        ("--schedule",),
        "karras, trailing, …: see --list schedules.",
        aliases=("--scheduler",),
        a1111="Schedule type",
        comfy="scheduler",
    ),
    Setting("sigmas", ("--sigmas",), "Falling noise levels in place of schedule and steps.", metavar="14.6,6.5,…"),
    Setting("sampler_options.eta", ("--eta",), "Share of the noise that ancestral samplers and DDIM add.", a1111="Eta"),
    Setting(
        "sampler_options",
        ("--sampler-option",),
        "An option of the sampler: s_churn=10 …",
        metavar="KEY=VALUE",
        kind="options",
    ),
    Setting("sampler_options.s_churn", (), "Noise added before the steps.", type=float, a1111="Sigma churn"),
    Setting("sampler_options.s_tmin", (), "The lowest level that it is added at.", type=float, a1111="Sigma tmin"),
    Setting("sampler_options.s_tmax", (), "The highest level that it is added at.", type=float, a1111="Sigma tmax"),
    Setting("sampler_options.s_noise", (), "Spread of the added noise.", type=float, a1111="Sigma noise"),
    Setting("schedule_options.rho", (), "How dense low levels are.", type=float, a1111="Schedule rho"),
    Setting("schedule_options.sigma_min", (), "The lowest level.", type=float, a1111="Schedule min sigma"),
    Setting("schedule_options.sigma_max", (), "The highest level.", type=float, a1111="Schedule max sigma"),
    Setting(
        "schedule_options.discard_penultimate",
        (),
        "Leave the lowest level out.",
        type=bool,
        a1111="Discard penultimate sigma",
    ),
    Setting(
        "schedule_options",
        ("--schedule-option",),
        "An option of the schedule: rho=5, sigma_min=0.1, sigma_max=10, discard_penultimate=true …",
        metavar="KEY=VALUE",
        kind="options",
    ),
    Setting("denoising_start", ("--denoising-start",), "Share of the schedule to begin at.", START),
    Setting("denoising_end", ("--denoising-end",), "Share of the schedule to end at.", START),
    Setting("latent", (), "A noisy latent to go on from.", START, kind="tensor"),
    Setting(
        "image",
        ("-i", "--init-image"),
        "The picture to start from.",
        START,
        aliases=("--init-img",),
        kind="picture",
    ),
    Setting(
        "strength",
        ("--strength",),
        "How much of it is drawn anew, 0 to 1.",
        START,
        aliases=("--denoising-strength", "denoising", "denoise"),
        needs="image",
        comfy="denoise",
    ),
    Setting("mask", ("--mask",), "Repaint where it is white (or transparent).", START, kind="mask"),
    Setting("mask_blur", ("--mask-blur",), "Softness of its edge in pixels.", START, needs="mask", a1111="Mask blur"),
    Setting(
        "mask_padding",
        ("--mask-padding",),
        "Draw the masked part alone, with so many pixels around it, at the full size.",
        START,
        aliases=("--padding-mask-crop", "--inpaint-full-res-padding"),
        needs="mask",
        a1111="Masked area padding",
    ),
    Setting("hires.scale", ("--hires",), "Enlarge by this and draw over in a second pass.", START),
    Setting("hires.strength", ("--hires-strength",), "Of the second pass.", START, needs="hires.scale"),
    Setting("hires.steps", ("--hires-steps",), "Of the second pass; default: as many.", START, needs="hires.scale"),
    Setting(
        "hires.enlarge",
        ("--hires-upscaler",),
        "Enlarge the latent, or the picture by Lanczos.",
        START,
        needs="hires.scale",
    ),
    Setting("target", ("--target",), "Lead the coarse look towards this picture's.", START, kind="picture"),
    Setting("target_strength", ("--target-strength",), "How strongly.", START, needs="target"),
    Setting(
        "guidance.rescale",
        ("--guidance-rescale",),
        "Share of guidance to rescale; for zero terminal SNR about 0.7.",
        GUIDANCE,
        aliases=("--rescale",),
    ),
    Setting(
        "guidance.interval",
        ("--guidance-interval",),
        "Guide between these shares of the steps only; 0,1: all along.",
        GUIDANCE,
        a1111="Guidance interval",
        aliases=("--interval",),
        metavar="A,B",
    ),
    Setting(
        "guidance.dynamic_threshold",
        ("--dynamic-threshold",),
        "Percentile of dynamic thresholding, such as 0.995.",
        GUIDANCE,
        aliases=("--threshold",),
    ),
    Setting("guidance.pag_scale", ("--pag-scale",), "Scale of perturbed-attention guidance.", GUIDANCE),
    Setting(
        "guidance.apg",
        ("--apg",),
        "Adaptive projected guidance.",
        GUIDANCE,
        aliases=("--projected",),
    ),
    Setting(
        "regions",
        ("--region",),
        "A prompt for a part of the picture, in shares 0 to 1.",
        GUIDANCE,
        metavar="L,T,R,B[,WEIGHT]:PROMPT",
        kind="regions",
    ),
    Setting(
        "controls", (), "ControlNets, T2I-Adapters and IP-Adapters, each with its picture.", START, kind="controls"
    ),
    Setting("prompt_syntax", ("--prompt-syntax",), "How prompts are written: a1111, comfy, compel or plain.", GUIDANCE),
    Setting(
        "emphasis",
        ("--emphasis",),
        "How weights act: a1111, no_norm, comfy or compel; default: as in the syntax's tool.",
        GUIDANCE,
    ),
    Setting("clip_skip", ("--clip-skip",), "Last CLIP layer to read: 1, 2 …", GUIDANCE, a1111="Clip skip"),
    Setting(
        "seed_mode",
        ("--seed-mode",),
        "Noise as another tool draws it: darkroom, a1111, comfy or diffusers.",
        SEEDS,
        aliases=("--rng",),
    ),
    Setting(
        "eta_noise_seed_delta",
        ("--eta-noise-seed-delta",),
        "Take the noise of steps from seed + this.",
        SEEDS,
        aliases=("--ensd",),
        a1111="ENSD",
    ),
    Setting(
        "variation_seed",
        ("--variation-seed",),
        "Lean towards this seed's noise …",
        SEEDS,
        aliases=("var._seed",),
        a1111="Variation seed",
    ),
    Setting(
        "variation_strength",
        ("--variation-strength",),
        "… by 0 to 1.",
        SEEDS,
        aliases=("var._strength",),
        needs="variation_seed",
        a1111="Variation seed strength",
    ),
    Setting(
        "deepcache_interval",
        ("--deepcache-interval",),
        "Compute deep features once in so many steps: faster, another picture.",
        SPEED,
        aliases=("--deep-every",),
    ),
    Setting(
        "tome_ratio",
        ("--tome-ratio",),
        "Share of tokens merged for self-attention: faster, another picture.",
        SPEED,
        aliases=("--merge-tokens",),
    ),
    Setting("inputs.class", ("--class",), "A class by its number.", CONDITIONS, type=int),
    Setting(
        "inputs.boxes",
        ("--boxes",),
        "JSON file: [{label, x0, y0, x1, y1}, …], in shares.",
        CONDITIONS,
        kind="boxes",
    ),
    Setting(
        "inputs.segmentation", ("--segmentation",), "A picture whose values are classes.", CONDITIONS, kind="classes"
    ),
    Setting("inputs.depth", ("--depth",), "A depth map, near is bright.", CONDITIONS, kind="depth"),
    Setting("inputs.image_prompt", ("--image-prompt",), "A picture to vary.", CONDITIONS, kind="picture"),
    Setting(
        "inputs.noise_level", ("--noise-level",), "Noise on the small picture or image prompt.", CONDITIONS, type=int
    ),
)


@cache
def _named() -> Registry[Setting]:
    """The table by every name; A1111's and ComfyUI's names may be those of others."""
    names: Registry[Setting] = Registry("setting")
    for setting in SETTINGS:
        said = (*setting.flags, *setting.aliases, *filter(None, (setting.a1111, setting.comfy)))
        aliases = dict.fromkeys(name.lstrip("-") for name in said if len(name.lstrip("-")) > 1)
        names.add(setting.path, setting, *aliases)
    return names


def find_setting(name: str) -> Setting:
    """The setting of that path, flag, alias, or name in another tool; also a whole table of settings.

    `InputError` names the nearest known ones.
    """
    name = name.strip().lstrip("-")
    if name in _named():
        return _named()[name]
    outer, _, inner = name.partition(".")
    if (outer in OPEN and inner) or name in TABLES:
        return Setting(name, (), "")
    known = nearest(name, [s.path for s in SETTINGS])[:LISTED]
    raise InputError(f"unknown setting {name!r}; known are: {', '.join(known)} …")


def inner_class(outer: str) -> Any:
    """The dataclass that the field holds, or may hold."""
    return next(kind for kind in _kinds(outer) if is_dataclass(kind))


def _kinds(outer: str) -> tuple[Any, ...]:
    hint = _hints(Request)[outer]
    return typing.get_args(hint) if type(None) in typing.get_args(hint) else (hint,)


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


# Fields that hold fields of their own, which rows name one by one.
TABLES = (*OPEN, *(f.name for f in fields(Request) if any(is_dataclass(kind) for kind in _kinds(f.name))))
