

@pytest.mark.parametrize("block", [1, 70, 7 * 9 * 2, 2**20])
@torch.no_grad()
def test_attention_in_blocks_is_attention(block: int) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 3, 7, 8), torch.randn(2, 3, 9, 8), torch.randn(2, 3, 9, 8)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    assert torch.allclose(attention_in_blocks(q, k, v, block), expected, atol=1e-5)
    rounded = attention_in_blocks(q.bfloat16(), k.bfloat16(), v.bfloat16(), block).float()
    assert (rounded - expected).abs().max() < 2e-2 * expected.abs().max()
