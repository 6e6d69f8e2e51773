"""OpenVINO as a contender, where it is installed: the peer's network, converted."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["openvino"]


def openvino(module: nn.Module, inputs: tuple[Tensor, ...], dtype: torch.dtype) -> Callable[[], Tensor]:
    """`module`, which is in float32, on the CPU in `dtype` where the processor has its products.

    Its memory beside the weights is taken when it first runs, and kept.
    """
    ov = importlib.import_module("openvino")
    model = ov.convert_model(module, example_input=inputs)
    hint = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}[dtype]
    compiled = ov.Core().compile_model(
        model, "CPU", {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    )
    arrays = [i.numpy() for i in inputs]
    return lambda: torch.from_numpy(compiled(arrays)[0])
