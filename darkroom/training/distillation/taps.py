"""Features of a denoiser: what its blocks give while it looks at noised latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from darkroom.models.unet import UNet
from darkroom.nn.blocks import AttentionBlock, SpatialTransformer

__all__ = ["attention_blocks", "channels", "tapped"]


def attention_blocks(unet: UNet) -> list[nn.Module]:
    """The blocks with attention; of a UNet without any, the last block of its middle."""
    found: list[nn.Module] = [m for m in unet.modules() if isinstance(m, (SpatialTransformer, AttentionBlock))]
    return found or [unet.mid_block2]


def channels(block: nn.Module) -> int:
    """Of what one of those blocks gives."""
    norm = block.norm if isinstance(block, (SpatialTransformer, AttentionBlock)) else block.norm2
    assert isinstance(norm, nn.GroupNorm), "blocks begin with a group norm"
    return norm.num_channels


def tapped(blocks: Sequence[nn.Module], run: Callable[[], object]) -> list[Tensor]:
    """What each of `blocks` gives (B, C, h, w) while `run` runs."""
    found: dict[int, Tensor] = {}

    def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
        found[id(module)] = output

    handles = [block.register_forward_hook(keep) for block in blocks]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return [found[id(block)] for block in blocks]
