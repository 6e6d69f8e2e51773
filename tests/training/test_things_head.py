import torch
from torch.nn import functional as F

from darkroom.data.source import COLOUR_NAMES, MAP_NAMES
from darkroom.systems.build import LatentDiffusion
from darkroom.training.things_head import ThingsHead


def test_the_head_learns_what_lies_where_and_teaches_the_unet(tiny_model: LatentDiffusion) -> None:
    unet = type(tiny_model.unet)(tiny_model.unet.config)
    torch.manual_seed(0)
    head = ThingsHead(unet)
    maps = torch.zeros(2, 2, 16, 16, dtype=torch.uint8)
    maps[:, 0, :8], maps[:, 1, :8] = 5, 3
    maps[1] = maps[1].flip(1)
    x, t, tokens = torch.randn(2, 8, 8, 8), torch.full((2,), 900), torch.randn(2, 5, 16)
    vector = torch.randn(2, unet.config.vector_dim)
    optimiser = torch.optim.Adam([*unet.parameters(), *head.parameters()], lr=1e-2)
    losses = []
    for _ in range(30):
        unet(x, t, tokens, vector)
        losses.append(head(maps))
        optimiser.zero_grad()
        losses[-1].sum().backward()
        optimiser.step()
    assert unet.conv_in.weight.grad is not None
    assert float(unet.conv_in.weight.grad.abs().sum()) > 0
    assert (losses[-1] < 0.2 * losses[0]).all()


def test_its_loss_is_the_cross_entropy_of_what_each_place_holds(tiny_model: LatentDiffusion) -> None:
    unet = type(tiny_model.unet)(tiny_model.unet.config)
    head = ThingsHead(unet)
    maps = torch.randint(0, 4, (2, 2, 4, 4), dtype=torch.uint8)
    unet(torch.randn(2, 8, 8, 8), torch.full((2,), 10), torch.randn(2, 5, 16), torch.randn(2, unet.config.vector_dim))
    assert head.features is not None
    assert head.features.shape[-2:] == (4, 4)  # one place of the map each
    logits = head.out(F.silu(head.norm(head.features)))
    kinds, colours = logits.split([1 + len(MAP_NAMES), 1 + len(COLOUR_NAMES)], dim=1)
    expected = torch.stack([F.cross_entropy(kinds, maps[:, 0].long()), F.cross_entropy(colours, maps[:, 1].long())])
    assert torch.allclose(head(maps), expected, atol=1e-6)
