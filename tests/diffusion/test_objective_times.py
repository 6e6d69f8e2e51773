"""At which timesteps the diffusion loss is taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from darkroom.diffusion.draws import RowDraws
from darkroom.diffusion.objective import DiffusionLossConfig
from darkroom.errors import InputError


def draws(count: int, seed: int) -> RowDraws:
    """Rows of one step of `count` samples, with their strata as the loop gives them."""
    rng = np.random.default_rng(seed)
    strata = (rng.permutation(count) + rng.random(count)) / count
    return RowDraws([1000 * seed + i for i in range(count)], torch.tensor(strata, dtype=torch.float32))


def test_each_batch_has_its_shares_of_late_and_max_timesteps() -> None:
    config = DiffusionLossConfig(last_share=0.25, late_share=0.5, late_timestep=800)
    for seed in range(5):
        t = config.timesteps(draws(32, seed))
        assert t.shape == (32,)
        assert t.dtype == torch.int64
        assert int((t == 999).sum()) >= 8
        assert int((t >= 800).sum()) >= 24
        assert 0 <= int(t.min()) < 200
        assert not torch.equal(t, t.sort().values)


def test_without_shares_times_are_uniform_over_the_range() -> None:
    config = DiffusionLossConfig(min_timestep=100, max_timestep=199)
    t = config.timesteps(draws(4000, 0))
    counts = torch.bincount(t - 100, minlength=100)
    assert len(counts) == 100
    assert counts.min() > 10


def test_shares_keep_within_the_range_of_timesteps() -> None:
    config = DiffusionLossConfig(min_timestep=600, max_timestep=949, last_share=0.5, late_share=0.5, late_timestep=900)
    t = config.timesteps(draws(64, 1))
    assert int((t == 949).sum()) >= 32
    assert int(t.min()) >= 900


@pytest.mark.parametrize(
    "bad",
    [{"last_share": -0.1}, {"last_share": 0.6, "late_share": 0.6}, {"late_share": 0.1, "late_timestep": 1200}],
)
def test_shares_that_cannot_be(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"late_timestep is 1200|are not shares of a whole"):
        DiffusionLossConfig(**bad)  # type: ignore[arg-type]
