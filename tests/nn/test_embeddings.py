"""Sinusoidal features beside the reference implementation's own order of operations."""

import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding

from darkroom.nn.embeddings import sinusoid


@pytest.mark.parametrize("width", [7, 8, 320, 321])
def test_features_are_bit_for_bit_those_of_the_peer(width: int) -> None:
    """The frequencies must be rounded alike: at t = 999 an error of one unit in the last place is 3e-5 here."""
    t = torch.tensor([0.0, 1.0, 500.5, 999.0])
    peer = get_timestep_embedding(t, width, flip_sin_to_cos=True, downscale_freq_shift=0)
    assert torch.equal(sinusoid(t, width), peer)


def test_any_shape_of_values_gains_an_axis_of_features() -> None:
    values = torch.arange(6.0).view(1, 2, 3)
    features = sinusoid(values, 9)
    assert features.shape == (1, 2, 3, 9)
    assert features[..., -1].eq(0).all()
    assert torch.equal(features[0, 1, 2], sinusoid(torch.tensor(5.0), 9))
