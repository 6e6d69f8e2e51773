"""All claims, each of which puts itself into CLAIMS."""

from darkroom.evaluation.replications import (
    add_ablations,
    aspect_ratios,
    compression,
    crop_conditioning,
    few_steps,
    first_stage,
    guidance,
    inpainting,
    latent_scale,
    layout,
    refiner,
    schedule_flaws,
    size_conditioning,
    super_resolution,
)
from darkroom.evaluation.replications.claim import CLAIMS

__all__ = [
    "CLAIMS",
    "add_ablations",
    "aspect_ratios",
    "compression",
    "crop_conditioning",
    "few_steps",
    "first_stage",
    "guidance",
    "inpainting",
    "latent_scale",
    "layout",
    "refiner",
    "schedule_flaws",
    "size_conditioning",
    "super_resolution",
]
