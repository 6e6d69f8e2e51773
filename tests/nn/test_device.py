import pytest
import torch

from darkroom.errors import InputError
from darkroom.nn.device import find_device


def test_what_is_here_is_found() -> None:
    assert find_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cudaa", "", "meta", "cuda:99", "cpu:3"])
def test_what_is_not_here_is_refused_with_what_is(name: str) -> None:
    with pytest.raises(InputError, match=f"there is no device '{name}' here; there are: cpu"):
        find_device(name)


@pytest.mark.skipif(torch.backends.cuda.is_built(), reason="this PyTorch is built with CUDA")
def test_why_there_is_no_cuda() -> None:
    with pytest.raises(InputError, match=r"there is no device 'cuda' here; .*; this PyTorch is built without CUDA"):
        find_device("cuda")
