"""Random LoRAs of narrow systems, and what their denoisers read."""

from __future__ import annotations

import torch
from narrow_checkpoints import narrow, random_model
from torch import Tensor

from darkroom.nn.lora import LowRank


def inputs(name: str) -> tuple[Tensor, ...]:
    c = narrow(name).unet
    torch.manual_seed(3)
    vector = torch.randn(1, c.vector_dim) if c.vector == "linear" else None
    return torch.randn(1, c.in_channels, 8, 8), torch.tensor([500.0]), torch.randn(1, 5, c.context_dim), vector


def lora_for(name: str) -> dict[str, LowRank]:
    model = random_model(name)
    torch.manual_seed(2)
    chosen = [n for n, m in model.named_modules() if n.endswith((".to_q", ".to_out", ".conv1", "ff.proj_in", "ff_in"))]
    chosen = [n for n in chosen if n.startswith(("unet.", "conditioner."))]
    adapters = {}
    for n in chosen:
        adapters[n] = LowRank.fresh(model.get_submodule(n), rank=2, alpha=1).requires_grad_(False)
        adapters[n].up.normal_(0, 0.3)
    return adapters
