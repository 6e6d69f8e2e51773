import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from darkroom.nn.blocks import SpatialTransformer
from darkroom.nn.token_merging import TokenMerging, token_merging


def merged_by_definition(x: Tensor, y: Tensor, height: int, width: int, merged: int, destinations: set[int]) -> Tensor:
    """What y (N, C) becomes by merging and unmerging, token by token, for the likeness of x (N, C)."""
    sources = [i for i in range(height * width) if i not in destinations]
    nearest = {}
    for i in sources:
        likeness = [(float(F.cosine_similarity(x[i], x[j], dim=0)), -j) for j in destinations]
        nearest[i] = max(likeness)
    chosen = sorted(sources, key=lambda i: -nearest[i][0])[:merged]
    groups = {j: [j, *(i for i in chosen if -nearest[i][1] == j)] for j in destinations}
    result = y.clone()
    for members in groups.values():
        result[members] = y[members].mean(dim=0)
    return result


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5), (3, 1)])
def test_a_map_without_a_whole_cell_stays_as_it_is(height: int, width: int) -> None:
    x = torch.randn(2, height * width, 4)
    groups = TokenMerging(0.5).groups(x, height, width)
    assert groups.count == height * width
    assert torch.equal(groups.unmerge(groups.merge(x)), x)


@pytest.mark.parametrize(("height", "width"), [(6, 8), (5, 7)])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.75])
def test_groups_are_those_of_the_definition(height: int, width: int, share: float) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(2, height * width, 16), torch.randn(2, height * width, 5)
    groups = TokenMerging(share).groups(x, height, width)
    cells = (height // 2) * (width // 2)
    assert groups.count == height * width - int(height * width * share)
    assert groups.merge(y).shape == (2, groups.count, 5)
    found = groups.unmerge(groups.merge(y))
    # The first groups are those of the destinations; which positions were drawn shows in a merging of none.
    alone = TokenMerging(0.0).groups(x, height, width)
    for row in range(2):
        destinations = {int((alone.owner[row] == cell).nonzero()) for cell in range(cells)}
        wanted = merged_by_definition(x[row], y[row], height, width, height * width - groups.count, destinations)
        assert torch.allclose(found[row], wanted, atol=1e-6)
        places = sorted((p // width // 2, p % width // 2) for p in destinations)
        assert places == [(i, j) for i in range(height // 2) for j in range(width // 2)]  # one in every cell


def test_a_token_that_stays_alone_comes_back_unchanged() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 64, 8)
    groups = TokenMerging(0.5).groups(x, 8, 8)
    back = groups.unmerge(groups.merge(x))
    for row in range(3):
        sizes = groups.owner[row].bincount(minlength=groups.count)
        assert sizes.min() == 1
        alone = sizes[groups.owner[row]] == 1
        assert torch.equal(back[row, alone], x[row, alone])
        assert not torch.isclose(back[row, ~alone], x[row, ~alone]).any(dim=-1).all()
    nothing = TokenMerging(0.0).groups(x, 8, 8)
    assert torch.equal(nothing.unmerge(nothing.merge(x)), x)


def test_equal_tokens_merge_without_loss() -> None:
    """Four tokens that recur in every cell: all others can go."""
    x = torch.randn(1, 2, 1, 3, 1, 8).expand(1, 2, 4, 3, 4, 8).reshape(1, 8 * 12, 8)
    groups = TokenMerging(0.75).groups(x, 8, 12)
    assert torch.allclose(groups.unmerge(groups.merge(x)), x, atol=1e-6)


def test_draws_differ_within_a_run_and_not_between_runs_or_batches() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 64, 8)
    one, other = TokenMerging(0.5), TokenMerging(0.5)
    runs = [[m.groups(part, 8, 8).owner[0] for _ in range(2)] for m, part in ((one, x), (other, x[:1]))]
    assert all(torch.equal(a, b) for a, b in zip(*runs))
    assert not torch.equal(*runs[0])


@torch.no_grad()
def test_a_transformer_that_merges_equal_tokens_gives_what_it_gives() -> None:
    """Every token occurs four times; then attention to the means is attention to the tokens."""
    torch.manual_seed(0)
    block = SpatialTransformer(32, 12, 2, 2, linear=True)
    torch.nn.init.normal_(block.proj_out.weight)  # it begins at zero
    x = torch.randn(2, 32, 3, 4).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    context = torch.randn(2, 5, 12)
    rough = torch.randn_like(x)
    smooth, other = block(x, context), block(rough, context)
    with token_merging([block], TokenMerging(0.75)):
        assert torch.allclose(block(x, context), smooth, atol=1e-5)
        assert not torch.allclose(block(rough, context), other, atol=1e-2)
    assert torch.equal(block(rough, context), other)
