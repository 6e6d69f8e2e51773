"""Every public checkpoint by name and shape: no tensor missing, none misshapen, none left over but known baggage."""

import re
from dataclasses import replace

import pytest
import torch
from narrow_checkpoints import narrow
from public_manifests import empty_model, fake_weights, manifests

from darkroom.checkpoints import diffusers, diffusers_names, original, original_names
from darkroom.checkpoints.part import complete
from darkroom.checkpoints.table import rules
from darkroom.checkpoints.transfer import fit
from darkroom.models.autoencoder import Autoencoder
from darkroom.systems import FIRST_STAGES, SYSTEMS
from darkroom.systems.build import build

# Versions that share a layout share their networks; the first of them stands for all.
SINGLE_FILES = {layout: name for name, system in reversed(list(SYSTEMS.items())) for layout in system.layouts}
FOLDERS = {
    "ldm-celeba256": "ldm_celeba256",
    "ldm-sr-4x": "ldm_bsr_sr",
    "ldm-text2img-large": "ldm_text2img-large",
    "sd-turbo": "sd-turbo",
    "sd-v1": "sd-v1-5",
    "sd-v1-inpainting": "sd-v1-5-inpainting",
    "sd-v2-1-unclip-h": "sd-v2-1-unclip-h",
    "sd-v2-1-unclip-l": "sd-v2-1-unclip-l",
    "sd-v2-768-v": "sd-v2-1-768-v",
    "sd-v2-base": "sd-v2-1-base",
    "sd-v2-depth": "sd-v2-depth",
    "sd-v2-inpainting": "sd-v2-inpainting",
    "sd-x4-upscaler": "sd-x4-upscaler",
    "sdxl-base": "sdxl-base",
    "sdxl-refiner": "sdxl-refiner",
    "sdxl-turbo": "sdxl-turbo",
}


def test_no_manifest_is_left_out() -> None:
    layouts = set(SINGLE_FILES) | {stage.layout for stage in FIRST_STAGES.values()}
    assert set(manifests()["original"]) <= layouts
    assert set(manifests()["diffusers"]) == set(FOLDERS)


def test_systems_of_one_layout_have_the_same_networks() -> None:
    for system in SYSTEMS.values():
        for layout in system.layouts:
            first = SYSTEMS[SINGLE_FILES[layout]]
            assert replace(system.unet, upcast=first.unet.upcast) == first.unet
            assert system.autoencoder == first.autoencoder
            assert system.embedders == first.embedders


@pytest.mark.parametrize("layout", SINGLE_FILES)
def test_single_files(layout: str) -> None:
    facts, name = manifests()["original"][layout], SINGLE_FILES[layout]
    available = fake_weights(facts["tensors"])
    model = empty_model(name)
    parts = original.parts(SYSTEMS[name], generative_models=original_names.is_of_generative_models(available))
    table = complete(parts, model.state_dict())
    found = fit(
        table, model.state_dict(), available, optional=original_names.OPTIONAL, is_ignored=original_names.is_ignored
    )
    assert (found.missing, found.misshapen, found.unknown) == ([], [], [])
    read = {their_name for rule in table for their_name in rule.theirs}
    necessary = [n for n in available if not any(re.fullmatch(o.replace("*", ".*"), n) for o in facts["optional"])]
    beyond = [
        n for n in necessary if n not in read and not re.search(r"logit_scale|text_projection|^embedder|\.23\.", n)
    ]
    assert beyond in ([], ["scale_factor"])


@pytest.mark.parametrize("repository", FOLDERS)
def test_folders(repository: str) -> None:
    facts = manifests()["diffusers"][repository]["tensors"]
    names = {f"{component}/{n}": shape for component, tensors in facts.items() for n, shape in tensors.items()}
    available = fake_weights({diffusers_names.modern_name(n): shape for n, shape in names.items()})
    assert len(available) == len(names)
    model = empty_model(FOLDERS[repository])
    table = complete(diffusers.parts(model.system), model.state_dict())
    found = fit(table, model.state_dict(), available, is_ignored=diffusers_names.is_ignored)
    assert (found.missing, found.misshapen, found.unknown) == ([], [], [])
    assert all(name.endswith("position_ids") for name in found.unused)


@pytest.mark.parametrize("name", FIRST_STAGES)
def test_first_stages_alone(name: str) -> None:
    stage = FIRST_STAGES[name]
    tensors = manifests()["original"][stage.layout]["tensors"]
    prefix = "first_stage_model." if any(n.startswith("first_stage_model.") for n in tensors) else ""
    inside = {n.removeprefix(prefix): s for n, s in tensors.items() if n.startswith(prefix)}
    with torch.device("meta"):
        ours = Autoencoder(stage.autoencoder).state_dict()
    table = rules(original.autoencoder(stage.autoencoder), ours)
    found = fit(table, ours, fake_weights(inside), is_ignored=original_names.is_ignored)
    assert (found.missing, found.misshapen, found.unknown) == ([], [], [])
    assert all(n.startswith("loss.") for n in found.unused)


def test_every_change_has_a_true_inverse() -> None:
    """On numbers, not only shapes: head-outermost and fused projections, transposes, convolutions of one."""
    torch.manual_seed(0)
    for name in ("ldm_lsun_churches256", "sd-v2-1-unclip-h", "sd-v2-depth"):
        state = build(narrow(name)).state_dict()
        for rule in complete(original.parts(narrow(name), generative_models=False), state):
            ours = [torch.rand(state[n].shape) for n in rule.ours]
            back = rule.change.to_ours(rule.change.to_theirs(ours))
            assert all(torch.equal(a, b) for a, b in zip(ours, back))


def test_a_file_of_another_system_is_described() -> None:
    available = fake_weights(manifests()["original"]["sd-v2-base"]["tensors"])
    model = empty_model("sd-v1-5")
    table = complete(original.parts(model.system, generative_models=False), model.state_dict())
    found = fit(table, model.state_dict(), available, is_ignored=original_names.is_ignored)
    assert len(found.missing) == 196
    assert any("768" in text and "1024" in text for text in found.misshapen)
    assert any(n.startswith("cond_stage_model.model.") for n in found.unknown)
