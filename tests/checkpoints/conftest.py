from pathlib import Path

import pytest
from narrow_checkpoints import random_model

from darkroom.checkpoints.convert import Content, write_original


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A narrow Stable Diffusion 1.5 with random weights in one file."""
    path = tmp_path / "v1-5.safetensors"
    write_original(Content.of_model(random_model("sd-v1-5")), path)
    return path
