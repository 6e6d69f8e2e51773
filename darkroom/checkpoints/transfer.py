"""Tensors between a foreign layout and a system's modules: checked whole, one at a time, in both directions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from darkroom.checkpoints.safetensors_file import Planned
from darkroom.checkpoints.stored import Stored, all_finite
from darkroom.checkpoints.table import Rule
from darkroom.errors import InputError

__all__ = ["Fit", "assign", "fit", "planned_ours", "planned_theirs", "wanted_shapes"]

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Fit:
    """How far tensors on disk are those that the rules want."""

    missing: list[str]  # wanted and not there
    misshapen: list[str]  # "name is …, expected is …"
    unknown: list[str]  # there, not wanted and no known baggage
    unused: list[str]  # known baggage

    @property
    def distance(self) -> int:
        return len(self.missing) + len(self.misshapen) + len(self.unknown)

    def require(self, where: Path, system: str) -> None:
        """Raise `InputError` naming what is wrong unless everything fits."""
        causes = [
            f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
            for what, names in (
                ("tensors are missing", self.missing),
                ("have the wrong shape", self.misshapen),
                ("are unknown", self.unknown),
            )
            if names
        ]
        if causes:
            raise InputError(f"{where} does not fit {system}: {'; '.join(causes)}")


def fit(
    rules: Sequence[Rule],
    ours: Mapping[str, Tensor],
    available: Mapping[str, Stored],
    *,
    optional: Iterable[str] = (),
    is_ignored: Callable[[str], bool],
) -> Fit:
    """Compare `available` with what `rules` want for modules whose state dict is `ours` (device "meta" will do)."""
    wanted = wanted_shapes(rules, ours)
    optional = set(optional)
    missing = [name for name in wanted if name not in available and name not in optional]
    misshapen = [
        f"{name} is {list(available[name].shape)}, expected is {list(shape)}"
        for name, shape in wanted.items()
        if name in available and _squeezed(available[name].shape) != _squeezed(shape)
    ]
    left = [name for name in available if name not in wanted]
    unused = [name for name in left if is_ignored(name)]
    return Fit(missing, misshapen, [name for name in left if name not in set(unused)], unused)


def wanted_shapes(rules: Iterable[Rule], ours: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Their names and shapes."""
    shapes: dict[str, tuple[int, ...]] = {}
    for rule in rules:
        there = rule.change.to_theirs([ours[name].detach().to("meta") for name in rule.ours])
        shapes.update({name: tuple(t.shape) for name, t in zip(rule.theirs, there)})
    return shapes


def _squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    """Linear layers and convolutions with a kernel of one are the same numbers, and files have both."""
    return tuple(n for n in shape if n != 1)


def assign(
    module: nn.Module,
    rules: Iterable[Rule],
    available: Mapping[str, Stored],
    dtype: torch.dtype | None,
    device: torch.device | str,
    *,
    channels_last: bool = False,
) -> None:
    """Give `module`, built on "meta", the tensors of the file, rule by rule. Names and shapes have been checked; that
    all values are finite, also in `dtype`, is checked here.

    `channels_last` lays kernels out as convolutions on CPUs want them, one at a time: doing so afterwards would hold
    them twice, as the file's pages and as the copy.
    """
    ours = module.state_dict()
    tensors: dict[str, Tensor] = {}
    for rule in rules:
        if all(name in available for name in rule.theirs):
            shapes = wanted_shapes([rule], ours)
            _require_fractions(rule, ours, available)
            loaded = [_load_finite(name, available[name], dtype, device).reshape(shapes[name]) for name in rule.theirs]
            changed = [_laid_out(t, channels_last=channels_last) for t in rule.change.to_ours(loaded)]
            tensors.update(zip(rule.ours, changed))
            if not {t.data_ptr() for t in changed} & {t.data_ptr() for t in loaded}:
                for name in rule.theirs:
                    available[name].forget()
    module.load_state_dict(tensors, strict=False, assign=True)


def _laid_out(tensor: Tensor, *, channels_last: bool) -> Tensor:
    last = channels_last and tensor.dim() == 4
    return tensor.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _require_fractions(rule: Rule, ours: Mapping[str, Tensor], available: Mapping[str, Stored]) -> None:
    """Raise `InputError` for whole numbers where weights are expected."""
    for name in rule.theirs:
        stored = available[name]
        if not stored.dtype.is_floating_point and any(ours[n].is_floating_point() for n in rule.ours):
            raise InputError(f"{stored.file.path}: tensor {name} holds {stored.dtype}, expected are fractions")


def _load_finite(name: str, stored: Stored, dtype: torch.dtype | None, device: torch.device | str) -> Tensor:
    tensor = stored.load(dtype, device)
    if not all_finite(tensor):
        how = "holds NaN or infinite values"
        if dtype not in (None, stored.dtype) and all_finite(stored.load()):
            how = f"does not fit into {dtype}: its values become infinite"
        raise InputError(f"{stored.file.path}: tensor {name} {how}")
    return tensor


def planned_ours(
    rules: Iterable[Rule], ours: Mapping[str, Tensor], available: Mapping[str, Stored], dtype: torch.dtype | None
) -> dict[str, Planned]:
    """Our tensors by name, each loaded from the file when asked for, and then checked to be finite, also in `dtype`."""
    plans: dict[str, Planned] = {}
    for rule in rules:
        if not all(name in available for name in rule.theirs):
            continue
        shapes = wanted_shapes([rule], ours)
        _require_fractions(rule, ours, available)
        first = available[rule.theirs[0]]
        kind = dtype if dtype is not None and first.dtype.is_floating_point else first.dtype

        def make(index: int, rule: Rule = rule, shapes: Shapes = shapes) -> Tensor:
            loaded = [_load_finite(name, available[name], dtype, "cpu").reshape(shapes[name]) for name in rule.theirs]
            return rule.change.to_ours(loaded)[index]

        for i, name in enumerate(rule.ours):
            plans[name] = Planned(kind, tuple(ours[name].shape), lambda i=i, make=make: make(i))
    return plans


def planned_theirs(rules: Iterable[Rule], plans: Mapping[str, Planned]) -> dict[str, Planned]:
    """Tensors of another layout, made from ours when their turn to be written comes."""
    result: dict[str, Planned] = {}
    for rule in rules:
        members = [plans[name] for name in rule.ours if name in plans]
        if len(members) != len(rule.ours):
            continue
        shapes = rule.change.to_theirs([torch.empty(p.shape, device="meta") for p in members])

        def make(index: int, rule: Rule = rule, members: Sequence[Planned] = members) -> Tensor:
            return rule.change.to_theirs([p.make() for p in members])[index]

        for i, (name, shape) in enumerate(zip(rule.theirs, shapes)):
            result[name] = Planned(members[0].dtype, tuple(shape.shape), lambda i=i, make=make: make(i))
    return result
