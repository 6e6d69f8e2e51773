"""APT, LADD, consistency, progressive and DMD2: what each compares, and that only its own networks learn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from contexts import context, first_places
from torch import Tensor

from darkroom.data.source import PictureBookConfig
from darkroom.errors import InputError
from darkroom.training.adapters import AdapterConfig
from darkroom.training.config import LoopConfig
from darkroom.training.distillation.apt import AptObjective, AptRecipe
from darkroom.training.distillation.consistency import ConsistencyObjective, ConsistencyRecipe, boundary
from darkroom.training.distillation.dmd import DmdObjective, DmdRecipe
from darkroom.training.distillation.ladd import LaddObjective, LaddRecipe
from darkroom.training.distillation.progressive import ProgressiveObjective, ProgressiveRecipe
from darkroom.training.distillation.student import DistillationRecipe, Student
from darkroom.training.distillation.teacher import TeacherConfig, Told
from darkroom.training.loop import train
from darkroom.training.recipe import RECIPE_KINDS, recipe_class
from darkroom.training.validation import ValidationConfig, validate
from darkroom.training.world import World

LOOP = LoopConfig(steps=2, batch_size=4, lr=1e-4, precision="fp32", log_every=1, ema_decay=0.5)
METHODS: dict[str, tuple[type[DistillationRecipe], type[Student], dict[str, Any], set[str]]] = {
    "apt": (AptRecipe, AptObjective, {"teaching": TeacherConfig(guidance=(3.0, 3.0))}, {"student", "discriminator"}),
    "ladd": (LaddRecipe, LaddObjective, {"distillation_weight": 1.0}, {"student", "discriminator"}),
    "consistency": (ConsistencyRecipe, ConsistencyObjective, {"teaching": TeacherConfig(guidance=(3.0, 9.0))},
                    {"student"}),
    "progressive": (ProgressiveRecipe, ProgressiveObjective, {"teaching": TeacherConfig(guidance=(3.0, 3.0))},
                    {"student"}),
    "dmd2": (DmdRecipe, DmdObjective, {"inputs": "simulated", "student_every": 2}, {"student", "fake_score"}),
}  # fmt: skip


def objective(name: str, model: Path, **changes: Any) -> Student:
    torch.manual_seed(0)
    recipe_kind, objective_kind, own, _ = METHODS[name]
    r = recipe_kind(loop=LOOP, data=PictureBookConfig(32, 12), model=str(model), **{**own, **changes})
    found = objective_kind(r)
    found.frozen.eval().requires_grad_(False)
    return found


@pytest.mark.parametrize("name", METHODS)
def test_only_its_own_networks_learn(name: str, tiny_folder: Path) -> None:
    o: Any = objective(name, tiny_folder)
    places = first_places(o.reader, 4)
    names = set()
    for loss in o.losses(o.batch(places), context(places)):
        loss.value.backward()
        names.add(loss.optimizer)
    assert names == METHODS[name][3] == set(o.optimizers())
    for optimizer, parameters in o.optimizers().items():
        assert sum(float(p.grad.abs().sum()) for p in parameters if p.grad is not None) > 0, optimizer
    assert all(p.grad is None for network in o.frozen.values() for p in network.parameters())
    assert recipe_class(name) is METHODS[name][0]
    assert RECIPE_KINDS[name]


def test_validation_is_the_distance_to_the_teacher(tiny_folder: Path) -> None:
    """On pictures that are held out; the same at each call, and larger for a student that was damaged."""
    o: Any = objective("consistency", tiny_folder, validation=ValidationConfig(share=0.5, count=4))
    apart = {place.index for batch in o.validation.batches for place in batch}
    assert len(apart) == 4
    assert not apart & set(o.reader.among)
    o.trained.eval()
    first, again = validate(o.validation, World()), validate(o.validation, World())
    assert first == again
    assert first.keys() == {"validation/loss"}
    with torch.no_grad():
        for p in o.model.unet.parameters():
            p.mul_(0.5)
    assert validate(o.validation, World())["validation/loss"] > 1.1 * first["validation/loss"]


def test_the_student_of_dmd_waits_for_its_turn(tiny_folder: Path, tmp_path: Path) -> None:
    o: Any = objective("dmd2", tiny_folder)
    train(o, LOOP, tmp_path, recipe=o.recipe)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert ["loss/student" in line for line in lines] == [True, False]
    assert all("loss/fake_score" in line for line in lines)


def test_distribution_matching_is_still_where_both_scores_agree(tiny_folder: Path) -> None:
    """The fake score begins as the teacher: nothing tells the student's pictures from the teacher's."""
    o: Any = objective("dmd2", tiny_folder)
    places = first_places(o.reader, 4)
    batch = o.batch(places)
    play = o.play(batch, context(places))
    z = play.z.detach().requires_grad_(True)
    o._matching(z, o.told(batch, play.conditioning), context(places).draws).backward()
    assert float(z.grad.abs().max()) < 1e-6


def test_estimates_are_bound_to_the_picture_at_time_0() -> None:
    c_skip, c_out = boundary(torch.tensor([0, 1, 999]), torch.zeros(1))
    assert (float(c_skip[0]), float(c_out[0])) == (1.0, 0.0)
    assert float(c_skip[1]) < 0.003
    assert float(c_out[2]) > 0.9999


def test_one_step_of_the_progressive_student_ends_where_two_of_the_teacher_do(tiny_folder: Path) -> None:
    o: Any = objective("progressive", tiny_folder, teaching=TeacherConfig())
    t = torch.tensor([999, 499, 249])
    places = first_places(o.reader, 4)[:3]
    batch = o.batch(places)
    told: Told = o.told(batch, o.rows.conditioning(batch, context(places), drop=False))
    sigmas = o.teacher.process.sigmas
    assert o.model.system.defaults.sampler == "DDIM"  # whose step this is

    def sigma(times: Tensor) -> Tensor:
        return torch.where(times < 0, 0.0, sigmas[times.clamp(min=0)]).view(-1, 1, 1, 1).float()

    x = sigma(t) * torch.randn(3, 8, 4, 4)
    end, middle = torch.tensor([749, 249, -1]), torch.tensor([874, 374, 124])
    target = o.target(x, t, told)
    ours = target + sigma(end) / sigma(t) * (x - target)
    first = o.teacher.estimate(x, t, told.conditioning)
    halfway = first + sigma(middle) / sigma(t) * (x - first)
    second = o.teacher.estimate(halfway, middle, told.conditioning)
    theirs = second + sigma(end) / sigma(middle) * (halfway - second)
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_latents_that_the_teacher_sees_alike_are_told_apart_by_nothing(tiny_folder: Path) -> None:
    """LADD's heads have one logit a place of each attention block, in float32."""
    o: Any = objective("ladd", tiny_folder)
    places = first_places(o.reader, 4)
    batch = o.batch(places)
    conditioning = o.rows.conditioning(batch, context(places), drop=False)
    t = torch.tensor([100, 400, 700, 999])
    one, other = (o.seen(torch.ones(4, 8, 4, 4), t, conditioning, context(places).draws) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, other))
    assert len(one) == len(o.blocks) == len(o.discriminator.heads)


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("progressive", {"teaching": TeacherConfig(guidance=(1.0, 3.0))}, "teaching.guidance is"),
        ("consistency", {"inputs": "simulated"}, 'inputs is simulated, expected is "noised"'),
        ("ladd", {"loop": replace(LOOP, batch_size=1)}, "at least 2"),
        ("dmd2", {"lowest_share": 0.99}, "two rising shares"),
    ],
)
def test_settings_that_a_method_lacks_are_refused(
    name: str, changes: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"loop": LOOP, "data": PictureBookConfig(32, 12), "model": "x"}
    with pytest.raises(InputError, match=sentence):
        METHODS[name][0](**{**settings, **changes})


@pytest.mark.parametrize("adapter", [None, AdapterConfig(rank=2)], ids=["whole", "lora"])
def test_the_target_of_consistency_is_the_running_mean(adapter: AdapterConfig | None, tiny_folder: Path) -> None:
    """It begins as the student, changes once a step, and keeps nothing that does not learn a second time."""
    o: Any = objective("consistency", tiny_folder, target_decay=0.75, adapter=adapter)
    ours, means = list(o.trained["student"].parameters()), list(o.trained["target"].parameters())
    places = first_places(o.reader, 4)
    batch = o.batch(places)
    begun = [p.detach().clone() for p in ours]
    first = next(iter(o.losses(batch, context(places)))).value.item()
    assert all(torch.equal(m, p) for m, p in zip(means, begun))
    with torch.no_grad():
        for p in ours:
            p.add_(1.0)
    for _ in range(2):  # pieces of one step
        list(o.losses(batch, context(places, 1)))
    for m, p in zip(means, begun):
        torch.testing.assert_close(m, p + 0.25)
    assert not any(m.requires_grad for m in means)
    assert not set(means) & {p for ps in o.optimizers().values() for p in ps}
    shared = set(o.target.unet.parameters()) & set(o.model.unet.parameters())
    assert len(shared) == (0 if adapter is None else len(list(o.model.unet.parameters())))
    plain: Any = objective("consistency", tiny_folder, target_decay=0.0, adapter=adapter)
    assert plain.target is plain.model
    assert next(iter(plain.losses(batch, context(places)))).value.item() == pytest.approx(first)
