"""LoRA files of every tradition: read against a system, put on a model, written as kohya's scripts do."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from darkroom.checkpoints.lora_names import adaptable_layers, dressed_names, layers_by_key, split_key, undress
from darkroom.checkpoints.modelspec import architecture
from darkroom.checkpoints.open_file import open_weights
from darkroom.checkpoints.safetensors_file import write_safetensors
from darkroom.checkpoints.source import read_json
from darkroom.checkpoints.stored import Weights, all_finite
from darkroom.errors import InputError
from darkroom.nn.lora import Adapter, Adapters, Attached, Full, Hadamard, Kronecker, LowRank, Merged, attach, merge
from darkroom.systems.build import LatentDiffusion
from darkroom.systems.system import System

__all__ = ["AppliedLoras", "Lora", "apply_loras", "describe_lora", "read_lora", "write_lora"]

UNET, TEXT = "unet.", "conditioner."  # beginnings of our module names


@dataclass(frozen=True)
class Lora:
    """Adapters for the layers of one system, by module name."""

    path: Path
    adapters: dict[str, Adapter]
    metadata: Mapping[str, str]

    def of(self, beginning: str) -> dict[str, Adapter]:
        """The adapters of one part of the model."""
        return {name: adapter for name, adapter in self.adapters.items() if name.startswith(beginning)}


def read_lora(
    path: Path | str,
    system: System,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> Lora:
    """Read a LoRA, LoHa, LoKr or DoRA for `system`. Raises `InputError` naming keys that match no layer, or the system
    that it was made for."""
    weights = open_weights(path)
    groups, strange = _groups(weights)
    if not groups:
        raise InputError(f"{path} is no LoRA: none of its {len(weights)} tensors belongs to an adapter")
    _require_system(weights, groups, system)
    table, layers = layers_by_key(system), adaptable_layers(system)
    adapters: dict[str, Adapter] = {}
    unmatched = list(strange)
    alphas = _stated_alphas(weights)
    seen: dict[str, str] = {}
    for key, parts in groups.items():
        module = next((table[name] for name in undress(key) if name in table), None)
        if module is None:
            unmatched.append(key)
            continue
        if module in seen:
            raise InputError(f"{path}: {seen[module]} and {key} are both for one layer, {module}")
        seen[module] = key
        adapters[module] = _adapter(weights, key, parts, layers[module], alphas.get(key), dtype, device)
    if unmatched:
        shown = ", ".join(unmatched[:5]) + (", …" if len(unmatched) > 5 else "")
        raise InputError(f"{path}: {len(unmatched)} keys match no layer of {system.name}: {shown}")
    return Lora(Path(path), adapters, weights.metadata)


def _groups(weights: Weights) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Dressed layer → part → full key; and keys that are no part of an adapter."""
    groups: dict[str, dict[str, str]] = {}
    strange: list[str] = []
    for key in weights:
        split = split_key(key)
        if split is None or split[1] in groups.get(split[0], ()):  # or a second adapter for the same layer
            strange.append(key)
        else:
            groups.setdefault(split[0], {})[split[1]] = key
    return groups, strange


def _adapter(
    weights: Weights,
    key: str,
    parts: Mapping[str, str],
    layer: nn.Linear | nn.Conv2d,
    stated: _Stated | None,
    dtype: torch.dtype | None,
    device: torch.device | str,
) -> Adapter:
    def get(part: str) -> Tensor:
        tensor = weights[parts[part]].load(dtype, device)
        if not all_finite(tensor):
            raise InputError(f"{weights.path}: tensor {parts[part]} holds NaN or infinite values")
        return tensor

    def wrong(cause: str) -> InputError:
        return InputError(f"{weights.path}: {key} {cause}")

    alpha = _scalar(weights, parts["alpha"]) if "alpha" in parts else stated and stated.alpha
    magnitude = get("magnitude") if "magnitude" in parts else None
    if "magnitude_per_output" in parts:
        magnitude = get("magnitude_per_output").flatten()  # of a convolution its axes are exchanged there
    names = set(parts) - {"alpha", "magnitude", "magnitude_per_output"}
    if names in ({"down", "up"}, {"down", "up", "mid"}):
        down = get("down")
        scale = 1.0 if alpha is None else alpha / down.shape[0]
        adapter: Adapter = LowRank(down, get("up"), get("mid") if "mid" in names else None, scale, magnitude)
    elif {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"} <= names:
        a1, b1, a2, b2 = (get(f"hada_{n}") for n in ("w1_a", "w1_b", "w2_a", "w2_b"))
        kernels = (get("hada_t1"), get("hada_t2")) if {"hada_t1", "hada_t2"} <= names else None
        scale = 1.0 if alpha is None else alpha / b1.shape[0]
        adapter = Hadamard((a1, b1, a2, b2), kernels, scale, magnitude)
    elif any(n.startswith("lokr_") for n in names):
        factors = [_factors(w, names) for w in ("w1", "w2")]
        if not all(factors):
            raise wrong("lacks a factor of its product")
        # Two whole factors have no rank: alpha means nothing then, except to PEFT, which divides by the rank it wanted.
        ranks = [weights[parts[f[1]]].shape[0] for f in factors if len(f) > 1]
        if not ranks and "alpha" not in parts and stated is not None and stated.rank:
            ranks = [stated.rank]
        scale = alpha / ranks[-1] if alpha is not None and ranks else 1.0
        w1, w2 = ([get(n) for n in f] for f in factors)
        adapter = Kronecker(w1, w2, scale, magnitude)
    elif names == {"full"}:
        adapter = Full(get("full"), 1.0, magnitude)
    else:
        raise wrong(f"has the parts {', '.join(sorted(names)) or 'none'}, which make no adapter that is known")
    weight = layer.weight
    try:
        change = list(adapter.product().shape)
    except (RuntimeError, IndexError):
        raise wrong("has factors whose shapes do not go together") from None
    if math.prod(change) != weight.numel() or change[0] != len(weight):
        raise wrong(f"makes a change of {change}, the layer has {list(weight.shape)}: made for another model?")
    return adapter


def _scalar(weights: Weights, name: str) -> float:
    if weights[name].numel != 1:
        raise InputError(f"{weights.path}: {name} has shape {list(weights[name].shape)}, wanted is one number")
    return float(weights[name].load().float())


def _factors(w: str, names: set[str]) -> list[str]:
    if f"lokr_{w}" in names:
        return [f"lokr_{w}"]
    if {f"lokr_{w}_a", f"lokr_{w}_b"} <= names:
        return [f"lokr_{w}_a", f"lokr_{w}_b", *(["lokr_t2"] if w == "w2" and "lokr_t2" in names else [])]
    return []


@dataclass(frozen=True)
class _Stated:
    """What stands outside the tensors of a layer."""

    alpha: float
    rank: int | None  # that was asked for


def _stated_alphas(weights: Weights) -> dict[str, _Stated]:
    """Alphas that stand outside the tensors, for every layer: in PEFT's adapter_config.json, or in the metadata."""
    table: dict[str, object] = {}
    beside = weights.path.with_name("adapter_config.json")
    if beside.is_file():
        table = read_json(beside)
    elif "lora_adapter_metadata" in weights.metadata:
        try:
            parsed = json.loads(weights.metadata["lora_adapter_metadata"])
        except (ValueError, RecursionError):
            raise InputError(f"{weights.path}: lora_adapter_metadata is not valid JSON") from None
        table = parsed if isinstance(parsed, dict) else {}
    groups, _ = _groups(weights)
    result: dict[str, _Stated] = {}
    for key, parts in groups.items():
        component = next((f"{c}." for c in ("unet", "text_encoder_2", "text_encoder") if key.startswith(f"{c}.")), "")
        rank = weights[parts["down"]].shape[0] if "down" in parts else None
        alpha = table.get(f"{component}lora_alpha", table.get("lora_alpha", table.get("alpha")))
        alpha = _own(key, table.get(f"{component}alpha_pattern", table.get("alpha_pattern")), alpha)
        wanted = _own(key, table.get("rank_pattern"), table.get("r"))
        if isinstance(alpha, (int, float)):
            rooted = table.get(f"{component}use_rslora", table.get("use_rslora")) is True and rank
            alpha = alpha * rank**0.5 if rooted and rank else float(alpha)
            result[key] = _Stated(alpha, wanted if isinstance(wanted, int) else None)
    return result


def _own(key: str, patterns: object, value: object) -> object:
    """What `patterns` (ends of names → values) say of `key`; else `value`."""
    for pattern, own in patterns.items() if isinstance(patterns, dict) else ():
        if re.search(rf"(^|\.){re.escape(str(pattern))}$", key):
            value = own
    return value


# Width of the tokens that cross-attention reads → who reads such.
_FAMILIES = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "SDXL", 1280: "the SDXL refiner"}
_WORDS = (("refiner", 1280), ("xl", 2048), ("v2", 1024), ("v1", 768))  # of those in metadata, the first that occurs


def _token_width(weights: Weights, groups: Mapping[str, Mapping[str, str]]) -> int | None:
    """Of the tokens that the adapted cross-attention reads; None if no such layer is adapted."""
    for key, parts in groups.items():
        if re.search(r"attn2[._]to_[kv]$", key) and "down" in parts:
            return weights[parts["down"]].shape[1]
    return None


def _said_family(weights: Weights, groups: Mapping[str, Mapping[str, str]]) -> str | None:
    """What the metadata say the LoRA was made for; a second text encoder says as much."""
    said = " ".join(weights.metadata.get(k, "") for k in ("ss_base_model_version", "modelspec.architecture")).lower()
    found = next((width for word, width in _WORDS if word in said), None)
    if found is None and any(undress(key)[0].startswith("te2:") for key in groups):
        found = 2048
    return None if found is None else _FAMILIES[found]


def _require_system(weights: Weights, groups: Mapping[str, Mapping[str, str]], system: System) -> None:
    reads = system.unet.context_dim
    width = _token_width(weights, groups)
    made_for = None if width is None else _FAMILIES.get(width, f"a model that reads tokens of width {width}")
    fits = width is None or width == reads
    if width is None and (said := _said_family(weights, groups)) is not None:
        own = next((w for word, w in _WORDS if word in architecture(system)), None)
        made_for, fits = said, own is None or said == _FAMILIES[own]
    if not fits:
        tokens = f"tokens of width {reads}" if reads else "no tokens"
        raise InputError(f"{weights.path} is a LoRA for {made_for}, the model is {system.name}, which reads {tokens}")


def describe_lora(weights: Weights) -> dict[str, str] | None:
    """What `darkroom inspect` says of a LoRA; None if the file is none."""
    groups, strange = _groups(weights)
    if not groups:
        return None
    kinds = {
        "LoRA": any("down" in p for p in groups.values()),
        "LoHa": any("hada_w1_a" in p for p in groups.values()),
        "LoKr": any(n.startswith("lokr") for p in groups.values() for n in p),
        "full differences": any("full" in p for p in groups.values()),
        "with magnitudes (DoRA)": any(n.startswith("magnitude") for p in groups.values() for n in p),
    }
    ranks = sorted({weights[p["down"]].shape[0] for p in groups.values() if "down" in p})
    alphas = sorted({_scalar(weights, p["alpha"]) for p in groups.values() if "alpha" in p})
    networks = [undress(key)[0].partition(":")[0] for key in groups]
    width = _token_width(weights, groups)
    by_width = _FAMILIES.get(width, f"tokens of width {width}") if width else None
    table = {
        "kind": ", ".join(k for k, there in kinds.items() if there),
        "made for": by_width or _said_family(weights, groups) or "unknown",
        "layers": ", ".join(f"{networks.count(n)} of {n}" for n in sorted(set(networks))),
        "rank": ", ".join(map(str, ranks)) or "–",
        "alpha": ", ".join(f"{a:g}" for a in alphas) or "– (scale 1)",
    }
    return {**table, **({"unknown keys": ", ".join(strange[:5])} if strange else {})}


class AppliedLoras:
    """LoRAs on a model; `remove` leaves it bit for bit as it was."""

    def __init__(self, attached: list[Attached], merged: Merged | None) -> None:
        self._attached, self._merged = attached, merged

    def remove(self) -> None:
        for attached in self._attached:
            attached.detach()
        if self._merged is not None:
            self._merged.undo()
        self._attached, self._merged = [], None


def apply_loras(
    model: LatentDiffusion, loras: Sequence[tuple[Lora, float, float]], *, merged: bool = False
) -> AppliedLoras:
    """Put (LoRA, strength on the UNet, strength on the text encoders) on `model`, live or merged into its weights."""
    parts = [(lora.of(UNET), strength) for lora, strength, _ in loras]
    parts += [(lora.of(TEXT), strength) for lora, _, strength in loras]
    if merged:
        return AppliedLoras([], merge(model, Adapters.of(parts)))
    return AppliedLoras([attach(model, adapters, strength) for adapters, strength in parts if adapters], None)


def write_lora(
    path: Path | str,
    adapters: Mapping[str, Adapter],
    system: System,
    metadata: Mapping[str, str],
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write low-rank adapters, by module name, with kohya's keys and alpha; `metadata` holds what the training knows
    (`ss_…`). Every tool that reads LoRAs reads these."""
    names = dressed_names(system)
    tensors: dict[str, Tensor] = {}
    for module, adapter in adapters.items():
        if not isinstance(adapter, LowRank):
            raise InputError(f"the adapter of {module} is a {type(adapter).__name__}; only low-rank ones are written")
        key = names[module]
        tensors[f"{key}.lora_down.weight"] = adapter.down.detach().to(dtype)
        tensors[f"{key}.lora_up.weight"] = adapter.up.detach().to(dtype)
        tensors[f"{key}.alpha"] = torch.tensor(adapter.scale * adapter.down.shape[0], dtype=dtype)
        if adapter.mid is not None:
            tensors[f"{key}.lora_mid.weight"] = adapter.mid.detach().to(dtype)
        if adapter.magnitude is not None:
            magnitude = adapter.magnitude.detach().to(dtype)
            per_output = magnitude.reshape(-1, *[1] * (adapter.down.dim() - 1))
            tensors[f"{key}.dora_scale"] = per_output if magnitude.dim() == 1 else magnitude
    ranks = {a.down.shape[0] for a in adapters.values() if isinstance(a, LowRank)}
    known = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{architecture(system)}/lora",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "/".join(map(str, sorted(ranks))),
        "ss_base_model_version": _BASE_VERSIONS.get(system.unet.context_dim or 0, system.name),
        "ss_v2": str(system.unet.context_dim == 1024),
    }
    write_safetensors(path, tensors, {**known, **metadata})


_BASE_VERSIONS = {768: "sd_v1", 1024: "sd_v2", 2048: "sdxl_base_v1-0", 1280: "sdxl_refiner_v1-0"}
