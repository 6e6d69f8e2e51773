import math

import pytest
import torch

from darkroom.conditioning.conditioning import Conditioning
from darkroom.nn.attention import Attention


def full(batch: int, length: int = 3) -> Conditioning:
    rows = torch.arange(batch, dtype=torch.float32)
    return Conditioning(
        tokens=rows.view(-1, 1, 1).expand(batch, length, 2),
        channels=rows.view(-1, 1, 1, 1).expand(batch, 1, 2, 2),
        vector=rows.view(-1, 1).expand(batch, 4),
    )


def rows(c: Conditioning) -> list[list[float]]:
    return [t.flatten(1)[:, 0].tolist() for t in (c.tokens, c.channels, c.vector) if t is not None]


def test_all_slots_are_cut_repeated_and_joined_alike():
    c = full(3)
    assert c.batch == 3
    assert rows(c[1:]) == [[1, 2]] * 3
    assert rows(c[torch.tensor([2, 0])]) == [[2, 0]] * 3
    assert rows(c[2]) == [[2]] * 3
    assert rows(c[[2, 1]]) == [[2, 1]] * 3
    assert rows(c.repeat(2)) == [[0, 0, 1, 1, 2, 2]] * 3
    assert rows(Conditioning.cat([c, c[:1]])) == [[0, 1, 2, 0]] * 3


def test_cutting_undoes_joining():
    a, b = full(2), full(3)
    joined = Conditioning.cat([a, b])
    for part, wanted in ((joined[:2], a), (joined[2:], b)):
        assert all(torch.equal(getattr(part, s), getattr(wanted, s)) for s in ("tokens", "channels", "vector"))


def test_missing_slots_stay_missing():
    c = Conditioning(vector=torch.zeros(2, 4))
    assert Conditioning.cat([c, c]).tokens is None
    assert Conditioning().batch == 0


@pytest.mark.parametrize("lengths", [(2, 4), (154, 231), (77, 154, 231, 385)])
def test_token_sequences_come_to_their_least_common_multiple(lengths: tuple[int, ...]):
    joined = Conditioning.cat([Conditioning(tokens=torch.rand(1, n, 4)) for n in lengths])
    assert joined.tokens is not None
    assert joined.tokens.shape == (len(lengths), math.lcm(*lengths), 4)


def test_attention_does_not_notice_repeated_sequences():
    torch.manual_seed(0)
    attention = Attention(8, 4, heads=2, head_dim=4)
    x, parts = torch.randn(1, 5, 8), [Conditioning(tokens=torch.randn(1, n, 4)) for n in (6, 9)]
    both = attention(x.repeat(2, 1, 1), Conditioning.cat(parts).tokens)
    for row, part in zip(both, parts):
        torch.testing.assert_close(row, attention(x, part.tokens)[0])


def test_different_slots_and_shapes_do_not_mix():
    with pytest.raises(ValueError, match=r"parts \[1\] have no tokens"):
        Conditioning.cat([full(1), Conditioning(vector=torch.zeros(1, 4))])
    with pytest.raises(ValueError, match=r"vector have the shapes \[\[1, 4\], \[1, 5\]\]"):
        Conditioning.cat([Conditioning(vector=torch.zeros(1, n)) for n in (4, 5)])


def test_class_indices_stay_whole_numbers():
    c = Conditioning(tokens=torch.zeros(1, 2, 3), vector=torch.tensor([300])).to("cpu", torch.bfloat16)
    assert c.tokens is not None
    assert c.tokens.dtype == torch.bfloat16
    assert c.vector is not None
    assert c.vector.tolist() == [300]
