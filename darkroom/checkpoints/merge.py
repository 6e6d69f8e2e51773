"""Weighted sums of models of one system, or of LoRAs for one, computed tensor by tensor."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from darkroom.checkpoints.convert import Content, write_diffusers, write_original
from darkroom.checkpoints.embeddings import BUNDLED
from darkroom.checkpoints.identify import identify
from darkroom.checkpoints.locate import locate, place
from darkroom.checkpoints.lora import describe_lora, read_lora, told_system, write_lora
from darkroom.checkpoints.lora_sum import LoraSum, sum_loras
from darkroom.checkpoints.native import describe_system, load_strict, save_adapted, write_system
from darkroom.checkpoints.open_file import open_weights
from darkroom.checkpoints.own_folder import COMPONENTS, base_of, is_native, main_file
from darkroom.checkpoints.safetensors_file import Planned
from darkroom.checkpoints.source import open_source
from darkroom.checkpoints.stored import all_finite
from darkroom.errors import InputError, printable, require
from darkroom.input_file import entries
from darkroom.systems import SYSTEMS
from darkroom.systems.system import System

__all__ = ["Summand", "merge", "system_called"]

CHECKPOINT, OWN, LORA_FOLDER, LORA_FILE = (
    "a checkpoint",
    "a folder of this project",
    "a folder of this project that changes a model",
    "a file of a LoRA",
)
TOLERANCE = 1e-6  # of the sum of weights
STALE = ("modelspec.hash_sha256",)  # notes of the first model that the sum makes untrue
Plans = Mapping[str, Planned]


@dataclass(frozen=True)
class Summand:
    """One model or LoRA and its weight."""

    name: str  # as the user calls it
    path: Path
    weight: float


def merge(
    out: Path,
    summands: Sequence[Summand],
    *,
    dtype: torch.dtype | None = None,
    rank: int | None = None,
    system: System | None = None,
    force: bool = False,
) -> list[str]:
    """Write the sum of `summands`, all models or all LoRAs, to `out`; returns what to tell of it.

    `dtype` None: as the first is stored. `rank`: of each layer of a LoRA, at most. `system`: what files of LoRAs are
    for, where they do not tell. `force` replaces a file; folders that hold anything are never replaced. Raises
    `InputError` before anything is written.
    """
    require(rank is None or rank >= 1, "the rank", rank, "1 or more")
    kind = _kind(summands)
    if kind in (CHECKPOINT, OWN):
        _require_models(summands, rank)
    if system is not None and kind != LORA_FILE:
        raise InputError(f"a model is named for files of LoRAs to be read against; {summands[0].name} is {kind}")
    _require_free(out, kind, force=force)
    if kind == CHECKPOINT:
        return _merge_checkpoints(out, summands, dtype)
    if kind == OWN:
        return _merge_own(out, summands, dtype)
    merge_loras = _merge_lora_folders if kind == LORA_FOLDER else _merge_lora_files
    return merge_loras(out, summands, dtype, rank, system)


def system_called(name: str, folders: Sequence[Path] = ()) -> System:
    """The system of what `-m` takes, or of a name of the catalogue, whose weights then need not be there."""
    if name in SYSTEMS:
        return SYSTEMS[name]
    path = locate(name, folders)
    return describe_system(path).system if is_native(path) else identify(open_source(path), hint=name).system


def _kind(summands: Sequence[Summand]) -> str:
    """What all of them are. Raises `InputError` for a mix."""
    kinds = [_kind_of(summand.path) for summand in summands]
    for summand, kind in zip(summands, kinds):
        if kind != kinds[0]:
            raise InputError(f"{summands[0].name} is {kinds[0]} and {summand.name} is {kind}: these do not merge")
    return kinds[0]


def _kind_of(path: Path) -> str:
    if is_native(path):
        return OWN if base_of(path) is None else LORA_FOLDER
    return CHECKPOINT if os.path.isdir(path) or describe_lora(open_weights(path)) is None else LORA_FILE


def _require_models(summands: Sequence[Summand], rank: int | None) -> None:
    if rank is not None:
        raise InputError(f"a rank is given for LoRAs; {summands[0].name} is a whole model")
    total = math.fsum(summand.weight for summand in summands)
    if abs(total - 1) > TOLERANCE:
        raise InputError(f"the weights sum to {total:.8g}, expected is 1: a model of another scale draws nothing")


def _require_free(out: Path, kind: str, *, force: bool) -> None:
    """Raise `InputError` unless `out` is of the right sort for `kind` and may be written."""
    single = out.suffix == ".safetensors"
    if kind == LORA_FILE and not single:
        raise InputError(f"{out} is to be one file; its name must end in .safetensors")
    if kind in (OWN, LORA_FOLDER) and single:
        raise InputError(f"{out} is to be a folder, as the parts are; its name must not end in .safetensors")
    if single and os.path.exists(out) and not force:
        raise InputError(f"{out} exists already; --force replaces it")
    if not single and os.path.exists(out) and (not os.path.isdir(out) or entries(out)):
        raise InputError(f"{out} exists already and is not an empty folder")


def _merge_checkpoints(out: Path, summands: Sequence[Summand], dtype: torch.dtype | None) -> list[str]:
    contents: list[Content] = []
    for summand in summands:
        source = open_source(summand.path)
        contents.append(Content.of_source(source, identify(source, hint=summand.name)))
        _require_alike(summands[0], contents[0], summand, contents[-1])
    first = contents[0]
    notes = {k: v for k, v in first.notes.items() if k not in STALE}
    mixed = dataclasses.replace(
        first,
        tensors=_weighted_sum([c.tensors for c in contents], summands, dtype),
        notes={**notes, "modelspec.merged_from": _merged_from(summands)},
    )
    said = [f"{first.system.name}: {_merged_from(summands)} -> {out}"]
    if out.suffix == ".safetensors":
        write_original(mixed, out)
        return said
    return [*said, *(f"note: {note}" for note in write_diffusers(mixed, out))]


def _require_alike(first: Summand, one: Content, second: Summand, two: Content) -> None:
    """Raise `InputError` unless two checkpoints hold the same tensors and mean the same by them."""
    both = f"{first.name} ({one.system.name}) and {second.name} ({two.system.name})"
    for name in {**one.tensors, **two.tensors}:
        a, b = (str(list(c.tensors[name].shape)) if name in c.tensors else "absent" for c in (one, two))
        if a != b:
            raise InputError(f"{both} are of different systems: {name} is {a} in the one and {b} in the other")
    if one.system.prediction != two.system.prediction:
        raise InputError(f"{both} do not merge: they predict {one.system.prediction} and {two.system.prediction}")
    if one.system.schedule != two.system.schedule:
        raise InputError(f"{both} do not merge: their noise schedules differ")
    scales = one.system.latent_scale, two.system.latent_scale
    if not math.isclose(*scales, rel_tol=1e-6):  # files hold it in float32
        raise InputError(f"{both} do not merge: they multiply latents by {scales[0]:g} and {scales[1]:g}")


def _merge_own(out: Path, summands: Sequence[Summand], dtype: torch.dtype | None) -> list[str]:
    model = describe_system(summands[0].path)
    plans: dict[str, list[Plans]] = {name: [] for name in COMPONENTS}
    for summand in summands:
        _require_same_system(summands[0], model.system, summand)
        for name in COMPONENTS:
            path = summand.path / f"{name}.safetensors"
            weights = open_weights(path)
            shapes = {n: torch.empty(s.shape, dtype=s.dtype, device="meta") for n, s in weights.items()}
            load_strict(getattr(model, name), shapes, path)
            plans[name].append({n: Planned(s.dtype, s.shape, s.load) for n, s in weights.items()})
    model.conditioner.look_in(summands[0].path)
    sums = {name: _weighted_sum(found, summands, dtype) for name, found in plans.items()}
    write_system(model, sums, out, {"merged_from": _merged_from(summands)})
    return [f"{model.system.name}: {_merged_from(summands)} -> {out}"]


def _require_same_system(first: Summand, system: System, second: Summand) -> None:
    """Raise `InputError` unless the folder `second` describes `system`, but for what a request gets by default."""
    other = describe_system(second.path).system
    for name in (f.name for f in fields(System) if f.name not in ("name", "title", "defaults")):
        if getattr(system, name) != getattr(other, name):
            raise InputError(f"{first.name} and {second.name} are of different systems: they differ in {name}")


def _weighted_sum(parts: Sequence[Plans], summands: Sequence[Summand], dtype: torch.dtype | None) -> dict[str, Planned]:
    """The sums in float32, each made when its turn comes and stored in `dtype` or as in the first; what is no fraction
    is the first's."""
    weights = [summand.weight for summand in summands]
    sums: dict[str, Planned] = {}
    for name, first in parts[0].items():
        if not first.dtype.is_floating_point:
            sums[name] = first
            continue
        kind = dtype or first.dtype

        def make(name: str = name, kind: torch.dtype = kind) -> Tensor:
            total = parts[0][name].make().float() * weights[0]
            for part, weight in zip(parts[1:], weights[1:]):
                total += part[name].make().float() * weight
            _require_finite(name, total := total.to(kind))
            return total

        sums[name] = Planned(kind, first.shape, make)
    return sums


def _require_finite(name: str, tensor: Tensor) -> None:
    if not all_finite(tensor):
        raise InputError(f"the sum of {name} holds NaN or infinite values, or does not fit into {tensor.dtype}")


def _merge_lora_folders(
    out: Path, summands: Sequence[Summand], dtype: torch.dtype | None, rank: int | None, _: System | None
) -> list[str]:
    first = summands[0]
    system, base = describe_system(first.path).system, _base(first)
    for summand in summands[1:]:
        _require_same_system(first, system, summand)
        if (other := _base(summand)) != base:
            raise InputError(f"{first.name} changes {base} and {summand.name} changes {other}: these do not merge")
    files = [main_file(summand.path) for summand in summands]
    total, kind = _sum_of_files(files, summands, system, dtype, rank)
    save_adapted(total.adapters, system, base, out, {"merged_from": _merged_from(summands)}, kind)
    return _said_of_loras(out, system, summands, total, rank, files)


def _base(summand: Summand) -> str:
    """The model that a folder changes, by its whole path, or its address on the hub."""
    base = base_of(summand.path)
    assert base is not None, "the folder was told by its base"
    found = place(base)
    return str(found.resolve()) if isinstance(found, Path) else found


def _merge_lora_files(
    out: Path, summands: Sequence[Summand], dtype: torch.dtype | None, rank: int | None, system: System | None
) -> list[str]:
    files = [summand.path for summand in summands]
    told = (told_system(open_weights(file)) for file in files)
    system = system or next((found for found in told if found is not None), None)
    if system is None:
        raise InputError(f"{summands[0].name} does not tell which model it is for: name one with --model")
    total, kind = _sum_of_files(files, summands, system, dtype, rank)
    write_lora(out, total.adapters, system, {"modelspec.merged_from": _merged_from(summands)}, kind)
    return _said_of_loras(out, system, summands, total, rank, files)


def _sum_of_files(
    files: Sequence[Path],
    summands: Sequence[Summand],
    system: System,
    dtype: torch.dtype | None,
    rank: int | None,
) -> tuple[LoraSum, torch.dtype]:
    """The sum of LoRAs, and the kind of numbers to write it in, into which it fits."""
    loras = [(read_lora(file, system, torch.float32), s.weight) for file, s in zip(files, summands)]
    total = sum_loras(loras, system, rank)
    kind = dtype or max(open_weights(files[0]).values(), key=lambda stored: stored.numel).dtype
    for module, adapter in total.adapters.items():
        for factor in (adapter.up, adapter.down):
            _require_finite(module, factor.detach().to(kind))
    return total, kind


def _said_of_loras(
    out: Path, system: System, summands: Sequence[Summand], total: LoraSum, rank: int | None, files: Sequence[Path]
) -> list[str]:
    ranks = sorted({len(adapter.down) for adapter in total.adapters.values()})
    said = f"{len(total.adapters)} layers of rank {'/'.join(map(str, ranks))}"
    if rank is not None:
        said += f", {100 * total.kept:.2f} % of the change kept"
    lines = [f"{system.name}: {_merged_from(summands)} -> {out} ({said})"]
    for file in dict.fromkeys(files):
        if any(key.startswith(BUNDLED) for key in open_weights(file)):
            lines.append(f"note: the embeddings that {file} brings along are left out")
    return lines


def _merged_from(summands: Sequence[Summand]) -> str:
    """For people, in headers and on the screen. Exports of runs are called as their runs."""
    paths = [Path(summand.name) for summand in summands]
    names = [path.parent.name if path.name == "export" and path.parent.name else path.name for path in paths]
    return ", ".join(f"{printable(name)} {summand.weight}" for name, summand in zip(names, summands))
