"""A LoRA key is a base key in disguise: parse_key it and look it up in the same tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from darkroom.checkpoints import diffusers, original
from darkroom.checkpoints.clip_names import transformers_text
from darkroom.checkpoints.part import Part, complete
from darkroom.conditioning.clip_text import ClipTextEmbedderConfig
from darkroom.nn.lora import Layer
from darkroom.systems.build import build
from darkroom.systems.system import System

__all__ = ["adaptable_layers", "kohya_names", "layers_by_key", "parse_key", "split_key"]

# What follows the name of a layer, by everybody's habits, and what it means here.
_PARTS = {
    r"[._]lora(_linear_layer)?\.down\.weight": "down",
    r"[._]lora(_linear_layer)?\.up\.weight": "up",
    r"\.lora_down\.weight": "down",
    r"\.lora_up\.weight": "up",
    r"\.lora_mid\.weight": "mid",
    r"\.lora_A(\.\w+)?\.weight": "down",
    r"\.lora_B(\.\w+)?\.weight": "up",
    r"\.lora_magnitude_vector(\.\w+)?": "magnitude_per_output",
    r"\.dora_scale": "magnitude",
    r"\.(network_)?alpha": "alpha",
    r"\.hada_(w[12]_[ab]|t[12])(\.\w+)?": "hada",
    r"\.lokr_(w[12](_[ab])?|t2)(\.\w+)?": "lokr",
    r"\.(a[12]|b[12])\.weight": "glora",
    r"\.oft_blocks": "oft_blocks",
    r"\.rescale": "rescale",
    r"\.oft_R(\.\w+)?\.weight": "oft_R",
    r"\.boft_R(\.\w+)?": "boft_R",
    r"\.boft_s(\.\w+)?": "boft_s",
    r"\.on_input": "on_input",
    r"\.ia3_l(\.\w+)?": "ia3_l",
    r"\.(diff|w_norm)": "full",
    r"\.(diff_b|b_norm)": "bias",
    r"\.lora_B(\.\w+)?\.bias": "up_bias",
    r"[._]lora(_linear_layer)?\.up\.bias": "up_bias",
    r"\.lora_up\.bias": "up_bias",
}
_SPLIT = [(re.compile(f"(.+?){pattern}"), part) for pattern, part in _PARTS.items()]
FACTORED = ("hada", "lokr", "glora")  # parts that are called by their factors
_FACTOR = re.compile(r"\.(?:(?:hada|lokr)_(\w+)|([ab][12])\.weight$)")


def split_key(key: str) -> tuple[str, str] | None:
    """The layer's name, still dressed, and which part of its adapter this is; None if it is no part of one."""
    for pattern, part in _SPLIT:
        match = pattern.fullmatch(key)
        if match:
            factor = _FACTOR.search(key) if part in FACTORED else None
            return match[1], part if factor is None else f"{part}_{factor[1] or factor[2]}"
    return None


_COMFY = (("clip_l", "te1"), ("clip_h", "te1"), ("clip_g", "te2"))  # ComfyUI's names of towers
# A prefix, and the networks that it may mean, as `layers_by_key` calls them.
_PREFIXES = (
    ("lora_unet_", ("unet",)),
    ("lora_te1_", ("te1",)),
    ("lora_te2_", ("te2",)),
    ("lora_te_", ("te1",)),
    ("lycoris_", ("unet", "te1")),
    ("model.diffusion_model.", ("unet",)),
    ("diffusion_model.", ("unet",)),
    ("unet.", ("unet",)),
    ("text_encoder_2.", ("te2",)),
    ("text_encoder.", ("te1",)),
    *((f"{beside}{tower}.transformer.", (network,)) for beside in ("text_encoders.", "") for tower, network in _COMFY),
)


_EARLY_TEXT = re.compile(r"self_attn_to_(q|k|v|out)$")  # of Diffusers 0.14 to 0.17, in text encoders


def parse_key(key: str) -> list[str]:
    """The names by which a layer may be found in `layers_by_key`: network and path, dots as underscores."""
    networks: tuple[str, ...] = ("unet", "te1")
    key = key.removeprefix("base_model.model.")  # PEFT's, before whatever its model calls its parts
    for prefix, meant in _PREFIXES:
        if key.startswith(prefix):
            key, networks = key.removeprefix(prefix), meant
            break
    path = key.replace(".processor.", ".").replace(".", "_")  # attention processors of early Diffusers
    path = _EARLY_TEXT.sub(r"self_attn_\1_proj", path)
    if not path.startswith("text_model_"):  # later transformers leave it out
        return [f"{n}:{p}" for n in networks for p in ((path,) if n == "unet" else (path, f"text_model_{path}"))]
    return [f"{n}:{path}" for n in networks]


@cache
def adaptable_layers(system: System) -> dict[str, Layer]:
    """Our modules that can be adapted, by name, without storage."""
    modules = build(system, "meta").named_modules()
    return {name: module for name, module in modules if isinstance(module, Layer)}


@cache
def layers_by_key(system: System) -> dict[str, str]:
    """Undressed names → names of our modules that can be adapted, in the original and the Diffusers naming."""
    adaptable = adaptable_layers(system)
    state = [f"{name}.weight" for name in adaptable]
    table: dict[str, str] = {}
    for network, part in _networks(system):
        for rule in complete([part], [n for n in state if n.startswith(f"{part.ours}.")]):
            module = rule.ours[0].removesuffix(".weight")
            if len(rule.ours) == 1:
                path = rule.theirs[0].removesuffix(".weight").replace(".", "_")
                table[f"{network}:{path}"] = module
                table.setdefault(f"{network}:{path.removesuffix('_0')}", module)  # to_out.0 was to_out
    return table


def _networks(system: System) -> Iterator[tuple[str, Part]]:
    vector = diffusers.vector_component(system)
    yield "unet", Part("unet", "", tuple(original.unet(system.unet)))
    yield "unet", Part("unet", "", tuple(diffusers.unet(system.unet, vector)))
    for config in system.embedders:
        if isinstance(config, ClipTextEmbedderConfig):
            for i, tower in enumerate(config.towers):
                part = Part(f"conditioner.embedders.caption.towers.{i}", "", tuple(transformers_text(tower.tower)))
                yield f"te{i + 1}", part
                if diffusers.text_components(config)[i] == "text_encoder_2" and i == 0:  # the refiner's only tower
                    yield "te2", part


@cache
def kohya_names(system: System) -> dict[str, str]:
    """Our module → its key in a LoRA file, without the part, as kohya's scripts write it.

    For SDXL they keep the original names of the UNet, for the others those of Diffusers.
    """
    towers = [t for c in system.embedders if isinstance(c, ClipTextEmbedderConfig) for t in c.towers]
    originally = any(t.pooled for t in towers)
    names: dict[str, str] = {}
    state = [f"{name}.weight" for name in adaptable_layers(system)]
    for network, part in _networks(system):
        if network == "unet" and (part.scopes == tuple(original.unet(system.unet))) != originally:
            continue
        prefix = "lora_unet" if network == "unet" else f"lora_{network}" if len(towers) > 1 else "lora_te"
        for rule in complete([part], [n for n in state if n.startswith(f"{part.ours}.")]):
            if len(rule.ours) == 1:
                path = rule.theirs[0].removesuffix(".weight").replace(".", "_")
                names[rule.ours[0].removesuffix(".weight")] = f"{prefix}_{path}"
    return names
