"""A checkpoint before anybody knows which system it is: its layout, its tensors under today's names, its notes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from darkroom.checkpoints import diffusers_names, original_names
from darkroom.checkpoints.open_file import open_weights
from darkroom.checkpoints.stored import Stored, Weights
from darkroom.errors import InputError
from darkroom.input_file import entries
from darkroom.json_file import read_json

__all__ = ["Source", "open_source", "weights_of"]

Layout = Literal["original", "diffusers"]

COMPONENTS = (
    *("unet", "vae", "vqvae", "text_encoder", "text_encoder_2", "bert"),
    *("image_encoder", "image_normalizer", "depth_estimator"),
)
STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
# A stem, perhaps a variant, a container, and for the table of shards an ending that repeats the variant.
_COMPONENT_FILE = re.compile(rf"({'|'.join(STEMS)})(\.\w+)?\.(safetensors|bin)(\.index(\.\w+)?\.json)?")
_VARIANTS = ("", "fp16", "bf16")  # the preferred ones; others follow, and weights without their average come last
WEIGHT_FILES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin")


@dataclass(frozen=True)
class Source:
    """`tensors` of a folder are named "component/name"."""

    path: Path
    layout: Layout
    tensors: Mapping[str, Stored]
    metadata: Mapping[str, str]
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of a folder: by component, and model_index
    files: tuple[Weights, ...] = ()

    @property
    def main_file(self) -> Path:
        """The file whose hash stands for the whole: the only one, or the denoiser's."""
        chosen = next((w.path for w in self.files if w.path.parent.name == "unet"), self.files[0].path)
        return chosen if chosen.suffix != ".json" else min(chosen.parent.glob("*-00001-of-*"), default=chosen)

    def require_finite(self) -> None:
        """Raise `InputError` naming the first tensor that holds NaN or infinity."""
        for weights in self.files:
            weights.require_finite()


def open_source(path: Path | str) -> Source:
    """A single file or a Diffusers folder. Raises `InputError` naming file and cause."""
    path = Path(path)
    return _open_folder(path) if os.path.isdir(path) else _open_single(path)


def _open_single(path: Path) -> Source:
    weights = open_weights(path)
    return Source(
        path,
        "original",
        dict(original_names.modern_tensor(name, stored) for name, stored in weights.items()),
        weights.metadata,
        files=(weights,),
    )


def _open_folder(path: Path) -> Source:
    if os.path.isfile(path / "system.json"):
        raise InputError(f"{path} is a folder of this project, whose systems other layouts cannot hold")
    if not os.path.isfile(path / "model_index.json"):
        inside = [p.name for p in entries(path) if p.suffix in WEIGHT_FILES]
        hint = f"; to use one of its files, name it: {', '.join(inside[:5])}" if inside else ""
        raise InputError(f"the folder {path} holds no model_index.json (nor a system.json){hint}")
    configs: dict[str, Mapping[str, Any]] = {"model_index": read_json(path / "model_index.json")}
    tensors: dict[str, Stored] = {}
    files: list[Weights] = []
    for component in COMPONENTS:
        folder = path / component
        if not os.path.isdir(folder):
            continue
        weights = open_weights(weights_of(folder))
        files.append(weights)
        tensors.update({diffusers_names.modern_name(f"{component}/{name}"): stored for name, stored in weights.items()})
        if os.path.isfile(folder / "config.json"):
            configs[component] = read_json(folder / "config.json")
    if not files:
        raise InputError(
            f"the folder {path} holds a model_index.json but none of the components it needs (unet, vae …)"
        )
    if os.path.isfile(path / "scheduler" / "scheduler_config.json"):
        configs["scheduler"] = read_json(path / "scheduler" / "scheduler_config.json")
    return Source(path, "diffusers", tensors, files[0].metadata, configs, tuple(files))


def weights_of(folder: Path) -> Path:
    """The weights in a component's folder, or the table of their shards: safetensors before pickles, no variant before
    half precision before any other."""
    found = {
        p.name: match for p in entries(folder) if (match := _COMPONENT_FILE.fullmatch(p.name)) and os.path.isfile(p)
    }
    if not found:
        raise InputError(
            f"the folder {folder} holds no weights; expected is {STEMS[0]}.safetensors, model.safetensors or .bin"
        )
    return folder / min(found, key=lambda name: _preference(found[name]))


def _preference(match: re.Match[str]) -> tuple[int, ...]:
    stem, variant, container, table, of_table = match.groups()
    variant = (variant or of_table or "").removeprefix(".")
    rank = _VARIANTS.index(variant) if variant in _VARIANTS else len(_VARIANTS) + (variant == "non_ema")
    return (container != "safetensors", rank, table is not None, STEMS.index(stem))
