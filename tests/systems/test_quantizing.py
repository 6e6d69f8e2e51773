from dataclasses import replace

import pytest
import torch

from darkroom.errors import InputError
from darkroom.nn.quantized import QuantizedLinear
from darkroom.systems.build import build
from darkroom.systems.quantizing import quantize_system
from darkroom.systems.system import System


def test_attention_and_text_are_quantized_and_the_rest_stays(tiny_system: System) -> None:
    text, *others = tiny_system.embedders
    wide = replace(text, width=512, heads=8, head_dim=64)
    unet = replace(tiny_system.unet, model_channels=128, channel_mult=(1, 4), context_dim=512)
    model = build(replace(tiny_system, unet=unet, embedders=(wide, *others)))  # type: ignore[arg-type]
    with torch.no_grad():
        torch.manual_seed(0)
        for p in model.parameters():  # much of it begins at zero
            p.copy_(torch.randn(p.shape) * (0.2 if p.dim() == 1 else p[0].numel() ** -0.5))
        x, t, vector = torch.randn(1, 8, 4, 4), torch.tensor([5.0]), torch.randn(1, unet.vector_dim)
        tokens = torch.randn(1, 7, 512)
        before = model.unet(x, t, tokens, vector)
        try:
            quantize_system(model, "int8")
        except InputError:
            pytest.skip("this processor has no fast products in int8")
        after = model.unet(x, t, tokens, vector)
    names = {name for name, m in model.named_modules() if isinstance(m, QuantizedLinear)}
    assert {name.split(".")[0] for name in names} == {"unet", "conditioner"}
    attention = [n for n in names if n.startswith("unet.")]
    assert all("attention" in n for n in attention)
    # A transformer has two projections, two times four for attention and two for the feed-forward; there are four.
    assert len(attention) == 4 * 12
    assert len(names) - len(attention) == 6  # one layer of text
    assert 0 < (after - before).norm() < 0.05 * before.norm()
