import numpy as np
import pytest
import torch
from contexts import context, first_places

from darkroom.data.picturebook import render, sample_scene
from darkroom.data.source import PictureBookConfig
from darkroom.evaluation.judging import judge_accuracy, look
from darkroom.models.judge import STRIDE, Detection, JudgeOutput
from darkroom.pixels import to_tensor
from darkroom.training.config import LoopConfig
from darkroom.training.judge import JudgeObjective, JudgeRecipe, judge_loss, judge_targets


@pytest.fixture(scope="module")
def objective() -> JudgeObjective:
    torch.manual_seed(0)
    loop = LoopConfig(steps=1, batch_size=4, lr=0.1)
    return JudgeObjective(JudgeRecipe(loop, PictureBookConfig(64, 100), width=8))


def perfect(objective: JudgeObjective, scenes: list, size: int) -> JudgeOutput:
    """The output of a judge that knows the truth."""
    t = judge_targets(scenes, size, objective.slots)
    n, cells, colours = len(scenes), size // STRIDE, len(objective.judge.config.colours)
    kinds = torch.where(t.heat == 1.0, 9.0, -9.0)
    output = JudgeOutput(
        kinds,
        torch.zeros(n, 4, cells, cells),
        torch.full((n, colours, cells, cells), -9.0),
        torch.full((n, objective.slots, colours, cells, cells), -9.0),
        torch.zeros(n, cells, cells),
        {k: 9.0 * torch.nn.functional.one_hot(v, len(objective.judge.config.surroundings[k])).float()
         for k, v in t.surroundings.items()},
        torch.zeros(n, 4),
    )  # fmt: skip
    for row, (b, y, x) in enumerate(t.places.tolist()):
        output.boxes[b, :, y, x] = t.boxes[row]
        output.colours[b, t.colours[row], y, x] = 9.0
        output.facing[b, y, x] = 9.0 * (2 * t.facing[row] - 1)
        for slot, part in enumerate(t.parts[row].tolist()):
            output.parts[b, slot, max(part, 0), y, x] = 9.0
    return output


def test_what_a_perfect_judge_says_is_the_scene_and_costs_nothing(objective: JudgeObjective) -> None:
    size = 128
    scenes = [sample_scene(np.random.default_rng(i), things=2) for i in range(30)]
    output = perfect(objective, scenes, size)
    loss, terms = judge_loss(output, judge_targets(scenes, size, objective.slots))
    assert loss < 0.02, terms
    for scene, found, around in zip(scenes, objective.judge.detect(output), objective.judge.describe(output)):
        assert sorted((d.kind, d.colour) for d in found) == sorted((t.kind, t.colour) for t in scene.things)
        for d in found:
            t = min(scene.things, key=lambda t: abs(t.box.centre[1] * size - d.centre[1]) + 999 * (t.kind != d.kind))
            assert d.box == pytest.approx(
                [size * v for v in (t.box.top, t.box.left, t.box.bottom, t.box.right)], abs=0.01
            )
        assert around == {"sky": scene.sky, "ground": scene.ground, "background": scene.background}


def test_the_loss_grows_with_every_kind_of_error(objective: JudgeObjective) -> None:
    scenes = [sample_scene(np.random.default_rng(i), things=2) for i in range(8)]
    targets = judge_targets(scenes, 64, objective.slots)
    best = judge_loss(perfect(objective, scenes, 64), targets)[0]
    for name in ("kinds", "boxes", "colours"):
        wrong = perfect(objective, scenes, 64)
        getattr(wrong, name).copy_(getattr(wrong, name).roll(1, dims=1))
        assert judge_loss(wrong, targets)[0] > best + 0.05


def test_batches_repeat_and_gradients_reach_everything(objective: JudgeObjective) -> None:
    places = first_places(objective.reader, 4)
    (a, targets), (b, _) = objective.batch(places), objective.batch(places)
    assert torch.equal(a, b)
    for loss in objective.losses((a, targets), context(places)):
        loss.value.backward()
    assert all(p.grad is not None for p in objective.judge.parameters())


def test_an_untrained_judge_knows_nothing(objective: JudgeObjective) -> None:
    assert judge_accuracy(objective.judge.eval(), 10, 64).kinds < 0.2
    images = to_tensor(np.stack([render(sample_scene(np.random.default_rng(0)), 64, 64)]))
    (findings,) = look(objective.judge, images)
    assert findings.features.shape == (64,)
    assert all(isinstance(d, Detection) for d in findings.things)
