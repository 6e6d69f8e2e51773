import torch

from darkroom.models.text_transformer import TextTransformer, TextTransformerConfig


def test_fresh_tokens_are_told_apart() -> None:
    """Another token at a place is another feature there, and nearly the same ones elsewhere. A feature that became
    independent would have moved by 2."""
    torch.manual_seed(0)
    transformer = TextTransformer(TextTransformerConfig(257, 14, 64, 2, 4, 16))
    tokens = torch.randint(0, 257, (32, 14))
    others = tokens.clone()
    others[:, 3] = (tokens[:, 3] + torch.randint(1, 257, (32,))) % 257
    with torch.no_grad():
        moved = (transformer(others) - transformer(tokens)).square().mean(dim=(0, 2))
    assert moved[3] > 0.5
    assert torch.cat([moved[:3], moved[4:]]).max() < 0.1 * moved[3]
