import pytest
import torch
from torch.nn import functional as F

from darkroom.nn.attention import Attention, Context, attention
from darkroom.nn.native.attention import attention_kernel, native_attention


@pytest.mark.skipif(attention_kernel() is None, reason="this processor takes PyTorch's own kernel")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("n", "m", "d"), [(1, 1, 1), (7, 9, 8), (50, 513, 7), (48, 512, 16), (97, 33, 40), (65, 1000, 64), (100, 77, 160)]
)
@torch.no_grad()
def test_our_kernel_is_as_exact_as_the_fused_one(n: int, m: int, d: int, threads: int) -> None:
    kernel = attention_kernel()
    assert kernel is not None
    torch.manual_seed(0)
    # As it is called: heads side by side in rows.
    q, k, v = (torch.randn(2, rows, 3 * d).bfloat16().unflatten(-1, (3, d)).transpose(1, 2) for rows in (n, m, m))
    exact = F.scaled_dot_product_attention(q.float(), k.float(), v.float())
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        ours = native_attention(kernel, q, k, v)
    finally:
        torch.set_num_threads(before)
    assert ours.shape == exact.shape
    error = (ours.float() - exact).abs().max()
    fused = (F.scaled_dot_product_attention(q, k, v).float() - exact).abs().max()
    assert error <= 1.2 * fused + 1e-2 * exact.abs().max()
    large = native_attention(kernel, q * 100, k * 100, v)  # one key takes all, nothing overflows
    assert torch.allclose(large.float(), F.scaled_dot_product_attention(q * 100, k * 100, v).float(), atol=2e-2)


def test_without_a_compiler_or_switched_off_pytorch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("DARKROOM_NATIVE", "0"), ("CC", "no-such-compiler"), ("XDG_CACHE_HOME", "/proc/none")):
        attention_kernel.cache_clear()
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert attention_kernel() is None
    attention_kernel.cache_clear()


@torch.no_grad()
def test_every_way_of_attending_gives_the_same() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 7, 24), torch.randn(2, 9, 24), torch.randn(2, 9, 24)
    fused = attention(q, k, v, 3)
    with torch.enable_grad():
        assert torch.allclose(attention(q.requires_grad_(), k, v, 3), fused, atol=1e-5)
        trained = attention(q.detach().bfloat16().requires_grad_(), k.bfloat16(), v.bfloat16(), 3)  # by products
    assert (trained.float() - fused).abs().max() < 2e-2 * fused.abs().max()
    rounded = attention(q.detach().bfloat16(), k.bfloat16(), v.bfloat16(), 3, upcast=True)
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - fused).abs().max() < 2e-2 * fused.abs().max()


def test_keys_and_values_of_a_context_are_made_once_and_only_without_gradients() -> None:
    torch.manual_seed(0)
    layer, other = (Attention(8, 6, heads=2, head_dim=4) for _ in range(2))
    x, tokens = torch.randn(2, 5, 8), torch.randn(2, 3, 6)
    context = Context(tokens)
    made: list[int] = []
    layer.to_k.register_forward_hook(lambda *_: made.append(1))
    with torch.no_grad():
        for step in range(3):
            assert torch.equal(layer(x + step, context), layer(x + step, tokens))
        assert torch.equal(other(x, context), other(x, tokens))  # every layer has its own
    assert len(made) == 3 + 1
    layer(x, context).sum().backward()
    plain = layer.to_k.weight.grad
    assert plain is not None
    layer.zero_grad()
    layer(x, tokens).sum().backward()
    assert torch.equal(plain, layer.to_k.weight.grad)


@torch.no_grad()
def test_joined_contexts_take_the_keys_and_values_that_each_has_made() -> None:
    torch.manual_seed(0)
    layer = Attention(8, 6, heads=2, head_dim=4)
    x = torch.randn(4, 5, 8)
    parts = [Context(torch.randn(rows, length, 6)) for rows, length in ((1, 2), (2, 3), (1, 4))]
    made: list[int] = []
    layer.to_k.register_forward_hook(lambda _, inputs, __: made.append(len(inputs[0])))
    expected = torch.cat([layer(rows, part.tokens) for rows, part in zip(x.split([1, 2, 1]), parts)])
    made.clear()
    joined = Context.cat(parts)
    assert joined.tokens.shape == (4, 12, 6)
    torch.testing.assert_close(layer(x, joined), expected)
    torch.testing.assert_close(layer(x[:1], parts[0]), expected[:1])
    torch.testing.assert_close(layer(x[[3, 1, 2]], Context.cat([parts[2], parts[1]])), expected[[3, 1, 2]])
    assert made == [4]  # once, for all rows of the first call
    assert Context.cat(parts[:1]) is parts[0]
    newcomer = Context(torch.randn(1, 3, 6))
    torch.testing.assert_close(layer(x[:2], Context.cat([parts[0], newcomer]))[:1], expected[:1])
    assert made == [4, 2]
    assert layer in newcomer._made
