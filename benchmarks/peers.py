"""Peers that are no PyTorch: the network of Diffusers, converted."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.works import Ready

__all__ = ["openvino"]


class _Called(nn.Module):
    """The peer as a module from inputs to output, for tracing."""

    def __init__(self, ready: Ready) -> None:
        super().__init__()
        self.net = copy.deepcopy(ready.networks.peer).float()
        self.call = ready.peer

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.call(self.net, *inputs)


def openvino(ready: Ready, dtype: torch.dtype) -> Callable[[], Tensor]:
    """OpenVINO on the CPU, in `dtype` where the processor has its products."""
    ov = importlib.import_module("openvino")
    model = ov.convert_model(_Called(ready), example_input=ready.inputs)
    hint = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}[dtype]
    compiled = ov.Core().compile_model(
        model, "CPU", {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    )
    arrays = [i.numpy() for i in ready.inputs]
    return lambda: torch.from_numpy(compiled(arrays)[0])
