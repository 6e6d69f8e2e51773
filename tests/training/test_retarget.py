"""A base trained as a system that reads more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from narrow import narrow
from narrow_checkpoints import randomise, write_vocabulary

from darkroom.conditioning.image_prompt import PromptImage
from darkroom.conditioning.masked_image import Masked
from darkroom.diffusion.prediction import Prediction
from darkroom.errors import InputError
from darkroom.systems.build import LatentDiffusion, build
from darkroom.training.retarget import changed_system, trained_as


def base(name: str, folder: Path) -> LatentDiffusion:
    write_vocabulary(folder)
    model = build(narrow(name))
    randomise(model)
    model.conditioner.look_in(folder)
    return model


def predicted(model: LatentDiffusion, inputs: dict[str, object], x: torch.Tensor) -> torch.Tensor:
    return model.network(x, torch.tensor([300]), model.condition([inputs]))


@torch.no_grad()
def test_new_channels_and_vectors_change_nothing_at_first(tmp_path: Path) -> None:
    x, image = torch.randn(1, 4, 8, 8), torch.randn(3, 64, 64).clamp(-1, 1)
    model = base("sd-v1-5", tmp_path)
    before = predicted(model, {"caption": "a cat"}, x)
    wider = trained_as(model, narrow("sd-v1-5-inpainting"))
    assert wider.unet.conv_in.weight.shape[1] == 9
    inputs = {"caption": "a cat", "masked_image": Masked(image, torch.ones(1, 64, 64))}
    assert torch.allclose(predicted(wider, inputs, x), before, atol=1e-5)

    model, donor = base("sd-v2-1-768-v", tmp_path), build(narrow("sd-v2-1-unclip-l"))
    before = predicted(model, {"caption": "a cat"}, x)
    unclip = trained_as(model, narrow("sd-v2-1-unclip-l"), lambda: donor)
    inputs = {"caption": "a cat", "image_prompt": PromptImage(image)}
    assert torch.allclose(predicted(unclip, inputs, x), before, atol=1e-5)
    assert unclip.conditioner.embedders["image_prompt"] is donor.conditioner.embedders["image_prompt"]


def test_another_prediction_keeps_the_weights(tmp_path: Path) -> None:
    model = base("sd-v2-0-base", tmp_path)
    changed = trained_as(model, changed_system(model.system, Prediction.V, True, {"caption": 0.3}))
    assert changed.process.prediction is Prediction.V
    assert float(changed.process.alphas_cumprod[-1]) == 2.0**-24
    assert changed.conditioner.embedders["caption"].config.drop_rate == 0.3  # type: ignore[union-attr]
    assert torch.equal(changed.unet.conv_out.weight, model.unet.conv_out.weight)


def test_what_cannot_become_another(tmp_path: Path) -> None:
    model = base("sd-v1-5", tmp_path)
    with pytest.raises(InputError, match=r"sd-v1-5 cannot be trained as sd-v2-0-base: its unet"):
        trained_as(model, narrow("sd-v2-0-base"))
    depth = base("sd-v2-0-base", tmp_path)
    with pytest.raises(InputError, match="has no network that reads depth: embedders_from names a model that has it"):
        trained_as(depth, narrow("sd-v2-depth"))
    inpainting, system = base("sd-v1-5-inpainting", tmp_path), narrow("sd-v1-5")
    system = replace(system, unet=replace(system.unet, in_channels=9))
    with pytest.raises(InputError, match="sd-v1-5-inpainting reads masked_image, which sd-v1-5 does not"):
        trained_as(inpainting, system)
    with pytest.raises(
        InputError, match=r"drop_rates\.capton is no input of sd-v1-5 that can be dropped; known are: cap"
    ):
        changed_system(model.system, None, None, {"capton": 0.1})
