"""A model trained as another system: more input channels, another prediction or schedule, other rates of dropping."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace

import torch
from torch import Tensor, nn

from darkroom.conditioning.embedder import Embedder
from darkroom.diffusion.prediction import Prediction
from darkroom.errors import InputError, require
from darkroom.registry import nearest
from darkroom.systems.build import LatentDiffusion, build
from darkroom.systems.system import EMBEDDERS, System

__all__ = ["changed_system", "frozen_keys", "trained_as", "with_frozen_networks"]

VECTOR = "vector_embedding."  # of the UNet, where a system has a vector


def changed_system(
    system: System, prediction: Prediction | None, zero_terminal_snr: bool | None, drop_rates: Mapping[str, float]
) -> System:
    """`system` with what a recipe says of it: None and embedders that are not named stay as they are."""
    schedule = system.schedule
    if zero_terminal_snr is not None:
        schedule = replace(schedule, zero_terminal_snr=zero_terminal_snr)
    droppable = [e.key for e in system.embedders if any(f.name == "drop_rate" for f in fields(e))]  # type: ignore[arg-type]
    for key, rate in drop_rates.items():
        if key not in droppable:
            known = ", ".join(nearest(key, droppable)) or "none"
            raise InputError(f"drop_rates.{key} is no input of {system.name} that can be dropped; known are: {known}")
        require(0 <= rate <= 1, f"drop_rates.{key}", rate, "a share from 0 to 1")
    embedders = tuple(
        replace(e, drop_rate=drop_rates[e.key]) if e.key in drop_rates else e  # type: ignore[type-var]
        for e in system.embedders
    )
    return replace(system, embedders=embedders, schedule=schedule, prediction=prediction or system.prediction)


Donor = Callable[[], LatentDiffusion]


def with_frozen_networks(model: LatentDiffusion, donor: Donor) -> LatentDiffusion:
    """`model`, whose weights are fresh, with the embedders that never learn (text encoders, vision towers) of the model
    that `donor` reads; `InputError` where it lacks one."""
    given = donor().conditioner.embedders
    for key in frozen_keys(model):
        if key not in given:
            raise InputError(f"embedders_from names a model without a network that reads {key}")
        model.conditioner.embedders[key] = _like(given[key], model.conditioner.embedders[key], key)
    model.conditioner.use_first_stage(model.encode_images)
    return model


def frozen_keys(model: LatentDiffusion) -> list[str]:
    """The inputs that are read by networks which never learn."""
    return [k for k, e in model.conditioner.embedders.items() if any(not p.requires_grad for p in e.parameters())]


def trained_as(model: LatentDiffusion, system: System, donor: Donor | None = None) -> LatentDiffusion:
    """`model` as `system`, which may read more: input channels that are new begin at zero, and so does a new vector, so
    that nothing changes at first. The first stage stays the model's.

    New embedders with frozen networks (a depth estimator, a vision tower) come from `donor`'s model; others are fresh.
    Raises `InputError` where the networks differ in anything else.
    """
    system = replace(system, autoencoder=model.system.autoencoder)
    if system == model.system:
        return model
    target = build(system, "meta")
    target.autoencoder = model.autoencoder
    _load_unet(model, target)
    embedders, given = target.conditioner.embedders, model.conditioner.embedders
    donated = None
    for config in system.embedders:
        key = config.key
        described = embedders[key]  # without weights
        if key in given:
            embedders[key] = _like(given[key], described, key)
        elif all(p.requires_grad for p in described.parameters()):
            embedders[key] = EMBEDDERS[type(config)](config)
        else:
            donated = donated or (None if donor is None else donor().conditioner.embedders)
            if donated is None or key not in donated:
                raise InputError(
                    f"{model.system.name} has no network that reads {key}: embedders_from names a model that has it"
                )
            embedders[key] = _like(donated[key], described, key)
    lost = [key for key in given if key not in embedders]
    if lost:
        raise InputError(f"{model.system.name} reads {', '.join(lost)}, which {system.name} does not")
    target.conditioner.use_first_stage(target.encode_images)
    target.become(system)
    return target


def _like(own: nn.Module, described: nn.Module, key: str) -> Embedder:
    """The embedder `own` with the settings of `described`; `InputError` if its networks are others."""
    theirs, ours = ({n: t.shape for n, t in m.state_dict().items()} for m in (own, described))
    if theirs != ours:
        raise InputError(f"the networks that read {key} are others than the system's")
    assert isinstance(own, Embedder)
    assert isinstance(described, Embedder)
    own.config = described.config
    return own


def _load_unet(model: LatentDiffusion, target: LatentDiffusion) -> None:
    given, expected = model.unet.state_dict(), target.unet.state_dict()
    state: dict[str, Tensor] = {}
    for name, meta in expected.items():
        old = given.pop(name, None)
        if old is None and name.startswith(VECTOR):
            state[name] = _fresh_vector(meta, last=not name.startswith(f"{VECTOR}0."))
        elif old is not None and name == "conv_in.weight" and old.shape[1] < meta.shape[1]:
            new = torch.zeros(len(old), meta.shape[1] - old.shape[1], *old.shape[2:])
            state[name] = torch.cat([old, new.to(old)], dim=1)
        elif old is not None and old.shape == meta.shape:
            state[name] = old
        else:
            found = "is missing" if old is None else f"is {list(old.shape)}"
            raise _unlike(model, target, f"its unet.{name} {found}, {list(meta.shape)} expected")
    if given:
        raise _unlike(model, target, f"its unet.{next(iter(given))} has no place there")
    target.unet.load_state_dict(state, assign=True)


def _fresh_vector(meta: Tensor, *, last: bool) -> Tensor:
    """Of the two linear layers behind a new vector, or of its table; what is added begins at zero."""
    return torch.zeros(meta.shape) if last or meta.dim() == 1 else torch.randn(meta.shape) * meta.shape[1] ** -0.5


def _unlike(model: LatentDiffusion, target: LatentDiffusion, cause: str) -> InputError:
    return InputError(f"{model.system.name} cannot be trained as {target.system.name}: {cause}")
