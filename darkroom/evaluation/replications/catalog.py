"""All claims, each of which puts itself into CLAIMS."""

from darkroom.evaluation.replications import guidance, inpainting, schedule_flaws
from darkroom.evaluation.replications.claim import CLAIMS

__all__ = ["CLAIMS", "guidance", "inpainting", "schedule_flaws"]
