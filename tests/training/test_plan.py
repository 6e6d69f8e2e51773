"""Plans against what networks really hold, keep and compute."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from contexts import context, first_places
from narrow import narrow
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from darkroom.data.source import PictureBookConfig
from darkroom.errors import InputError
from darkroom.models.unet import UNet
from darkroom.systems.empty import empty_modules
from darkroom.training.autoencoder import AutoencoderRecipe
from darkroom.training.config import LoopConfig
from darkroom.training.diffusion import DiffusionRecipe
from darkroom.training.distillation.add import AddObjective, AddRecipe
from darkroom.training.distillation.apt import AptObjective, AptRecipe
from darkroom.training.distillation.consistency import ConsistencyObjective, ConsistencyRecipe
from darkroom.training.distillation.discriminator import DiscriminatorConfig
from darkroom.training.distillation.dmd import DmdObjective, DmdRecipe
from darkroom.training.distillation.ladd import LaddObjective, LaddRecipe
from darkroom.training.distillation.progressive import ProgressiveObjective, ProgressiveRecipe
from darkroom.training.distillation.teacher import TeacherConfig
from darkroom.training.meta_passes import measured_activations
from darkroom.training.plan import Plan, plan_run, plan_text
from darkroom.types import Size

UNET = replace(narrow("sd-v1-5").unet, channel_mult=(1, 2), depth=(1, 0))
LOOP = LoopConfig(steps=100, batch_size=4, lr=1e-3, precision="fp32")
RECIPE = DiffusionRecipe(LOOP, PictureBookConfig(64, 10), "picturebook:fresh", latent_cache=Path("cache"))


def given(device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        torch.ones(2, UNET.in_channels, 16, 16, device=device),
        torch.ones(2, dtype=torch.long, device=device),
        torch.ones(2, 7, UNET.context_dim or 0, device=device),
    )


def test_what_is_measured_without_numbers_is_what_is_kept_with_them() -> None:
    """Bytes that autograd keeps of a real pass, and its work."""
    with empty_modules():
        shapes = UNet(UNET)
    found = measured_activations(shapes, lambda: shapes(*given("meta")), torch.float32)
    torch.manual_seed(0)
    unet = UNet(UNET)
    kept: dict[int, torch.Tensor] = {}
    own = {p.data_ptr() for p in unet.parameters()}

    def keep(t: torch.Tensor) -> torch.Tensor:
        if t.untyped_storage().data_ptr() not in own:
            kept[t.untyped_storage().data_ptr()] = t
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        unet(*given("cpu"))
    # The counter knows attention by its products only, whose backward pass has four where fused kernels have five.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        unet(*given("cpu")).sum().backward()
    real = sum(t.untyped_storage().nbytes() for t in kept.values())
    assert found.kept(checkpointing=False) == pytest.approx(real, rel=0.05)
    assert found.kept(checkpointing=True) < 0.7 * real
    assert found.flops == pytest.approx(counter.get_total_flops(), rel=0.05)
    assert 2.5 < found.flops / found.forward_flops < 3.5


def test_memory_and_work_of_a_recipe() -> None:
    one = plan_run(RECIPE, images_per_second=2.0)
    assert one.memory["gradients"] == 4 * one.trained
    assert one.memory["optimizer"] == 8 * one.trained
    assert (one.seconds_per_step, one.seconds) == (2.0, 200.0)
    assert (one.buckets, one.steps_per_epoch, one.filled) == ({Size(64, 64): 10}, 3, 2)
    sharded = replace(RECIPE, loop=replace(LOOP, data_parallel="fsdp", grad_accumulation=3))
    four = plan_run(sharded, devices=4, device_flops=1e9)
    assert four.memory["optimizer"] < 0.5 * one.memory["optimizer"]
    assert four.flops == pytest.approx(3 * one.flops, rel=0.01)
    assert four.seconds_per_step == pytest.approx(four.flops / 4e9)
    with pytest.raises(InputError, match=r"loop.batch_size is 4, expected is a multiple of 3, the devices"):
        plan_run(RECIPE, devices=3)


def test_a_first_stage_is_planned_too() -> None:
    plan = plan_run(AutoencoderRecipe(LOOP, PictureBookConfig(32, 10), kl_weight=1e-6))
    assert plan.parameters == plan.trained > 1e6
    assert plan.seconds is None


def test_the_plan_in_words() -> None:
    plan = Plan(
        parameters=2_000_000, trained=1_000_000, memory={"weights": 2.0**30, "gradients": 2.0**31}, flops=5e12,
        seconds_per_step=36.0, steps=100, step_size=8, buckets={Size(64, 96): 7}, unreadable={"x.png": "is empty"},
        steps_per_epoch=1, filled=1,
    )  # fmt: skip
    told = plan_text(plan, devices=4, memory=2.0**31, price=2.0)
    for line in ("3.00 GiB on each device", "DOES NOT FIT in 2.00 GiB", "left out: x.png: is empty", "1.00 h", "8.00"):
        assert line in told
    assert "64x96             7" in told or "96x64             7" in told


KINDS = {
    AddRecipe: AddObjective,
    AptRecipe: AptObjective,
    LaddRecipe: LaddObjective,
    DmdRecipe: DmdObjective,
    ConsistencyRecipe: ConsistencyObjective,
    ProgressiveRecipe: ProgressiveObjective,
}
MORE: dict[type, dict[str, Any]] = {  # the counter of operations bears no penalty of gradients
    AddRecipe: {"discriminator": DiscriminatorConfig(r1=0.0)},
    LaddRecipe: {"r1": 0.0},
    DmdRecipe: {"student_every": 1},
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_a_distillations_work_and_weights_are_those_of_its_step(kind: Any, tiny_folder: Path) -> None:
    more = MORE.get(kind, {})
    loop = replace(LOOP, batch_size=2)
    recipe = kind(loop, PictureBookConfig(32, 4), str(tiny_folder), teaching=TeacherConfig(guidance=(2.0, 2.0)), **more)
    planned = plan_run(recipe)
    torch.manual_seed(0)
    objective = KINDS[kind](recipe)
    learn = sum(p.numel() for group in objective.optimizers().values() for p in group)
    assert planned.trained == learn
    assert planned.memory["teacher"] == 4 * sum(p.numel() for p in objective.teacher.model.unet.parameters())
    student = sum(p.numel() for p in objective.trained["student"].parameters())
    assert planned.memory["running mean"] == 4 * student * (2 if kind is ConsistencyRecipe else 1)
    places = first_places(objective.reader, 2)
    batch = objective.batch(places)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        for loss in objective.losses(batch, context(places)):
            loss.value.backward()
    assert planned.flops == pytest.approx(counter.get_total_flops(), rel=0.1)
