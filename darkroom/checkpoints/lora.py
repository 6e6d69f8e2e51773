"""LoRA files of every tradition: read against a system, put on a model, written as kohya's scripts do."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from darkroom.checkpoints.adapter_formats import FORMATS, FULL, AdapterFormat, Given, MisfitError, written_parts
from darkroom.checkpoints.embeddings import BUNDLED
from darkroom.checkpoints.kohya_hashes import kohya_hashes
from darkroom.checkpoints.lora_family import family_of, made_for, require_family, told_family
from darkroom.checkpoints.lora_names import adaptable_layers, kohya_names, layers_by_key, parse_key, split_key
from darkroom.checkpoints.lora_scales import Stated, stated_scales
from darkroom.checkpoints.modelspec import IMPLEMENTATION, architecture
from darkroom.checkpoints.multiplicative_formats import MULTIPLICATIVE
from darkroom.checkpoints.open_file import open_weights
from darkroom.checkpoints.safetensors_file import write_safetensors
from darkroom.checkpoints.stored import Stored, Weights, all_finite
from darkroom.errors import InputError, printable
from darkroom.nn.lora import Adapter, Adapters, Attached, Layer, Merged, WithBias, attach, merge
from darkroom.systems import SYSTEMS
from darkroom.systems.build import LatentDiffusion
from darkroom.systems.system import System

__all__ = ["AppliedLoras", "Lora", "apply_loras", "describe_lora", "read_lora", "told_system", "write_lora"]

UNET, TEXT = "unet.", "conditioner."  # beginnings of our module names
MAGNITUDES = ("magnitude", "magnitude_per_output")
BIASES = ("bias", "up_bias")  # the second is multiplied like the factors
WHOLE = ("alpha", "on_input")  # parts that may be whole numbers
_UNREAD = {
    r"oft_(r|embedding_R)|oft_diag": "an early OFT",
    r"lora_E": "an AdaLoRA",
    r"p?vera_lambda_[bd]": "a VeRA",
    r"fourierft_spectrum": "a FourierFT",
    r"waveft_spectrum": "a WaveFT",
    r"vblora_\w+": "a VB-LoRA",
    r"randlora_\w+": "a RandLoRA",
    r"gralora_\w+": "a GraLoRA",
    r"tinylora_v|unilora_theta_d": "a LoRA of shared random numbers",
    r"delora_\w+": "a DeLoRA",
    r"hira_[AB]": "a HiRA",
    r"hra_u": "an HRA",
    r"c3a_kernel": "a C3A",
    r"miss_block|bone": "a MiSS or Bone",
    r"road_(theta|alpha)": "a RoAd",
    r"shira_weight": "a SHiRA",
    r"psoft_R": "a PSOFT",
    r"ln_tuning_layers": "LN tuning",
    r"poly_(lora_[AB]|router)": "a Poly",
    r"trainable_tokens_delta": "trained tokens of PEFT",
}  # parts of adapters of PEFT that are not read
UNREAD = [(re.compile(rf".*\.({part})(\..*)?"), kind) for part, kind in _UNREAD.items()]
KNOWN = {**FORMATS, **MULTIPLICATIVE}
READ = ("LoRA", "DoRA", "LoHa", "LoKr", "GLoRA", "(IA)³", "OFT", "BOFT", "full differences")
BESIDE = {"alpha", *MAGNITUDES, *BIASES}  # parts that may stand beside those of any format


@dataclass(frozen=True)
class Lora:
    """Adapters for the layers of one system, by module name. Nothing in it changes with use: several pictures may use
    it at once, each with strengths of its own."""

    path: Path
    adapters: Mapping[str, Adapter]
    metadata: Mapping[str, str]

    @cached_property
    def unet(self) -> dict[str, Adapter]:
        """Those of the denoiser."""
        return {name: adapter for name, adapter in self.adapters.items() if name.startswith(UNET)}

    @cached_property
    def text(self) -> dict[str, Adapter]:
        """Those of the text encoders."""
        return {name: adapter for name, adapter in self.adapters.items() if name.startswith(TEXT)}


def read_lora(
    path: Path | str,
    system: System,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> Lora:
    """Read a LoRA, LoHa, LoKr, GLoRA, (IA)³, OFT or BOFT, or a DoRA of any, for `system`.

    Raises `InputError` naming keys that match no layer, or the system that it was made for.
    """
    weights = open_weights(path)
    if (kind := next((kind for mark, kind in UNREAD if any(mark.fullmatch(key) for key in weights)), None)) is not None:
        raise InputError(f"{path} is {kind}, which is not read; read are {', '.join(READ)}")
    groups, strange = _groups(weights)
    if not groups:
        raise InputError(f"{path} is no LoRA: none of its {len(weights)} tensors belongs to an adapter")
    require_family(weights, groups, system)
    table, layers = layers_by_key(system), adaptable_layers(system)
    stated = stated_scales(weights)
    adapters: dict[str, Adapter] = {}
    unmatched = list(strange)
    seen: dict[str, str] = {}
    for key, parts in groups.items():
        module = next((table[name] for name in parse_key(key) if name in table), None)
        if module is None:
            unmatched.append(key)
            continue
        if module in seen:
            raise InputError(
                f"{path}: {printable(seen[module], 200)} and {printable(key, 200)} are both for one layer, {module}"
            )
        seen[module] = key
        layer = _Layer(weights.path, key, parts, layers[module])
        adapters[module] = layer.adapter(stated.of(key), dtype, device)
    if unmatched:
        shown = ", ".join(printable(key, 200) for key in unmatched[:5]) + (", …" if len(unmatched) > 5 else "")
        raise InputError(f"{path}: {len(unmatched)} keys match no layer of {system.name}: {shown}")
    return Lora(Path(path), adapters, weights.metadata)


def _groups(weights: Weights) -> tuple[dict[str, dict[str, Stored]], list[str]]:
    """Dressed layer → part → tensor; and keys that are no part of an adapter."""
    groups: dict[str, dict[str, Stored]] = {}
    strange: list[str] = []
    for key, stored in weights.items():
        if key.startswith(BUNDLED):
            continue
        # (IA)³'s vectors are called as weights are; what stands beside them tells.
        stem = key.removesuffix(".weight")
        split = (stem, "ia3") if f"{stem}.on_input" in weights and stem != key else split_key(key)
        if split is None or split[1] in groups.get(split[0], ()):  # or a second adapter for the same layer
            strange.append(key)
        else:
            groups.setdefault(split[0], {})[split[1]] = stored
    return groups, strange


@dataclass(frozen=True)
class _Layer:
    """What a file holds for one layer. Everything is checked by shape before any of it is loaded."""

    path: Path
    key: str
    parts: Mapping[str, Stored]
    layer: Layer

    def adapter(self, stated: Stated, dtype: torch.dtype | None, device: torch.device | str) -> Adapter:
        names = frozenset(self.parts) - BESIDE
        form = KNOWN.get(names)
        bias_alone = not names and "bias" in self.parts
        if form is None and not bias_alone:
            there = ", ".join(sorted(names)) or "none"
            raise self.wrong(f"has the parts {there}, which make no adapter that is known")
        for part, stored in self.parts.items():
            if part not in WHOLE and not stored.dtype.is_floating_point:
                raise self.wrong(f"has numbers of the kind {stored.dtype} in its part {part}, expected are fractions")
        scale, change = 1.0, None
        if form is not None:
            shapes = {name: self.parts[name].shape for name in names}
            self._require_shape(form, shapes)
            scale = self._scale(form, shapes, stated)
            magnitude = next((self._magnitude(n, dtype, device) for n in MAGNITUDES if n in self.parts), None)
            loaded = {name: self._load(name, dtype, device) for name in names}
            try:
                change = form.build(loaded, Given(scale, magnitude, tuple(self.layer.weight.shape), stated))
            except MisfitError:
                raise self.wrong("has parts that do not go together with the layer") from None
        biases = {name: self._bias(name, dtype, device) for name in BIASES if name in self.parts}
        if not biases:
            assert change is not None, "a layer without a format has a bias"
            return change
        return WithBias(torch.stack([b * (scale if n == "up_bias" else 1) for n, b in biases.items()]).sum(0), change)

    def wrong(self, cause: str) -> InputError:
        return InputError(f"{self.path}: {printable(self.key, 200)} {cause}")

    def _require_shape(self, form: AdapterFormat, shapes: Mapping[str, tuple[int, ...]]) -> None:
        weight = self.layer.weight
        if weight.dim() < 2 and (form is not FULL or not set(MAGNITUDES).isdisjoint(self.parts)):
            raise self.wrong(f"is a {form.name} for a norm, which takes only differences")
        try:
            change = form.change(shapes, tuple(weight.shape))
        except MisfitError:
            raise self.wrong("has factors whose shapes do not go together") from None
        if math.prod(change) != weight.numel() or change[:1] != weight.shape[:1]:
            raise self.wrong(
                f"makes a change of {list(change)}, the layer has {list(weight.shape)}: made for another model?"
            )

    def _scale(self, form: AdapterFormat, shapes: Mapping[str, tuple[int, ...]], stated: Stated) -> float:
        rank = form.rank(shapes)
        if form.alpha_bounds:
            return read_alpha(self.path, self.key, self.parts["alpha"]) if "alpha" in self.parts else 0.0
        if rank == 0:
            raise self.wrong("has the rank 0")
        if "alpha" in self.parts:
            alpha = read_alpha(self.path, self.key, self.parts["alpha"])
            return alpha / rank if rank else 1.0  # without factors there is no rank, and alpha means nothing
        # PEFT divides the alpha of its configuration by the rank that was asked for, also where factors are whole.
        rank = rank or stated.rank
        if stated.alpha is None or not rank or rank < 0:
            return 1.0
        return stated.alpha / (rank**0.5 if stated.rooted else rank)

    def _magnitude(self, name: str, dtype: torch.dtype | None, device: torch.device | str) -> Tensor:
        shape, weight = self.parts[name].shape, self.layer.weight
        per_output = name == "magnitude_per_output" or len(shape) < 2 or shape[0] == len(weight)
        if math.prod(shape) != weight.shape[0 if per_output else 1]:
            raise self.wrong(f"has magnitudes of shape {list(shape)}, the layer has {list(weight.shape)}")
        magnitude = self._load(name, dtype, device)
        # PEFT's of a convolution has its axes exchanged.
        return magnitude.flatten() if name == "magnitude_per_output" else magnitude

    def _bias(self, name: str, dtype: torch.dtype | None, device: torch.device | str) -> Tensor:
        shape, weight = self.parts[name].shape, self.layer.weight
        if math.prod(shape) != len(weight):
            raise self.wrong(f"changes a bias by the shape {list(shape)}, the layer has {len(weight)} outputs")
        return self._load(name, dtype, device).flatten()

    def _load(self, name: str, dtype: torch.dtype | None, device: torch.device | str) -> Tensor:
        tensor = self.parts[name].load(dtype, device)
        if not all_finite(tensor):
            raise self.wrong(f"holds NaN or infinite values in its part {name}")
        return tensor


def read_alpha(path: Path, key: str, stored: Stored) -> float:
    """The one number in `stored`, the alpha of layer `key`. Raises `InputError` if it is none, or not finite."""
    if stored.numel != 1:
        raise InputError(
            f"{path}: alpha of {printable(key, 200)} has shape {list(stored.shape)}, expected is one number"
        )
    alpha = float(stored.load().double())
    if not math.isfinite(alpha):
        raise InputError(f"{path}: alpha of {printable(key, 200)} is {alpha}, expected is a finite number")
    return alpha


def describe_lora(weights: Weights) -> dict[str, str] | None:
    """What `darkroom inspect` says of a LoRA; None if the file is none."""
    groups, strange = _groups(weights)
    if not groups:
        return None
    kinds: dict[str, None] = {}  # in the order of their first layers
    ranks: set[int] = set()
    for parts in groups.values():
        names = frozenset(parts) - BESIDE
        form = KNOWN.get(names)
        if names:
            kinds[form.name if form else "of unknown parts"] = None
        rank = form.rank({name: stored.shape for name, stored in parts.items()}) if form else None
        ranks |= set() if rank is None else {rank}
    if any(name in parts for parts in groups.values() for name in BIASES):
        kinds["biases"] = None
    if any(name in parts for parts in groups.values() for name in MAGNITUDES):
        kinds["with magnitudes (DoRA)"] = None
    alphas = sorted({read_alpha(weights.path, k, p["alpha"]) for k, p in groups.items() if "alpha" in p})
    networks = [parse_key(key)[0].partition(":")[0] for key in groups]
    table = {
        "kind": ", ".join(kinds),
        "made for": made_for(weights, groups) or "unknown",
        "layers": ", ".join(f"{networks.count(n)} of {n}" for n in sorted(set(networks))),
        "rank": ", ".join(map(str, sorted(ranks))) or "–",
        "alpha": ", ".join(f"{a:g}" for a in alphas) or "– (scale 1)",
    }
    return {**table, **({"unknown keys": ", ".join(map(printable, strange[:5]))} if strange else {})}


def told_system(weights: Weights) -> System | None:
    """The best known system of the family that a LoRA was made for; None if the file tells of none."""
    family = told_family(weights, _groups(weights)[0])
    return None if family is None else SYSTEMS[family.example]


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
    parts = [(lora.unet, strength) for lora, strength, _ in loras]
    parts += [(lora.text, strength) for lora, _, strength in loras]
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
    """Write adapters (LoRA, LoHa, LoKr, with or without magnitudes), by module name, with the keys and alpha of kohya's
    and LyCORIS' trainers; `metadata` holds what the training knows (`ss_…`). Tools that read LoRAs read these."""
    names = kohya_names(system)
    layers = adaptable_layers(system)
    tensors: dict[str, Tensor] = {}
    algorithms: set[str] = set()
    ranks: set[int] = set()
    for module, adapter in adapters.items():
        written = written_parts(adapter)
        if written is None:
            raise InputError(f"the adapter of {module} is a {type(adapter).__name__}, which is not written")
        parts = dict(written.parts)
        algorithms.add(written.algorithm)
        if written.rank is not None:
            ranks.add(written.rank)
        # Where nothing is of low rank, LyCORIS writes an alpha that stands for the scale 1.
        parts["alpha"] = torch.tensor(adapter.scale * (written.rank or 1))
        if (magnitude := adapter.magnitude) is not None:
            per_output = magnitude.reshape(-1, *[1] * (layers[module].weight.dim() - 1))
            parts["dora_scale"] = per_output if magnitude.dim() == 1 else magnitude
        tensors |= {f"{names[module]}.{part}": tensor.detach().to(dtype) for part, tensor in parts.items()}
    family = family_of(system)
    plain = algorithms == {"lora"}
    known = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{architecture(system)}/lora",
        "modelspec.implementation": IMPLEMENTATION,
        "modelspec.title": Path(path).stem,
        "ss_network_module": "networks.lora" if plain else "lycoris.kohya",
        **({} if plain else {"ss_network_args": json.dumps({"algo": "/".join(sorted(algorithms))})}),
        "ss_network_dim": "/".join(map(str, sorted(ranks))),
        "ss_base_model_version": family.base_version if family else system.name,
        "ss_v2": str(family is not None and family.base_version == "sd_v2"),
    }
    told = {**known, **metadata}
    write_safetensors(path, tensors, {**told, **kohya_hashes(tensors, told)})
