"""Adversarial post-training: what the critic compares, what guidance adds, and whose turn it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from contexts import context, first_places

from darkroom.checkpoints.load import load_checkpoint
from darkroom.conditioning.conditioning import Conditioning
from darkroom.data.source import PictureBookConfig
from darkroom.diffusion.draws import RowDraws
from darkroom.errors import InputError
from darkroom.models.latent_critic import LatentCritic
from darkroom.training.adapters import AdapterConfig
from darkroom.training.config import LoopConfig
from darkroom.training.distillation.apt import AptObjective, AptRecipe
from darkroom.training.distillation.teacher import TeacherConfig
from darkroom.training.loop import train

LOOP = LoopConfig(steps=2, batch_size=4, lr=1e-4, precision="fp32")
GUIDED = TeacherConfig(guidance=(3.0, 3.0))


def objective(model: Path, **changes: Any) -> AptObjective:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"loop": LOOP, "data": PictureBookConfig(32, 12), "teaching": GUIDED, **changes}
    found = AptObjective(AptRecipe(model=str(model), **settings))
    found.frozen.eval().requires_grad_(False)
    return found


def batch_of(o: AptObjective) -> tuple[Any, Any]:
    places = first_places(o.reader, 4)
    return o.batch(places), context(places)


def rows(conditioning: Conditioning, *numbers: int) -> Conditioning:
    return conditioning[list(numbers)]


def test_the_critic_begins_as_the_way_down_of_the_teacher(tiny_folder: Path) -> None:
    o = objective(tiny_folder)
    unet: Any = o.teacher.model.unet
    batch, at = batch_of(o)
    told = o.told(batch, o.rows.conditioning(batch, at, drop=False)).conditioning
    x, t = torch.randn(4, 8, 4, 4), torch.tensor([0.0, 300.0, 600.0, 999.0])
    assert isinstance(o.critic, LatentCritic)
    with torch.no_grad():
        ours, theirs = (
            n.middle(n.encode(n.conv_in(x), e := n.embed(t, told.vector), told.tokens)[-1], e, told.tokens)
            for n in (o.critic, unet)
        )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)  # memory is laid out otherwise
    assert all(p.requires_grad for p in o.critic.parameters())
    assert not set(o.critic.parameters()) & set(unet.parameters())


def test_the_critic_learns_alone_at_first(tiny_folder: Path) -> None:
    o = objective(tiny_folder, critic_first=1)
    batch, at = batch_of(o)
    assert [loss.optimizer for loss in o.losses(batch, at)] == ["discriminator"]
    assert [loss.optimizer for loss in o.losses(batch, replace(at, step=1))] == ["student", "discriminator"]


def test_of_guidance_only_what_it_adds_moves_the_student(tiny_folder: Path) -> None:
    """The gradient is the difference that guidance makes, over the prompt's distance: zero where nothing is guided."""
    o = objective(tiny_folder)
    batch, at = batch_of(o)
    play = o.play(batch, at)
    told = o.told(batch, play.conditioning)
    z = play.z.detach().requires_grad_(True)
    o._guided(z, told, RowDraws([1, 2, 3, 4])).backward()
    draws = RowDraws([1, 2, 3, 4])
    t = (draws.uniform() * 1000).long()
    x = z.detach() + o.teacher.sigma(t, z) * draws.normal(*z.shape[1:])
    prompted = o.teacher.estimate(x, t, told.conditioning)
    assert told.null is not None
    null = o.teacher.estimate(x, t, told.null)
    size = (z.detach() - prompted).abs().mean(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(z.grad, -2 * (prompted - null) / size / z.numel(), rtol=1e-3, atol=1e-9)
    assert float(z.grad.abs().max()) > 1e-9
    unguided = objective(tiny_folder, teaching=replace(GUIDED, guided_from=999, guided_to=999))
    z = play.z.detach().requires_grad_(True)
    unguided._guided(z, told, RowDraws([1, 2, 3, 4])).backward()
    assert float(z.grad.abs().max()) == 0.0


def test_another_rows_prompt_is_false_and_the_same_prompt_is_not(tiny_folder: Path) -> None:
    o = objective(tiny_folder)
    batch, at = batch_of(o)
    play = o.play(batch, at)
    told, z = play.conditioning, play.z.detach()
    one = o._criticized(play.z0, z, rows(told, 0, 0, 0, 0), RowDraws([1, 2, 3, 4])).log
    assert float(one["logits/mismatched"]) == pytest.approx(float(one["logits/real"]), abs=1e-6)
    several = o._criticized(play.z0, z, told, RowDraws([1, 2, 3, 4])).log
    assert float(several["logits/mismatched"]) != pytest.approx(float(several["logits/real"]), abs=1e-6)
    without = objective(tiny_folder, mismatched=0.0)
    assert "logits/mismatched" not in without._criticized(play.z0, z, told, RowDraws([1, 2, 3, 4])).log


def test_the_critic_comes_to_tell_true_latents_from_false_ones(tiny_folder: Path) -> None:
    o = objective(tiny_folder, guidance_weight=0.0, mismatched=0.0)
    batch, at = batch_of(o)
    play = o.play(batch, at)
    z0, z, told = play.z0, play.z.detach(), play.conditioning
    optimizer = torch.optim.AdamW(o.critic.parameters(), 1e-3)
    gaps = []
    for step in range(12):
        loss = o._criticized(z0, z, told, RowDraws([step * 4 + i for i in range(4)]))
        optimizer.zero_grad()
        loss.value.backward()
        optimizer.step()
        gaps.append(float(loss.log["logits/real"]) - float(loss.log["logits/fake"]))
    assert abs(gaps[0]) < 0.3
    assert min(gaps[-3:]) > 0.5


@pytest.mark.parametrize("adapter", [None, AdapterConfig(rank=2)], ids=["whole", "lora"])
def test_a_run_goes_on_with_the_critic_of_another(
    adapter: AdapterConfig | None, tiny_folder: Path, tmp_path: Path
) -> None:
    o = objective(tiny_folder, adapter=adapter)
    train(o, LOOP, tmp_path, recipe=o.recipe)
    export = tmp_path / "export"
    learned = {k: t.bfloat16().float() for k, t in o.critic.state_dict().items()}
    begun = objective(tiny_folder).critic.state_dict()
    assert any(not torch.equal(t, begun[k]) for k, t in learned.items())
    for given in (export, export / "critic.safetensors"):
        again = objective(tiny_folder, critic=given).critic.state_dict()
        assert all(torch.equal(again[k], t) for k, t in learned.items())
    assert load_checkpoint(export, torch.float32).model.system.defaults.steps == 4
    with pytest.raises(InputError, match="nowhere"):
        objective(tiny_folder, critic=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"teaching": TeacherConfig()},
            "teaching.guidance is .* above 1, or guidance_weight = 0",
        ),
        ({"teaching": TeacherConfig(guidance=(2.0, 3.0))}, "one scale twice"),
        ({"teaching": replace(GUIDED, steps=2)}, "guidance alone"),
        ({"mismatched": -1.0}, "mismatched is -1.0"),
        ({"r1_noise": 0.0}, "r1_noise is 0.0, expected is a number above 0"),
        ({"loop": replace(LOOP, batch_size=1)}, "at least 2"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes: dict[str, Any], sentence: str) -> None:
    settings: dict[str, Any] = {"loop": LOOP, "data": PictureBookConfig(32, 12), "model": "x", "teaching": GUIDED}
    with pytest.raises(InputError, match=sentence):
        AptRecipe(**{**settings, **changes})
