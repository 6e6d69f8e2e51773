from fractions import Fraction

import pytest
import torch
from torch.nn import functional as F

from darkroom.errors import InputError
from darkroom.systems.build import LatentDiffusion
from darkroom.systems.tiling import tiled


@pytest.mark.parametrize(("height", "width"), [(8, 8), (20, 33), (9, 64), (16, 17)])
def test_what_looks_at_one_place_only_comes_out_as_in_one_piece(height: int, width: int) -> None:
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    up = tiled(lambda z: F.interpolate(z, scale_factor=4, mode="nearest").tanh(), x, 8, 2, 4)
    assert torch.allclose(up, F.interpolate(x, scale_factor=4, mode="nearest").tanh(), atol=1e-6)
    if height % 2 == 0 and width % 2 == 0:
        down = tiled(lambda z: F.avg_pool2d(z, 2), x, 8, 4, Fraction(1, 2))
        assert torch.allclose(down, F.avg_pool2d(x, 2), atol=1e-6)


def test_tiles_that_disagree_fade_into_each_other() -> None:
    """A function that returns each tile's own mean: the steepest step is that of an even fade, not a jump."""
    x = torch.arange(64.0).expand(1, 1, 4, 64)
    y = tiled(lambda z: z.mean(dim=(2, 3), keepdim=True).expand_as(z), x, 16, 8, 1)
    steps = y.diff(dim=-1).abs()
    jump = 8.0  # between the means of neighbours
    assert float(steps.max()) <= jump / 8 + 1e-4


def test_a_first_stage_in_tiles_is_near_the_one_in_one_piece(tiny_model: LatentDiffusion) -> None:
    """Group norms see a tile instead of the picture: near, not equal."""
    z = torch.randn(1, 8, 24, 24, generator=torch.Generator().manual_seed(1))
    whole = tiny_model.decode_latents(z)
    parts = tiny_model.decode_latents(z, tile=16)
    assert parts.shape == whole.shape
    assert float((parts - whole).abs().mean()) < 0.2 * float(whole.std())
    images = whole.clamp(-1, 1)
    latents = tiny_model.encode_images(images)
    in_tiles = tiny_model.encode_images(images, tile=16)
    assert in_tiles.shape == latents.shape
    assert float((in_tiles - latents).abs().mean()) < 0.2 * float(latents.std())


@pytest.mark.parametrize(("tile", "overlap", "scale"), [(8, 5, 1), (0, 0, 1), (8, -1, 1), (9, 2, Fraction(1, 2))])
def test_tiles_that_cannot_be(tile: int, overlap: int, scale: Fraction) -> None:
    with pytest.raises(InputError, match="tiles of"):
        tiled(lambda z: z, torch.zeros(1, 1, 16, 16), tile, overlap, scale)
