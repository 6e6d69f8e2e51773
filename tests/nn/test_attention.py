import pytest
import torch
from torch.nn import functional as F

from darkroom.nn.attention import attention, attention_in_blocks


@pytest.mark.parametrize("block", [1, 70, 7 * 9 * 2, 2**20])
@torch.no_grad()
def test_attention_in_blocks_is_attention(block: int) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 3, 7, 8), torch.randn(2, 3, 9, 8), torch.randn(2, 3, 9, 8)
    expected = F.scaled_dot_product_attention(q, k, v)
    assert torch.allclose(attention_in_blocks(q, k, v, block), expected, atol=1e-5)
    rounded = attention_in_blocks(q.bfloat16(), k.bfloat16(), v.bfloat16(), block).float()
    assert (rounded - expected).abs().max() < 2e-2 * expected.abs().max()


@torch.no_grad()
def test_every_way_of_attending_gives_the_same() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 7, 24), torch.randn(2, 9, 24), torch.randn(2, 9, 24)
    fused = attention(q, k, v, 3)
    with torch.enable_grad():
        assert torch.allclose(attention(q.requires_grad_(), k, v, 3), fused, atol=1e-5)
    rounded = attention(q.detach().bfloat16(), k.bfloat16(), v.bfloat16(), 3, upcast=True)
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - fused).abs().max() < 2e-2 * fused.abs().max()
