"""Muon: orthogonal updates of matrices, and who gets them."""

from __future__ import annotations

import torch
from torch import nn

from darkroom.training.muon import Muon, matrices, orthogonalized


def test_singular_values_come_near_one_and_directions_stay() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((24, 60), (60, 24), (32, 32)):
        matrix = torch.randn(shape, generator=generator)
        found = orthogonalized(matrix).float()
        assert found.shape == shape
        values = torch.linalg.svdvals(found)
        assert values.max() < 1.25
        assert values.median() > 0.65
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        assert float((found * (u @ v)).sum() / (found.norm() * (u @ v).norm())) > 0.9


def test_an_update_is_as_large_as_its_rate_says_whatever_the_gradient() -> None:
    for scale in (1e-4, 1e3):
        weight = nn.Parameter(torch.zeros(32, 8, 3, 3).contiguous(memory_format=torch.channels_last))
        optimizer = Muon([weight], lr=0.01)
        weight.grad = scale * torch.randn(32, 8, 3, 3, generator=torch.Generator().manual_seed(1))
        optimizer.step()
        assert 0.7 * 0.2 * 0.01 < float(weight.detach().square().mean().sqrt()) < 1.2 * 0.2 * 0.01


def test_weight_decay_shrinks() -> None:
    weight = nn.Parameter(torch.eye(16))
    weight.grad = torch.zeros(16, 16)
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    assert torch.allclose(weight.detach(), torch.eye(16) * 0.95)


def test_matrices_are_weights_of_layers_large_enough() -> None:
    wide, narrow = nn.Linear(16, 20), nn.Linear(3, 20)
    convolution = nn.Conv2d(4, 16, 3)  # a row for each of 16 outputs holds 36 numbers
    networks = nn.ModuleList([wide, narrow, convolution, nn.Embedding(30, 30), nn.LayerNorm(20)])
    assert matrices(networks) == {wide.weight, convolution.weight}
