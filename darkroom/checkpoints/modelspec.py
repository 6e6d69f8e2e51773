"""What a safetensors header says about the model inside, in the words that other tools read.

https://github.com/Stability-AI/ModelSpec, version 1.0.1.
"""

from __future__ import annotations

from collections.abc import Mapping

from darkroom.diffusion.prediction import Prediction
from darkroom.systems.system import System

__all__ = ["IMPLEMENTATION", "architecture", "modelspec"]

IMPLEMENTATION = "https://github.com/Stability-AI/generative-models"

_ARCHITECTURES = (  # the first whose words all occur in the system's name
    (("sdxl", "refiner"), "stable-diffusion-xl-v1-refiner"),
    (("sdxl", "turbo"), "stable-diffusion-xl-turbo-v1"),
    (("sdxl",), "stable-diffusion-xl-v1-base"),
    (("sd-v1", "inpainting"), "stable-diffusion-v1-inpainting"),
    (("sd-v1",), "stable-diffusion-v1"),
    (("sd-v2", "inpainting"), "stable-diffusion-v2-inpainting"),
    (("sd-v2", "depth"), "stable-diffusion-v2-depth"),
    (("sd-v2", "unclip"), "stable-diffusion-v2-unclip"),
    (("sd-v2", "768"), "stable-diffusion-v2-768-v"),
    (("sd-v2",), "stable-diffusion-v2-512"),
    (("sd-turbo",), "stable-diffusion-v2-turbo"),
)


def architecture(system: System) -> str:
    """The name of the network; systems that have no word of their own there keep ours."""
    return next((a for words, a in _ARCHITECTURES if all(w in system.name for w in words)), system.name)


def modelspec(system: System, notes: Mapping[str, str]) -> dict[str, str]:
    """The metadata of a whole model; `notes` (of the file that it came from) stand, but for the prediction."""
    table = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": architecture(system),
        "modelspec.implementation": IMPLEMENTATION,
        "modelspec.title": system.title,
        "modelspec.resolution": f"{system.defaults.width}x{system.defaults.height}",
    }
    prediction = {Prediction.EPS: "epsilon", Prediction.V: "v", Prediction.X0: "sample"}[system.prediction]
    return {**table, **notes, "modelspec.prediction_type": prediction}
