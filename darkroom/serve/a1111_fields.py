"""AUTOMATIC1111's bodies of txt2img and img2img as settings of a request, and what it calls things in its answers."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from darkroom.errors import InputError, printable
from darkroom.requests.settings import find_setting
from darkroom.serve.a1111_controlnet import control_units
from darkroom.serve.a1111_pictures import covering, inverted
from darkroom.serve.jobs import Job, PictureRecord, remarks_of
from darkroom.types import Size

__all__ = ["ImageToImage", "TextToImage", "info"]

# Fields that ask for what is not done here: refused where they say more than this.
WITHOUT = {
    "tiling": False,
    "restore_faces": False,
    "styles": [],
    "script_name": None,
    "hr_checkpoint_name": None,
    "hr_prompt": "",
    "hr_negative_prompt": "",
    "seed_resize_from_w": -1,
    "seed_resize_from_h": -1,
}
# Fields that mean a setting, by its path.
SETTINGS = {
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "width": "width",
    "height": "height",
    "steps": "steps",
    "cfg_scale": "guidance_scale",
    "seed": "seed",
    "sampler_name": "sampler",
    "sampler_index": "sampler",
    "scheduler": "schedule",
    "eta": "sampler_options.eta",
    "s_churn": "sampler_options.s_churn",
    "s_tmin": "sampler_options.s_tmin",
    "s_tmax": "sampler_options.s_tmax",
    "s_noise": "sampler_options.s_noise",
    "clip_skip": "clip_skip",
}
ENLARGED = {"Latent": "latent", "Lanczos": "picture", "None": "picture"}  # upscalers of the second pass
STRETCH, CROP = 0, 1  # modes of resizing the picture that is drawn over
MAX_SIDE = 8192  # of pictures that are cut to the size that is drawn
DEFAULTS = {"s_churn": 0.0, "s_tmin": 0.0, "s_noise": 1.0, "eta": 0.0}  # that clients write though they mean nothing
# Fields that are taken and change no picture, or that other lines of this file read.
SILENT = {
    *("save_images", "do_not_save_samples", "do_not_save_grid", "comments", "firstpass_image", "infotext"),
    *("override_settings_restore_afterwards", "disable_extra_networks", "include_init_images", "script_args"),
    *("image_cfg_scale", "initial_noise_multiplier", "latent_mask", "mask_blur_x", "mask_blur_y", "mask_round"),
    *("inpainting_fill", "s_min_uncond", "s_max", "hr_sampler_name"),
    *("hr_scheduler", "hr_cfg", "hr_distilled_cfg", "hr_additional_modules", "distilled_cfg_scale", "force_hr"),
}


class TextToImage(BaseModel):
    """A1111's request; settings of /v1/schema may stand beside its fields by their names."""

    model_config = ConfigDict(
        extra="allow", json_schema_extra={"examples": [{"prompt": "a red house", "steps": 16, "seed": 7}]}
    )
    prompt: str | None = ""
    batch_size: int | None = Field(1, ge=1, le=64)
    n_iter: int | None = Field(1, ge=1, le=64)
    subseed: int | None = -1
    subseed_strength: float | None = 0.0
    enable_hr: bool | None = False
    hr_scale: float | None = 2.0
    hr_upscaler: str | None = "Latent"
    hr_second_pass_steps: int | None = 0
    hr_resize_x: int | None = Field(0, ge=0)
    hr_resize_y: int | None = Field(0, ge=0)
    denoising_strength: float | None = None
    refiner_checkpoint: str | None = None
    refiner_switch_at: float | None = None
    alwayson_scripts: dict[str, Any] | None = None
    override_settings: dict[str, Any] | None = None
    send_images: bool | None = True
    force_task_id: str | None = Field(None, max_length=200)

    @property
    def count(self) -> int:
        return (self.batch_size or 1) * (self.n_iter or 1)

    def settings(self) -> dict[str, Any]:
        """The request's settings; `InputError` for what cannot be done here."""
        found: dict[str, Any] = {"prompt": self.prompt or "", "seed": -1}
        for name, value in (self.model_extra or {}).items():
            if name in WITHOUT:
                if value not in (WITHOUT[name], None, False, "", [], {}, 0, "None"):
                    raise InputError(f"{name} is {value!r}, which this server does not do")
            elif name in SETTINGS:
                if value not in (None, "", "Automatic", "Use same scheduler", DEFAULTS.get(name)):
                    found[SETTINGS[name]] = value
            elif name not in SILENT and value is not None:
                found[find_setting(name).path] = value
        if self.subseed_strength:
            found |= {"variation_strength": self.subseed_strength}
            if self.subseed is not None and self.subseed >= 0:
                found["variation_seed"] = self.subseed
            else:
                raise InputError("subseed_strength says nothing without a subseed of 0 or more")
        size = Size(found["height"], found["width"]) if _whole(found.get("height"), found.get("width")) else None
        if units := control_units(self.alwayson_scripts or {}, size, self.picture):
            found["controls"] = units
        return {**found, **self._second_pass(size), **_overridden(self.override_settings or {})}

    @property
    def picture(self) -> str | None:
        """The picture that is drawn over."""
        return None

    def _second_pass(self, size: Size | None) -> dict[str, Any]:
        if not self.enable_hr:
            return {}
        if (enlarge := ENLARGED.get(self.hr_upscaler or "Latent")) is None:
            raise InputError(
                f"hr_upscaler is {printable(self.hr_upscaler)}, which this server does not have; "
                f"known are: {', '.join(ENLARGED)}"
            )
        found: dict[str, Any] = {"hires.scale": self._enlargement(size), "hires.enlarge": enlarge}
        if self.denoising_strength is not None:
            found["hires.strength"] = self.denoising_strength
        if self.hr_second_pass_steps:
            found["hires.steps"] = self.hr_second_pass_steps
        return found

    def _enlargement(self, size: Size | None) -> float | None:
        """By which the second pass is larger; the sides that are said go before the scale."""
        sides = (self.hr_resize_x or 0, self.hr_resize_y or 0)
        if not any(sides):
            return self.hr_scale
        if size is None:
            raise InputError("hr_resize_x and hr_resize_y say nothing without width and height")
        scales = [side / own for side, own in zip(sides, (size.width, size.height)) if side]
        if max(scales) - min(scales) > 1e-6:
            raise InputError(f"hr_resize_x and hr_resize_y are {sides[0]}x{sides[1]}, expected is the shape of {size}")
        return scales[0]


class ImageToImage(TextToImage):
    """A1111's request with a picture to start from."""

    init_images: list[str] = Field(default_factory=list)
    mask: str | None = None
    mask_blur: float | None = 4.0
    inpainting_mask_invert: int | bool | None = 0
    inpaint_full_res: int | bool | None = False
    inpaint_full_res_padding: int | None = 0
    resize_mode: int | None = Field(0, ge=0, le=3)

    @property
    def picture(self) -> str | None:
        return self.init_images[0] if self.init_images else None

    def settings(self) -> dict[str, Any]:
        if len(self.init_images) != 1:
            raise InputError(f"init_images holds {len(self.init_images)} pictures, expected is one")
        strength = 0.75 if self.denoising_strength is None else self.denoising_strength
        found: dict[str, Any] = {**super().settings(), "image": self.init_images[0], "strength": strength}
        if self.mask is not None:
            mask = inverted(self.mask, "the mask") if self.inpainting_mask_invert else self.mask
            found |= {"mask": mask, "mask_blur": self.mask_blur or 0.0}
            if self.inpaint_full_res:
                found["mask_padding"] = self.inpaint_full_res_padding or 0
        if "mask_padding" in found:
            return found  # the picture keeps its size: the part alone is drawn at the sides that are said
        if self.resize_mode == CROP and _whole(found.get("height"), found.get("width")):
            size = Size(found["height"], found["width"])
            found |= {name: covering(found[name], f"the {name}", size) for name in ("image", "mask") if name in found}
        elif self.resize_mode not in (None, STRETCH, CROP):
            raise InputError(f"resize_mode is {self.resize_mode}, expected is 0 (just resize) or 1 (crop and resize)")
        return found


def _whole(*sides: Any) -> bool:
    """Whether both sides are said, as numbers within reason; what is wrong with others is said where they are read."""
    return all(isinstance(side, int) and 0 < side <= MAX_SIDE for side in sides)


def _overridden(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What of A1111's options holds for one request; others change nothing about a picture here."""
    found: dict[str, Any] = {}
    if (skip := settings.get("CLIP_stop_at_last_layers")) not in (None, 1):
        found["clip_skip"] = skip
    if delta := settings.get("eta_noise_seed_delta"):
        found["eta_noise_seed_delta"] = delta
    return found


def info(job: Job, pictures: Sequence[PictureRecord], texts: Sequence[str], model: str, version: str) -> str:
    """A1111's `info`: JSON within JSON, which its clients parse a second time."""
    said = pictures[0].request
    prompts = [str(p.request.get("prompt", "")) for p in pictures]
    negatives = [str(p.request.get("negative_prompt", "")) for p in pictures]
    seeds = [p.request.get("seed", 0) for p in pictures]
    subseed = said.get("variation_seed", 0)
    table = {
        "prompt": prompts[0],
        "all_prompts": prompts,
        "negative_prompt": negatives[0],
        "all_negative_prompts": negatives,
        "seed": seeds[0],
        "all_seeds": seeds,
        "subseed": subseed,
        "all_subseeds": [subseed] * len(pictures),
        "subseed_strength": said.get("variation_strength", 0.0),
        "width": pictures[0].width,
        "height": pictures[0].height,
        "sampler_name": said.get("sampler"),
        "cfg_scale": said.get("guidance_scale"),
        "steps": said.get("steps"),
        "batch_size": len(pictures),
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": model,
        "sd_model_hash": pictures[0].model_hash,
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": said.get("strength"),
        "extra_generation_params": {"Schedule type": said.get("schedule")},
        "index_of_first_image": 0,
        "infotexts": list(texts),
        "styles": [],
        "job_timestamp": time.strftime("%Y%m%d%H%M%S", time.localtime(job.created)),
        "clip_skip": said.get("clip_skip", 1),
        "is_using_inpainting_conditioning": False,
        "version": version,
        "remarks": remarks_of(pictures),
    }
    return json.dumps(table)
