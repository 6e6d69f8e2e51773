"""Which system of the catalogue a checkpoint is, what its network predicts, and how each was told."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from torch import Tensor

from darkroom.checkpoints import diffusers, diffusers_names, original, original_names
from darkroom.checkpoints.choosing import Candidate, choose
from darkroom.checkpoints.control_names import kind_of_control
from darkroom.checkpoints.diffusers_config import has_pipeline
from darkroom.checkpoints.part import complete
from darkroom.checkpoints.prediction import Told, tell_prediction
from darkroom.checkpoints.source import Source
from darkroom.checkpoints.table import Rule
from darkroom.checkpoints.transfer import Fit, fit
from darkroom.conditioning.clip_text import ClipTextEmbedderConfig
from darkroom.conditioning.size_and_crop import NumbersConfig
from darkroom.diffusion.prediction import Prediction
from darkroom.errors import InputError, printable
from darkroom.json_file import real
from darkroom.systems import SYSTEMS, System
from darkroom.systems.build import build

__all__ = [
    "Identity",
    "by_networks",
    "candidate",
    "empty_state",
    "identify",
    "parameter_counts",
    "rules_for",
    "written_by_generative_models",
]


@dataclass(frozen=True)
class Identity:
    """`system` is the catalogue's, with what the checkpoint itself says about prediction and scales put in."""

    system: System
    alternatives: tuple[str, ...]  # other systems with the same tensors
    told_by: str
    prediction_told_by: str
    rules: list[Rule]
    fit: Fit
    ema: bool  # whether the rules read the running average
    has_stage: bool  # whether the first stage is there, which some files leave to another one

    def require_stage(self, where: Path) -> None:
        """Raise `InputError` unless the first stage is there."""
        if not self.has_stage:
            raise InputError(f"{where} holds no first stage (VAE): name one for it with --vae, such as sd-vae-ft-mse")


def identify(
    source: Source,
    *,
    system: System | None = None,
    ema: str = "auto",
    prediction: Prediction | None = None,
    hint: str = "",
) -> Identity:
    """Find the system whose networks are exactly these tensors; with `system`, require on that one.

    `ema`: "yes" reads the running average and insists on it, "no" never, "auto" where it is there. `hint` is how the
    user called the checkpoint; names tell apart what tensors cannot. Raises `InputError` describing the nearest system.
    """
    candidates = _plausible(source) if system is None else [system]
    holds = original.holds if source.layout == "original" else has_pipeline
    candidates = [c for c in candidates if holds(c)]
    fitting: dict[str, tuple[list[Rule], Fit, bool, bool]] = {}
    nearest: tuple[Fit, str] | None = None
    for alike in by_networks(candidates):
        rules = rules_for(alike[0], source)
        rules, average = _with_ema(rules, source, ema)
        stage = {name for rule in rules if rule.ours[0].startswith("autoencoder.") for name in rule.theirs}
        has_stage = not stage.isdisjoint(source.tensors)
        found = fit(
            rules,
            empty_state(alike[0]),
            source.tensors,
            optional=(*original_names.OPTIONAL, *(() if has_stage else stage)),
            is_ignored=_baggage_of(source, average),
        )
        if found.distance == 0:
            fitting.update((candidate.name, (rules, found, average, has_stage)) for candidate in alike)
        elif nearest is None or found.distance < nearest[0].distance:
            nearest = found, alike[0].name
    if not fitting:
        if nearest is None:
            raise InputError(f"{source.path} is no system of the catalogue: {_describe(source)}")
        nearest[0].require(source.path, f"{nearest[1]}{'' if system else ', the nearest system of the catalogue'}")

    fitting_systems = [c for c in candidates if c.name in fitting]
    told = tell_prediction(source, prediction, ambiguous=len({c.prediction for c in fitting_systems}) > 1)
    if system is None:
        names, told_by = choose({n: candidate(SYSTEMS[n]) for n in fitting}, source, told, hint)
    else:
        names, told_by = [system.name], "the caller"
    chosen = next(c for c in fitting_systems if c.name == names[0])
    described, prediction_told_by = _with_prediction(chosen, told)
    rules, found, average, has_stage = fitting[names[0]]
    return Identity(
        system=replace(
            described, latent_scale=_latent_scale(chosen, source), force_upcast=_stage_overflows(chosen, source)
        ),
        alternatives=tuple(names[1:]),
        told_by=told_by,
        prediction_told_by=prediction_told_by,
        rules=rules,
        fit=found,
        ema=average,
        has_stage=has_stage,
    )


def rules_for(system: System, source: Source) -> list[Rule]:
    """All names of `system` in the layout of `source`."""
    if source.layout == "original":
        parts = original.parts(system, generative_models=original_names.is_of_generative_models(source.tensors))
    else:
        folders = {name.partition("/")[0] for name in source.tensors}
        parts = [_under(part, folders) for part in diffusers.parts(system)]
    return complete(parts, empty_state(system))


def written_by_generative_models(system: System) -> bool:
    """Whether the published single file follows generative-models: all that pool text, and SD-Turbo."""
    pooled = any(t.pooled for c in system.embedders if isinstance(c, ClipTextEmbedderConfig) for t in c.towers)
    return pooled or "sd-turbo" in system.layouts


@cache
def empty_state(system: System) -> dict[str, Tensor]:
    """Names and shapes of a system, without storage."""
    return build(system, "meta").state_dict()


def _under(part: diffusers.Part, folders: set[str]) -> diffusers.Part:
    """The first stage's folder has two names, whoever wrote it."""
    other = {"vae/": "vqvae/", "vqvae/": "vae/"}.get(part.theirs, part.theirs)
    return part if part.theirs.rstrip("/") in folders else replace(part, theirs=other)


def _plausible(source: Source) -> list[System]:
    """Systems whose UNet begins and ends as wide and reads tokens of the same width; all, if nothing is recognised."""
    first, last = (
        ("model.diffusion_model.input_blocks.0.0.weight", "model.diffusion_model.out.2.weight")
        if source.layout == "original"
        else ("unet/conv_in.weight", "unet/conv_out.weight")
    )
    if first not in source.tensors or last not in source.tensors:
        return []
    width, n_in = [*source.tensors[first].shape, 0, 0][:2]
    n_out = [*source.tensors[last].shape, 0][0]
    contexts = {
        stored.shape[1]
        for name, stored in source.tensors.items()
        if name.endswith("attn2.to_k.weight") and stored.shape[1:]
    }
    found = [s for s in SYSTEMS.values() if (s.unet.in_channels, s.unet.out_channels) == (n_in, n_out)]
    found = [s for s in found if s.unet.model_channels * s.unet.channel_mult[0] == width] or found
    return [s for s in found if s.unet.context_dim in (contexts or {None})] or found


def by_networks(systems: Sequence[System]) -> list[list[System]]:
    """Systems with the same tensors together, so that they are compared with the file once."""
    groups: dict[object, list[System]] = {}
    for system in systems:
        trained = tuple(e for e in system.embedders if not isinstance(e, NumbersConfig))
        networks = (replace(system.unet, upcast=False, dropout=0.0), system.autoencoder, trained)
        groups.setdefault(networks, []).append(system)
    return list(groups.values())


def _describe(source: Source) -> str:
    names = source.tensors
    if any(".lora_" in n or ".hada_" in n or ".lokr_" in n or "lora_A" in n for n in names):
        return "it is a LoRA, which is put on a model"
    if any(n.startswith(("encoder.", "decoder.")) for n in names):
        return "it is an autoencoder alone"
    if (control := kind_of_control(names)) is not None:
        return f"it is {'an' if control[0] == 'I' else 'a'} {control}, which is put beside a model with --control"
    if set(names) & {"emb_params", "clip_l", "clip_g"} or any(n.startswith("string_to_param") for n in names):
        return "it is an embedding (textual inversion)"
    if any(n.startswith(("input_blocks.", "diffusion_model.")) for n in names):
        return "it is a UNet alone, without autoencoder and text encoder"
    first = ", ".join(list(names)[:3])
    return f"its {len(names)} tensors ({first} …) are not those of a denoiser"


def _with_ema(rules: list[Rule], source: Source, choice: str) -> tuple[list[Rule], bool]:
    if choice not in ("auto", "yes", "no"):
        raise InputError(f"ema is {choice!r}, accepted are: auto, yes, no")
    if choice == "no" or source.layout != "original":
        if choice == "yes":
            raise InputError(f"{source.path} is a Diffusers folder, which holds no second, averaged copy of the UNet")
        return rules, False

    def averaged(rule: Rule) -> Rule:
        if not rule.theirs[0].startswith(original_names.UNET):
            return rule
        return replace(rule, theirs=tuple(original_names.ema_name(name) for name in rule.theirs))

    changed = [averaged(rule) for rule in rules]
    wanted = {name for rule in changed for name in rule.theirs if name.startswith("model_ema.")}
    there = wanted <= set(source.tensors)
    if choice == "yes" and not there:
        lacking = len(wanted - set(source.tensors))
        raise InputError(
            f"{source.path} holds no complete running average: {lacking} of {len(wanted)} tensors are missing"
        )
    return (changed, True) if there else (rules, False)


def _baggage_of(source: Source, average: bool) -> Callable[[str], bool]:
    if source.layout == "diffusers":
        return diffusers_names.is_ignored
    if average:  # then the last, unaveraged weights are left over
        return lambda name: name.startswith(original_names.UNET) or original_names.is_ignored(name)
    return original_names.is_ignored


def candidate(system: System) -> Candidate:
    """What tells `system` from others with the same tensors."""
    usual = SYSTEMS[system.layouts[0]].name if system.layouts and system.layouts[0] in SYSTEMS else None
    return Candidate(system.prediction, written_by_generative_models(system), usual)


def parameter_counts(system: System) -> dict[str, int]:
    """The numbers in each part, buffers included."""
    counts: Counter[str] = Counter()
    for name, tensor in empty_state(system).items():
        counts[name.split(".")[0]] += tensor.numel()
    return dict(counts)


def _with_prediction(system: System, told: Told | None) -> tuple[System, str]:
    if told is None:
        return system, f"the habit of {system.name}"
    schedule = replace(system.schedule, zero_terminal_snr=told.zero_terminal_snr or system.schedule.zero_terminal_snr)
    return replace(system, prediction=told.prediction or system.prediction, schedule=schedule), told.by


def _stage_overflows(system: System, source: Source) -> bool:
    """Folders say of their first stage whether it was tuned to bear half precision."""
    told = source.configs.get(diffusers.first_stage_component(system), {}).get("force_upcast")
    return system.force_upcast and told is not False


def _latent_scale(system: System, source: Source) -> float:
    if system.scale_in_file and "scale_factor" in source.tensors:
        stored = source.tensors["scale_factor"]
        scale = float(stored.load().reshape(-1)[0]) if stored.numel == 1 else math.nan
        if not 0 < scale < math.inf:
            raise InputError(f"{source.path}: scale_factor is not one positive number")
        return scale
    component = diffusers.first_stage_component(system)
    stated = source.configs.get(component, {}).get("scaling_factor")
    if stated is None:
        return system.latent_scale
    scale = real(stated)
    if scale is None or scale <= 0:
        raise InputError(
            f"{source.path}/{component}/config.json: "
            f"scaling_factor is {printable(stated)}, expected is a number above 0"
        )
    return scale
