"""Building without storage gives the same modules, and takes neither time nor the compiler."""

import subprocess
import sys

import torch
from narrow import narrow
from torch import nn

from darkroom.systems.build import build
from darkroom.systems.empty import empty_modules


def test_names_and_shapes_are_those_of_a_real_one():
    for name in ("ldm_text2img-large", "sdxl-base", "sd-v2-1-unclip-l"):
        real, empty = (build(narrow(name), device).state_dict() for device in ("cpu", "meta"))
        assert {n: t.shape for n, t in real.items()} == {n: t.shape for n, t in empty.items()}
        assert all(t.is_meta for t in empty.values())


def test_initialisation_is_left_out_there_and_only_there():
    with empty_modules():
        assert nn.init.normal_(torch.empty(3)).is_meta
    assert float(nn.init.constant_(torch.empty(3), 2.0).sum()) == 6.0


def test_the_compiler_is_not_imported():
    """Nor when names and shapes are compared with a file's: it takes seconds."""
    code = (
        "import sys\n"
        "from darkroom.checkpoints import original\n"
        "from darkroom.checkpoints.part import complete\n"
        "from darkroom.checkpoints.transfer import wanted_shapes\n"
        "from darkroom.systems import SYSTEMS\n"
        "from darkroom.systems.build import build\n"
        "for name in ('sd-v2-1-unclip-l', 'ldm_text2img256', 'ldm_celeba256'):\n"
        "    state = build(SYSTEMS[name], 'meta').state_dict()\n"
        "    rules = complete(original.parts(SYSTEMS[name], generative_models=False), state)\n"
        "    assert len(wanted_shapes(rules, state)) > 100\n"
        "print('torch._dynamo' in sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
