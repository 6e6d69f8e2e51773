"""The ADD recipe on narrow systems: who learns from what, and runs from beginning to end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from contexts import context, first_places
from torch import Tensor, nn

from darkroom.checkpoints.load import load
from darkroom.checkpoints.lora import read_lora
from darkroom.checkpoints.native import load_system
from darkroom.data.source import PictureBookConfig
from darkroom.engine.pipeline import Pipeline
from darkroom.errors import InputError
from darkroom.training.adapters import AdapterConfig
from darkroom.training.checkpoints import Checkpoints
from darkroom.training.config import LoopConfig, OptimizerConfig
from darkroom.training.distillation.add import AddObjective, AddRecipe
from darkroom.training.distillation.discriminator import DiscriminatorConfig
from darkroom.training.distillation.teacher import TeacherConfig
from darkroom.training.distillation.watch import WatchConfig
from darkroom.training.loop import prepare, train
from darkroom.training.world import World
from darkroom.types import Request

LOOP = LoopConfig(
    steps=4, batch_size=4, lr=1e-4, betas=(0.0, 0.99), precision="fp32", log_every=1, save_every=2, ema_decay=0.5,
    optimizers={"discriminator": OptimizerConfig(lr=1e-3)},
)  # fmt: skip


def recipe(model: Path, **changes: Any) -> AddRecipe:
    return replace(AddRecipe(loop=LOOP, data=PictureBookConfig(32, 12), model=str(model)), **changes)


def build(r: AddRecipe) -> AddObjective:
    torch.manual_seed(0)
    objective = AddObjective(r)
    objective.frozen.eval().requires_grad_(False)
    return objective


def losses(objective: AddObjective) -> dict[str, Any]:
    """Each differentiated in turn, as the loop does it."""
    places = first_places(objective.reader, 4)
    found = {}
    for loss in objective.losses(objective.batch(places), context(places)):
        loss.value.backward()
        found[loss.optimizer] = loss
    return found


def moved(network: nn.Module) -> float:
    return sum(float(p.grad.abs().sum()) for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize(("distance", "weighting"), [("pixels", "exponential"), ("latents", "nfsd")])
def test_only_student_and_heads_learn(tiny_folder: Path, distance: Any, weighting: Any) -> None:
    teaching = TeacherConfig(weighting, guidance=(2.0, 4.0), nfsd_negative="a grey house")
    objective = build(recipe(tiny_folder, distance=distance, teaching=teaching))
    found = losses(objective)
    assert set(found) == {"student", "discriminator"}
    assert moved(objective.model.unet) > 0
    assert moved(objective.discriminator) > 0
    for network in objective.frozen.values():
        assert all(p.grad is None for p in network.parameters())
    own = {id(p) for p in objective.model.unet.parameters()}
    assert not own & {id(p) for p in objective.teacher.model.parameters()}


def test_the_adversary_alone_reaches_the_student_through_the_decoder(tiny_folder: Path) -> None:
    objective = build(recipe(tiny_folder, distillation_weight=0.0))
    found = losses(objective)
    assert moved(objective.model.unet) > 0
    assert "distillation" not in found["student"].log
    alone = build(recipe(tiny_folder, adversarial_weight=0.0))
    assert set(losses(alone)) == {"student"}
    assert moved(alone.discriminator) == 0


def gradients(objective: AddObjective) -> list[Tensor]:
    losses(objective)
    return [p.grad for p in objective.model.unet.parameters() if p.grad is not None]


def test_recomputing_changes_no_gradient(tiny_folder: Path) -> None:
    """What makes SDXL fit on one card: the student's blocks, and the decoder a picture at a time."""
    plain = gradients(build(recipe(tiny_folder)))
    loop = replace(LOOP, gradient_checkpointing=True)
    objective = AddObjective(recipe(tiny_folder, decode_rows=1, loop=loop))
    objective.discriminator.load_state_dict(build(recipe(tiny_folder)).discriminator.state_dict())
    prepare(objective, loop, torch.device("cpu"), World())
    saving = gradients(objective)
    assert len(plain) == len(saving)
    for a, b in zip(plain, saving):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5 * float(a.abs().max()) + 1e-9)


def test_the_student_begins_as_its_teacher_and_ends_as_a_system_of_few_steps(tiny_folder: Path, tmp_path: Path) -> None:
    r = recipe(tiny_folder, latent_cache=tmp_path / "cache", prompts=("a red house",), true="decoded")
    objective = build(r)
    ours, theirs = objective.model.unet.state_dict(), objective.teacher.model.unet.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    train(objective, r.loop, tmp_path / "run", recipe=r)
    assert (tmp_path / "run" / "samples" / "0000004.png").exists()
    line = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert {"deceiving", "distillation", "r1", "logits/real", "logits/fake", "loss/discriminator"} <= line.keys()
    exported = load_system(tmp_path / "run" / "export")
    defaults = exported.system.defaults
    assert (defaults.steps, defaults.guidance_scale, defaults.schedule) == (4, 1.0, "trailing")
    assert exported.system.schedule.zero_terminal_snr  # it predicts v
    picture = Pipeline(exported).generate([Request("a red house", steps=1)])[0]
    assert picture.pixels.shape == (32, 32, 3)
    teacher = objective.teacher.model.unet.state_dict()
    assert all(torch.equal(teacher[k], theirs[k]) for k in theirs)


def test_a_broken_run_goes_on_bit_for_bit(tiny_folder: Path, tmp_path: Path) -> None:
    r = recipe(tiny_folder, inputs="simulated")
    whole = build(r)
    train(whole, r.loop, tmp_path / "whole", recipe=r)
    half = replace(r, loop=replace(LOOP, steps=2))
    train(build(half), half.loop, tmp_path / "broken", recipe=half)
    again = build(r)
    train(again, r.loop, tmp_path / "broken", recipe=r)
    ours, theirs = whole.trained.state_dict(), again.trained.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert [k for k in ours if "watch" in k]


def test_an_adapter_learns_in_place_of_the_weights(tiny_folder: Path, tmp_path: Path) -> None:
    r = recipe(tiny_folder, adapter=AdapterConfig(rank=2))
    objective = build(r)
    before = {k: v.clone() for k, v in objective.model.unet.state_dict().items()}
    train(objective, r.loop, tmp_path / "run", recipe=r)
    after = objective.model.unet.state_dict()
    assert all(torch.equal(after[k], before[k]) for k in before)
    lora = read_lora(tmp_path / "run" / "export" / "lora.safetensors", objective.model.system)
    assert len(lora.adapters) == len(objective.adapters or {})
    student = load(tmp_path / "run" / "export")  # which is a model as well
    assert student.system.defaults.steps == 4
    assert any(not torch.equal(v, before[k]) for k, v in student.unet.state_dict().items())
    again = build(replace(recipe(tiny_folder), teacher_lora=tmp_path / "run" / "export" / "lora.safetensors"))
    theirs = again.teacher.model.unet.state_dict()
    assert any(not torch.equal(theirs[k], before[k]) for k in before)  # the teacher has taken it in


def test_a_collapse_ends_the_run_at_the_last_sound_state(tiny_folder: Path, tmp_path: Path) -> None:
    """Bounds that nothing meets, after a state that counts as sound because it is too early to tell."""
    watch = WatchConfig(window=3, logit=1e-9)
    r = recipe(tiny_folder, watch=watch, loop=replace(LOOP, steps=8, save_every=1))
    with pytest.raises(
        InputError, match=r"step 4: the run has collapsed and stops, logits/.* the state of step 3 stands"
    ):
        train(build(r), r.loop, tmp_path / "run", recipe=r)
    found = Checkpoints(tmp_path / "run", print).newest()
    assert found is not None
    assert found[1]["step"] == 3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"times": (249, 499, 749)}, "the last of times is 749, expected is 999, where only noise is left"),
        ({"times": (499, 249, 999)}, r"times is \[499, 249, 999\], expected is rising timesteps"),
        ({"time_shares": (1.0,)}, "time_shares is"),
        ({"loop": replace(LOOP, batch_size=1)}, "loop.batch_size is 1, expected is at least 2"),
        ({"teacher": "picturebook"}, "has other embedders than"),
    ],
)
def test_what_cannot_be_distilled_is_refused(tiny_folder: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        AddObjective(recipe(tiny_folder, **changes))


def test_conditions_can_be_switched_off(tiny_folder: Path) -> None:
    for text, image, names in ((True, False, {"text"}), (False, True, {"image"}), (False, False, set())):
        objective = build(recipe(tiny_folder, discriminator=DiscriminatorConfig(text=text, image=image)))
        head: Any = objective.discriminator.heads[0]
        assert set(head.config.conditions) == names
    assert set(losses(objective)) == {"student", "discriminator"}
