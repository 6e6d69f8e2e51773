"""A system on a device whose memory does not hold it."""

from __future__ import annotations

import torch
from torch import nn

from darkroom.models.text_transformer import TextLayer
from darkroom.models.tower import TowerLayer
from darkroom.nn.blocks import AttentionBlock, ResBlock, TransformerBlock
from darkroom.nn.resample import Downsample, Upsample
from darkroom.nn.streaming import Streaming
from darkroom.systems.build import LatentDiffusion

__all__ = ["stream"]

# Whole spatial transformers would be too coarse: SDXL's largest has ten blocks and 700 MB in float16, one block 69 MB,
# as much as a residual block. Finer than that, copies would become too short to be worth their start.
BLOCKS = (ResBlock, AttentionBlock, TransformerBlock, Downsample, Upsample, TowerLayer, TextLayer)


def stream(model: LatentDiffusion, device: torch.device | str) -> Streaming:
    """Let `model`, which is in the host's memory, compute on `device`: weights of blocks stay where they are and come
    for their work, everything else moves there. `model.device` is `device` from then on.
    """
    model.widen_overflowing_stage()  # streamed weights keep their type
    stage, embedders = model.autoencoder, model.conditioner.embedders.values()
    parts = [child for e in embedders for child in e.children()]
    towers = [tower for part in parts for tower in (part if isinstance(part, nn.ModuleList) else [part])]
    streaming = Streaming([model.unet, stage.encoder, stage.decoder, *towers], BLOCKS, torch.device(device))
    streamed = {p for block in streaming.blocks for p in block.parameters()}
    for module in model.modules():
        for p in module.parameters(recurse=False):
            if p not in streamed:
                p.data = p.data.to(device)
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))
    return streaming
