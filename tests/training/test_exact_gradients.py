"""Losses and gradients of a training step against a peer's network and the formulas in float64."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from narrow import narrow
from torch import Tensor

from benchmarks.networks import Pair, pair
from darkroom.diffusion.draws import RowDraws
from darkroom.diffusion.objective import DiffusionLossConfig, diffusion_loss
from darkroom.diffusion.process import DiffusionProcess
from darkroom.systems.system import System

SYSTEM = narrow("sd-v1-5")
SYSTEM = replace(SYSTEM, unet=replace(SYSTEM.unet, channel_mult=(1, 2), depth=(1, 0)))
SEEDS = [3, 4, 5]


@pytest.fixture(scope="module")
def networks() -> Pair:
    return pair(SYSTEM, "unet", torch.float32, torch.device("cpu"))


def exact_loss(system: System, prediction: str, config: DiffusionLossConfig, z0: Tensor, output: Any) -> Tensor:
    """The mean loss by its formulas (Ho et al. 2020; Salimans and Ho 2022; Hang et al. 2023), all in float64."""
    draws = RowDraws(SEEDS)
    t, noise = config.timesteps(draws), draws.normal(*z0.shape[1:]).double()
    s = system.schedule
    betas = torch.linspace(s.beta_start**0.5, s.beta_end**0.5, s.steps, dtype=torch.float64).square()
    a = (1 - betas).cumprod(0)[t].view(-1, 1, 1, 1)
    found = output(a.sqrt() * z0 + (1 - a).sqrt() * noise, t)
    target = {"eps": noise, "v": a.sqrt() * noise - (1 - a).sqrt() * z0, "x0": z0}[prediction]
    losses = (found - target).square().mean(dim=(1, 2, 3))
    if config.min_snr_gamma is not None:
        snr = (a / (1 - a)).flatten()
        losses = losses * snr.clamp(max=config.min_snr_gamma) / {"eps": snr, "v": snr + 1, "x0": 1}[prediction]
    return losses.mean()


@pytest.mark.parametrize(("prediction", "gamma"), [("eps", None), ("v", 5.0), ("x0", None)])
def test_losses_and_gradients_are_those_of_float64(prediction: str, gamma: float | None, networks: Pair) -> None:
    generator = torch.Generator().manual_seed(0)
    z0, tokens = (torch.randn(shape, generator=generator) for shape in ((3, 4, 8, 8), (3, 5, SYSTEM.unet.context_dim)))
    config = DiffusionLossConfig(min_snr_gamma=gamma)
    ours = copy.deepcopy(networks.ours).train().requires_grad_(True)
    process = DiffusionProcess(SYSTEM.schedule, prediction)
    loss = diffusion_loss(process, lambda x, t: ours(x, t, tokens), z0, config, RowDraws(SEEDS))[0].mean()
    loss.backward()

    # Layers that both networks have as they are: the same values stand under two names.
    theirs = dict(networks.peer.named_parameters())
    places = {p.data_ptr(): name for name, p in theirs.items()}
    shared = {name: places[p.data_ptr()] for name, p in networks.ours.named_parameters() if p.data_ptr() in places}
    assert len(shared) > 0.8 * len(theirs)
    peer: Any = copy.deepcopy(networks.peer).double().train().requires_grad_(True)
    exact = exact_loss(SYSTEM, prediction, config, z0.double(), lambda x, t: peer(x, t, tokens.double()).sample)
    exact.backward()
    assert float(loss.detach()) == pytest.approx(float(exact.detach()), rel=1e-5)
    for name, their_name in shared.items():
        found, expected = ours.get_parameter(name).grad, peer.get_parameter(their_name).grad
        assert found is not None
        # Gradients of single weights nearly cancel over the batch: their error is relative to the whole tensor's.
        assert (found - expected).norm() <= 1e-3 * expected.norm() + 1e-7, name
