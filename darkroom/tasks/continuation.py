"""From a noisy latent that another run left: a refiner, or the rest of a schedule."""

from __future__ import annotations

import torch

from darkroom.errors import InputError
from darkroom.tasks.task import Situation, Start, Task

__all__ = ["CONTINUATION"]


def start(s: Situation) -> Start:
    """The request's latent; `InputError` where its shape is another or it is not finite."""
    latent = torch.as_tensor(s.plan.request.latent).float()
    if latent.shape != s.noise.shape[1:]:
        raise InputError(f"the latent has shape {list(latent.shape)}, expected is {list(s.noise.shape[1:])}")
    if not torch.isfinite(latent).all():
        raise InputError("the latent to go on from is not finite")
    return Start(latent[None].to(s.model.device))


CONTINUATION = Task("continuation", lambda s: s.plan.request.latent is not None, start)
