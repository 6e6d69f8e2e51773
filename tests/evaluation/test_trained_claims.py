"""Claims that train small networks: the cheaper ones whole, narrow; and what they measure, where it is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from darkroom.conditioning.conditioning import Conditioning
from darkroom.evaluation.metric import Measured
from darkroom.evaluation.replications import (
    compression,
    crop_conditioning,
    first_stage,
    latent_scale,
    layout,
    size_conditioning,
    super_resolution,
)
from darkroom.evaluation.replications.claim import Verdict
from darkroom.evaluation.replications.laboratory import (
    PROCESS,
    Group,
    Narrow,
    NarrowDenoiser,
    decided,
    drawn,
    learned_denoiser,
    loop,
    painted,
    scenes,
    sharpness,
)
from darkroom.evaluation.replications.trial import Trial

NARROW = {"pictures": 12, "steps": 2, "batch": 4, "measured": 6}


@pytest.mark.parametrize(
    ("claim", "change"),
    [
        (crop_conditioning, NARROW),
        (first_stage, {"small": 2, "large": 4, "images": 8, "measured": 6}),
        (layout, NARROW),
        (super_resolution, NARROW),
    ],
    ids=lambda value: value.__name__.rpartition(".")[2] if hasattr(value, "__name__") else "",
)
def test_a_claim_runs_to_its_end(claim, change, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(claim.SIZES, "tiny", replace(claim.SIZES["tiny"], **change))
    outcome = claim.run(Trial("tiny"))
    heading, *rows = outcome.table
    assert rows
    assert all(len(row) <= len(heading) for row in rows)
    assert "nan" not in str(rows)
    assert len(outcome.verdicts) >= 2
    assert outcome.plot.startswith("<svg")
    assert outcome.picture.ndim == 3


def test_a_denoiser_learns_what_it_is_told() -> None:
    """White where told 1, black where told −1; the rows of a drawing depend on their own seeds alone."""
    told = torch.tensor([1.0, -1.0]).repeat(8)[:, None]
    white = torch.ones(16, 3, 4, 4) * told[:, :, None, None]
    unet = learned_denoiser(Narrow(vector=1), [Group(white, Conditioning(vector=told))], loop(60, 0, batch=16, lr=4e-3))
    asked = Conditioning(vector=told[:4])
    samples = drawn(unet, (4, 3, 4, 4), asked, seed=5, steps=6)
    assert torch.equal(samples.mean(dim=(1, 2, 3)).sign(), told[:4, 0])
    alone = drawn(unet, (2, 3, 4, 4), asked[slice(0, 2)], seed=5, steps=6)
    assert torch.allclose(alone, samples[:2], atol=1e-4)


def test_an_untrained_denoiser_is_the_best_for_gaussian_squares() -> None:
    """Against the conditional mean written out, at a low and a high level; sizes of latents are no matter."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(12, 12, generator=generator) / 4
    clean = (torch.randn(500, 2, 2, 12, generator=generator) @ mix + 0.3).movedim(3, 1)
    clean = F.pixel_shuffle(clean.contiguous(), 2)  # (500, 3, 4, 4)
    denoiser = NarrowDenoiser(Narrow(), [clean])
    rows = F.pixel_unshuffle(clean, 2).movedim(1, 3).flatten(0, 2).double()
    mean, covariance = rows.mean(dim=0), torch.cov(rows.T, correction=0)
    denoise = PROCESS.denoiser(lambda x, t: denoiser(x, t, Conditioning()))
    for sigma in (0.2, 3.0):
        x = clean[:7] + sigma * torch.randn(7, 3, 4, 4, generator=generator)
        gain = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(12).double())
        best = mean + (F.pixel_unshuffle(x, 2).movedim(1, 3).double() - mean) @ gain.T
        expected = F.pixel_shuffle(best.movedim(3, 1).float(), 2)
        with torch.no_grad():
            assert torch.allclose(denoise(x, torch.tensor(sigma)), expected, atol=1e-3)
        assert denoiser(torch.zeros(1, 3, 2, 8), torch.tensor([0.0]), Conditioning()).shape == (1, 3, 2, 8)


def test_another_denoiser_takes_over_at_its_level() -> None:
    flat = [Group(torch.full((4, 3, 4, 4), value)) for value in (0.8, -0.8)]
    early, late = (learned_denoiser(Narrow(), [group], loop(8, 0, batch=4)) for group in flat)
    shape = (2, 3, 4, 4)
    alone, other = (drawn(unet, shape, seed=0, steps=4) for unet in (early, late))
    assert torch.equal(drawn(early, shape, seed=0, steps=4, late=(late, 0.0)), alone)
    assert torch.equal(drawn(early, shape, seed=0, steps=4, late=(late, float(PROCESS.sigmas[-1]))), other)


def test_scenes_of_other_numbers_are_others() -> None:
    assert scenes(0, 3)[2] == scenes(0, 1, first=2)[0]
    assert scenes(0, 1) != scenes(0, 1, first=1)
    assert painted(scenes(0, 2, aspect=0.5), 8, 16).shape == (2, 3, 16, 8)


def test_components_of_patches_are_the_best_first_stage() -> None:
    pictures = painted(scenes(0, 40), 16, 16)
    whole = compression.Patches(pictures, 2, 12)  # as many numbers as the pixels
    assert torch.allclose(whole.decode(whole.encode(pictures)), pictures, atol=1e-5)
    assert whole.encode(pictures).std() == pytest.approx(1, abs=0.05)
    errors = [(s.decode(s.encode(pictures)) - pictures).square().mean()
              for s in (compression.Patches(pictures, 4, n) for n in (3, 12))]  # fmt: skip
    means = F.interpolate(F.avg_pool2d(pictures, 4), scale_factor=4)
    assert errors[1] < errors[0] <= (means - pictures).square().mean() * 1.001


def test_horizons_move_as_crops_do() -> None:
    sky = torch.ones(2, 3, 24, 16)
    sky[:, :, 13:] = -1
    crops, tops = crop_conditioning.cropped(sky.repeat(20, 1, 1, 1), 16, 0)
    rows = crop_conditioning.horizons(crops)
    assert rows.tolist() == (13 - tops).tolist()
    found = crop_conditioning.slope(tops.numpy().astype(float), rows)
    assert found.value == pytest.approx(-1)
    near, far = Measured(8.0, (7.9, 8.1)), Measured(5.0, (4.9, 5.1))
    assert [v.holds for v in crop_conditioning.verdicts_of(near, far, near, found, found)] == [True, True, True]
    flat = Measured(0.1, (-0.1, 0.3))
    assert [v.holds for v in crop_conditioning.verdicts_of(near, near, far, flat, found)] == [None, False, False]


def test_small_pictures_lose_their_details_and_large_ones_stay() -> None:
    pictures = painted(scenes(0, 60), 16, 16)
    mixed, sides = size_conditioning.with_small(pictures, 0)
    large = sides == 1
    assert 0 < large.sum() < 20
    assert torch.equal(mixed[large], pictures[large])
    assert sharpness(mixed[~large]).mean() < 0.8 * sharpness(pictures[~large]).mean()


def test_one_sky_has_equal_ends() -> None:
    flat = torch.zeros(1, 3, 8, 32)
    broken = flat.clone()
    broken[..., 16:] = 0.5
    assert latent_scale.sides_apart(torch.cat([flat, broken])).tolist() == [0, 0.5]
    found = scenes(0, 2)
    assert torch.equal(latent_scale.maps(found, 16, 16).sum(dim=1), torch.ones(2, 8, 8))


def _near(value: float) -> Measured:
    return Measured(value, (value - 0.01, value + 0.01))


def test_compression_is_judged_by_its_factors() -> None:
    def words(*rows: tuple[float, float, float]) -> list[bool | None]:
        arms = [compression.Arm(2**i, *map(_near, row)) for i, row in enumerate(rows)]
        return [v.holds for v in compression.verdicts_of(arms)]

    assert words((0, 0.9, 0.5), (0.05, 0.5, 0.2), (0.3, 0.5, 0.4)) == [True, True, True]
    assert words((0, 0.5, 0.1), (0.1, 0.6, 0.3), (0.2, 0.7, 0.6)) == [False, False, False]


def test_super_resolution_is_judged_picture_by_picture() -> None:
    rng = np.random.default_rng(0)

    def arm(error: float, sharp: float, distance: float) -> super_resolution.Arm:
        spread = 0.01 * rng.standard_normal((2, 50))
        return super_resolution.Arm("", error + spread[0], sharp + spread[1], _near(distance))

    near, true = arm(25, 0.5, 0.3), arm(22, 1.0, 0.1)
    assert [v.holds for v in super_resolution.verdicts_of(near, true)] == [True] * 3
    assert [v.holds for v in super_resolution.verdicts_of(true, near)] == [False] * 3


def test_boxes_are_where_things_are() -> None:
    found = scenes(0, 20, most=2)
    pictures = torch.zeros(20, 3, 16, 16)
    for x, scene in zip(pictures, found):
        b = scene.things[0].box
        x[:, int(b.top * 16) : round(b.bottom * 16), int(b.left * 16) : round(b.right * 16)] = 1
    assert layout.box_colors(pictures, found).min() == 1
    told, untold = (layout.things_told(found, boxes=boxes).tokens for boxes in (True, False))
    assert told is not None
    assert untold is not None
    assert told.shape == untold.shape
    assert (told - untold)[:, 0].any(dim=1).all()
    assert layout.overlap((0, 0, 2, 2), (0, 1, 2, 3)) == pytest.approx(1 / 3)
    assert layout.overlap((0, 0, 1, 1), (1, 1, 2, 2)) == 0


def test_nothing_is_decided_by_noise() -> None:
    true = painted(scenes(0, 8), 16, 16)
    verdicts = [Verdict("this is better", True), Verdict("that is worse", False)]
    noise = torch.randn(true.shape, generator=torch.Generator().manual_seed(0))
    assert decided(verdicts, true, true, true.flip(3)) == verdicts
    assert [v.holds for v in decided(verdicts, true, true, noise)] == [None, None]
