"""The discriminator: heads, norms, augmentation, losses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from darkroom.diffusion.draws import RowDraws
from darkroom.errors import InputError
from darkroom.models.dino import Dino, DinoConfig
from darkroom.models.feature_heads import FeatureHead, HeadConfig, LocalBatchNorm
from darkroom.training.distillation.augment import augmented, cropped
from darkroom.training.distillation.discriminator import (
    Discriminator,
    DiscriminatorConfig,
    critic_loss,
    deceiving_loss,
    r1_penalty,
)
from darkroom.training.distillation.seeing import DinoSight


def head(**conditions: int) -> FeatureHead:
    torch.manual_seed(0)
    return FeatureHead(HeadConfig(6, conditions, kernel=3, projected=5)).double().eval()


def test_r1_is_the_squared_gradient_at_the_head_s_input() -> None:
    """Against the Jacobian in float64, for two heads; and its own gradient by finite differences."""
    heads = [head(text=4), head(text=4)]
    told = {"text": torch.randn(3, 4, dtype=torch.float64)}
    features = [torch.randn(3, 6, 7, dtype=torch.float64, requires_grad=True) for _ in heads]
    found = r1_penalty([h(x, told) for h, x in zip(heads, features)], features)
    expected = 0.0
    for h, x in zip(heads, features):
        jacobian = torch.autograd.functional.jacobian(lambda y, h=h: h(y, told).sum(), x)
        assert isinstance(jacobian, Tensor)
        expected += float(jacobian.square().sum()) / 3
    assert abs(float(found.detach()) - expected) < 1e-9 * expected
    parameter = heads[0].out.parametrizations.weight.original  # type: ignore[union-attr]
    found.backward()
    step = torch.zeros_like(parameter)
    step[1, 2] = 1e-6
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            parameter += sign * step
        values.append(float(r1_penalty([h(x, told) for h, x in zip(heads, features)], features).detach()))
        with torch.no_grad():
            parameter -= sign * step
    slope = (values[0] - values[1]) / 2e-6
    assert abs(slope - float(parameter.grad[1, 2])) < 1e-5 * max(1, abs(slope))


def test_r1_of_a_linear_head_is_its_weight_s_norm() -> None:
    weight = torch.randn(6, dtype=torch.float64)
    x = torch.randn(3, 6, 7, dtype=torch.float64, requires_grad=True)
    logits = torch.einsum("bcn,c->bn", x, weight)
    assert torch.allclose(r1_penalty([logits], [x]), 7 * weight.square().sum())  # once for each place


def test_conditions_act_through_the_projection_alone() -> None:
    """Logits are linear in what a condition is mapped to, and the sum over two conditions."""
    h = head(text=4, image=3)
    x = torch.randn(2, 6, 5, dtype=torch.float64)
    text, image = torch.randn(2, 4, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    zero = {"text": torch.zeros_like(text), "image": torch.zeros_like(image)}
    assert torch.allclose(h(x, zero), torch.zeros(2, 5, dtype=torch.float64))  # biases begin at zero
    both = h(x, {"text": text, "image": image})
    apart = h(x, {**zero, "text": text}) + h(x, {**zero, "image": image})
    assert torch.allclose(both, apart)
    assert torch.allclose(h(x, {"text": 2 * text, "image": 2 * image}), 2 * both)


def test_without_conditions_there_is_one_channel() -> None:
    h = head()
    assert h(torch.randn(2, 6, 5, dtype=torch.float64), {}).shape == (2, 5)


def test_shifting_the_sequence_shifts_the_logits() -> None:
    """The residual is circular."""
    h, x = head(), torch.randn(2, 6, 9, dtype=torch.float64)
    assert torch.allclose(h(x.roll(2, dims=2), {}), h(x, {}).roll(2, dims=1))


@pytest.mark.parametrize("places", [(3,), (3, 8)])
def test_features_that_a_head_cannot_go_around_are_named(places: tuple[int, ...]) -> None:
    sized = FeatureHead(HeadConfig(6, {}, dims=len(places)))
    with pytest.raises(InputError, match=r"the features' size is \(3,.*at least 4 on each side; larger pictures"):
        sized(torch.zeros(2, 6, *places), {})
    assert sized(torch.zeros(2, 6, *[4] * len(places)), {}).shape == (2, 4 ** len(places))


def test_groups_of_the_norm_know_nothing_of_each_other() -> None:
    norm = LocalBatchNorm(3)
    x = torch.randn(16, 3, 5)
    changed = x.clone()
    changed[8:] *= 4
    assert torch.equal(norm(x)[:8], norm(changed)[:8])
    assert torch.equal(norm(x), norm.eval()(x))
    assert torch.allclose(norm(x)[:8].mean(dim=(0, 2)), torch.zeros(3), atol=1e-6)
    assert torch.allclose(norm(x)[:8].var(dim=(0, 2), correction=0), torch.ones(3), atol=1e-3)
    assert norm(torch.randn(11, 3, 5)).shape == (11, 3, 5)  # groups of one


def test_weights_have_spectral_norm_one() -> None:
    h = FeatureHead(HeadConfig(6, {}, kernel=3)).train()
    for _ in range(30):
        h(torch.randn(2, 6, 5), {})
    for conv in (h.enter.conv, h.residual.conv, h.out):
        weight: Tensor = conv.weight.flatten(1)  # type: ignore[union-attr, operator]
        assert abs(float(torch.linalg.matrix_norm(weight.detach(), 2)) - 1) < 1e-3


def test_augmentation_passes_gradients_and_belongs_to_its_row() -> None:
    images = torch.rand(3, 3, 16, 24).mul(2).sub(1).requires_grad_(True)
    found = augmented(images, RowDraws([1, 2, 3]))
    alone = augmented(images[1:2], RowDraws([2]))
    assert torch.allclose(found[1:2], alone, atol=1e-6)
    found.square().sum().backward()
    assert images.grad is not None
    assert (images.grad.abs().sum(dim=(1, 2, 3)) > 0).all()
    holes = (found == 0).all(dim=1).float().mean(dim=(1, 2))
    assert ((holes > 0) & (holes < 0.35)).all()  # the hole, and what the shift leaves


def test_crops_are_taken_of_larger_pictures_only() -> None:
    large, small = torch.rand(40, 3, 20, 20), torch.rand(2, 3, 8, 8)
    found = cropped(large, RowDraws(list(range(40))), 10)
    whole = nn.functional.adaptive_avg_pool2d(large, 10)
    same = sum(torch.equal(a, b) for a, b in zip(found, whole))
    assert 10 <= same <= 30  # half of them
    assert cropped(small, RowDraws([0, 1]), 10).shape == (2, 3, 10, 10)


def test_dino_is_read_block_by_block() -> None:
    torch.manual_seed(0)
    network = Dino(DinoConfig(64, 12, 1, image_size=28)).eval().requires_grad_(False)
    sight = DinoSight(network, 28)
    assert sight.depths == (0, 3, 6, 9, 12)
    d = Discriminator(sight, DiscriminatorConfig(augment=False), text_width=5)
    images = torch.rand(2, 3, 28, 28).requires_grad_(True)
    features = d.features(images, RowDraws([0, 1]))
    assert [f.shape for f in features] == [(2, 64, 4)] * 5
    conditions = d.conditions(torch.randn(2, 5), images.detach(), torch.tensor([True, False]))
    logits = d(features, conditions)
    (deceiving_loss(logits) + critic_loss(logits, logits)).backward()
    assert images.grad is not None
    assert float(images.grad.abs().sum()) > 0
    assert all(p.grad is None for p in network.parameters())
    assert "sight" not in " ".join(d.state_dict())  # features are never saved


def test_image_condition_may_be_left_out_where_nothing_was_seen() -> None:
    network = Dino(DinoConfig(64, 2, 1, image_size=28)).eval().requires_grad_(False)
    d = Discriminator(DinoSight(network, 28), DiscriminatorConfig(image_at_last=False), text_width=None)
    told = d.conditions(None, torch.rand(2, 3, 28, 28), torch.tensor([True, False]))
    assert set(told) == {"image"}
    assert float(told["image"][0].abs().sum()) == 0 < float(told["image"][1].abs().sum())
