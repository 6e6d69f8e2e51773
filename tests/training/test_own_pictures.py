"""Training on a folder of pictures that nobody here drew: the whole model, and a LoRA."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from darkroom.checkpoints.lora import read_lora
from darkroom.checkpoints.native import load_system, save_system
from darkroom.data.buckets import BucketConfig
from darkroom.data.folder import FolderConfig
from darkroom.diffusion.objective import DiffusionLossConfig
from darkroom.errors import InputError
from darkroom.evaluation.while_training import SampleMeasure
from darkroom.systems.build import LatentDiffusion, build
from darkroom.training.adapters import AdapterConfig
from darkroom.training.config import LoopConfig
from darkroom.training.diffusion import DiffusionObjective, DiffusionRecipe
from darkroom.training.log_variance import LogVariance
from darkroom.training.loop import train
from darkroom.training.prior import PriorConfig
from darkroom.training.rebuild import export_length
from darkroom.training.sample_metrics import MetricsConfig
from darkroom.training.validation import ValidationConfig

LOOP = LoopConfig(steps=6, batch_size=2, lr=1e-2, precision="fp32", log_every=1, ema_decay=0.5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five wide and two tall pictures; one of the wide ones ends in its middle."""
    rng = np.random.default_rng(0)
    path = tmp_path / "pictures"
    path.mkdir()
    for i in range(7):
        sides = (40, 80) if i < 5 else (80, 40)
        Image.fromarray(rng.integers(0, 255, (*sides, 3)).astype(np.uint8)).save(path / f"{i}.png")
        (path / f"{i}.txt").write_text(f"a red house, number {i}")
    whole = (path / "3.png").read_bytes()
    (path / "3.png").write_bytes(whole[: len(whole) // 2])
    return path


def recipe(folder: Path, model: Path, **changes: Any) -> DiffusionRecipe:
    buckets = BucketConfig(32, "aspect", step=16, shortest=16, longest=64, flip=True)
    plain = DiffusionRecipe(
        loop=LOOP, data=FolderConfig(folder), model=str(model), buckets=buckets, latent_cache=folder.parent / "cache"
    )
    return replace(plain, **changes)


def run(r: DiffusionRecipe, folder: Path) -> DiffusionObjective:
    torch.manual_seed(0)
    objective = DiffusionObjective(r)
    train(objective, r.loop, folder, recipe=r)
    return objective


def ledger(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "ledger.jsonl").open()]


@pytest.mark.parametrize("cached", [True, False])
def test_a_folder_is_trained_on_and_accounted_for(
    cached: bool, folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    before = {p: p.read_bytes() for p in folder.iterdir()}
    r = recipe(folder, tiny_folder, **({} if cached else {"latent_cache": None}))
    run(r, tmp_path / "run")
    assert {p: p.read_bytes() for p in folder.iterdir()} == before
    lines = ledger(tmp_path / "run")
    samples = [line for line in lines if "number" in line]
    assert [line["number"] for line in samples] == list(range(12))
    assert {line["name"] for line in samples if line["epoch"] == 0} == {f"{i}.png" for i in (0, 1, 2, 4, 5, 6)}
    assert {line["size"] for line in samples} == {"48x16", "16x48"}
    assert {line["flipped"] for line in samples} == {True, False}
    stands_in = [line for line in samples if "instead_of" in line]
    assert stands_in
    assert all(line["instead_of"].startswith("3.png: ") for line in stands_in)
    (summary,) = (line["summary"] for line in lines if "summary" in line)
    assert summary.startswith("epoch 0: 6 of 7 used, 2 places filled by samples used before, 1 could not be read")
    exported = load_system(tmp_path / "run" / "export")
    assert not torch.equal(exported.unet.conv_in.weight, load_system(tiny_folder).unet.conv_in.weight)


def test_a_broken_run_keeps_one_ledger(folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    r = recipe(folder, tiny_folder)
    run(r, tmp_path / "unbroken")
    torch.manual_seed(0)
    train(DiffusionObjective(r), r.loop, tmp_path / "broken", recipe=r, minutes=0.0)
    run(r, tmp_path / "broken")
    assert ledger(tmp_path / "broken") == ledger(tmp_path / "unbroken")
    ours, theirs = (load_system(tmp_path / name / "export").state_dict() for name in ("broken", "unbroken"))
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)


def test_held_out_pictures_are_measured_and_never_trained_on(folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    r = recipe(folder, tiny_folder, validation=ValidationConfig(share=0.3, every=3, count=5))
    run(r, tmp_path / "run")
    validation = run(replace(r, loop=replace(LOOP, lr=1e-9)), tmp_path / "still").validation
    assert validation is not None
    apart = {f"{place.index}.png" for batch in validation.batches for place in batch}
    assert len(apart) == 2
    trained_on = {line["name"] for line in ledger(tmp_path / "run") if "number" in line}
    assert trained_on == {f"{i}.png" for i in (0, 1, 2, 4, 5, 6)} - apart
    assert load_system(tmp_path / "run" / "best").unet.conv_in.weight.isfinite().all()

    def losses(name: str) -> list[dict[str, float]]:
        found = [json.loads(line) for line in (tmp_path / name / "log.jsonl").open()]
        return [{k: v for k, v in line.items() if k[:11] == "validation/"} for line in found if "lr" not in line]

    assert len(losses("run")) == 2
    assert {name[15:20] for name in losses("run")[0]} == {"", " at t"}
    first, second = losses("still")  # the same weights: the same numbers
    assert first == second
    assert losses("run")[1] != first


def test_weights_of_another_length_are_exported_after_the_run(folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    loop = replace(LOOP, ema_lengths=(0.05, 0.2), snapshot_every=2)
    r = recipe(folder, tiny_folder, loop=loop, latent_cache=None)
    objective = DiffusionObjective(r)
    train(objective, loop, tmp_path / "run", recipe=r)
    assert export_length(tmp_path / "run", 0.2, tmp_path / "long").step == 6
    mean = load_system(tmp_path / "long").unet.conv_in.weight
    state = torch.load(tmp_path / "run" / "checkpoints" / "00000006" / "state.pt", weights_only=True)
    tracked = state["by_length"]["0.2"]["means"]["unet.conv_in.weight"]
    assert torch.allclose(mean.float(), tracked, atol=4e-3 * float(tracked.abs().max()))  # as bf16 keeps them
    assert not torch.allclose(mean.float(), state["ema"]["means"]["unet.conv_in.weight"], atol=1e-4)
    with pytest.raises(InputError, match="pictures holds no run of a recipe"):
        export_length(folder, 0.1, tmp_path / "other")


def test_validation_may_have_data_of_its_own(folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    apart = ValidationConfig(data=FolderConfig(folder), every=6, count=4)
    objective = DiffusionObjective(recipe(folder, tiny_folder, validation=apart))
    assert objective.validation is not None
    for batch in objective.validation.batches:
        assert len({place.size for place in batch}) == 1
    assert sum(map(len, objective.validation.batches)) == 4
    assert objective.reader.among == range(7)
    with pytest.raises(InputError, match="validation needs share or data, one of the two"):
        ValidationConfig()
    with pytest.raises(InputError, match=r"validation.share is 0.99, which leaves none of 7 pictures to train on"):
        DiffusionObjective(recipe(folder, tiny_folder, validation=ValidationConfig(share=0.99)))


def test_pictures_are_drawn_and_measured_at_intervals(folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    """Through the network that ships; the same weights give the same numbers."""
    loop = replace(LOOP, steps=4, lr=1e-9)
    metrics = MetricsConfig(("judge",), every=2, count=3)
    r = recipe(folder, tiny_folder, loop=loop, metrics=metrics, samples={"steps": 1})
    (folder / "3.png").unlink()  # the one that is damaged
    torch.manual_seed(0)
    objective = DiffusionObjective(r)
    assert objective.metrics is not None
    drawn = objective.metrics.drawn()
    assert drawn.pictures.shape == drawn.truth.shape == (3, 16, 48, 3)
    assert [caption[-1] for caption in drawn.captions] == ["0", "2", "4"]
    assert np.abs(drawn.truth.astype(int) - drawn.pictures).mean() > 1
    with pytest.raises(InputError, match=r"metrics is given, expected is nothing where train\(\) gets no measure"):
        train(objective, loop, tmp_path / "run", recipe=r)
    train(objective, loop, tmp_path / "run", recipe=r, measure=SampleMeasure(metrics.networks))
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").open()]
    found = {line["step"]: line["metrics/frechet judge"] for line in lines if "metrics/frechet judge" in line}
    assert list(found) == [2, 4]
    assert found[2] == pytest.approx(found[4], rel=1e-3)
    assert found[2] > 0


@pytest.mark.parametrize("kind", ["lora", "dora", "loha", "lokr"])
def test_a_lora_learns_and_is_read_back(kind: Any, folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    r = recipe(folder, tiny_folder, adapter=AdapterConfig(4, alpha=2.0, kind=kind))
    objective = run(r, tmp_path / "run")
    base = load_system(tiny_folder).state_dict()
    assert all(torch.equal(t, base[k]) for k, t in objective.model.state_dict().items())
    state = torch.load(next((tmp_path / "run" / "checkpoints").iterdir()) / "state.pt", weights_only=True)
    assert all(key.startswith("adapters.") for key in state["networks"])
    path = tmp_path / "run" / "export" / "lora.safetensors"
    found = read_lora(path, objective.model.system, torch.float32).unet
    assert objective.adapters is not None
    assert found.keys() == objective.adapters.keys()
    learned = 0.0
    for name, adapter in found.items():
        weight: Any = objective.model.get_submodule(name).weight
        assert adapter.scale == objective.adapters[name].scale
        learned += float(adapter.difference(weight).detach().abs().sum())
    assert learned > 0
    again = AdapterConfig(4, alpha=2.0, kind=kind, initial=path)
    onwards = DiffusionObjective(replace(r, adapter=again)).adapters
    assert onwards is not None
    for name, adapter in found.items():
        assert all(
            torch.equal(t, onwards[name].get_parameter(key).flatten(0).view_as(t))
            for key, t in adapter.state_dict().items()
        )
        assert all(p.requires_grad for p in onwards[name].parameters())
    if kind == "lora":
        wider = DiffusionObjective(replace(r, adapter=replace(again, rank=6, alpha=3.0))).adapters
        assert wider is not None
        for name, adapter in found.items():
            weight = objective.model.get_submodule(name).weight
            theirs: Any = wider[name]
            assert len(theirs.down) == min(6, *weight.flatten(1).shape)
            assert torch.equal(theirs.down[: len(adapter.get_parameter("down"))], adapter.get_parameter("down"))
            torch.testing.assert_close(theirs.difference(weight), adapter.difference(weight))
    for wrong, told in (
        (replace(again, alpha=4.0), "alpha / rank = 1"),
        (replace(again, rank=2), "by this recipe"),
        (replace(again, layers="all"), "lacks"),
    ):
        with pytest.raises(InputError, match=told):
            DiffusionObjective(replace(r, adapter=wrong))


def test_pictures_of_the_class_are_drawn_once_and_trained_on(folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    prior = PriorConfig("a house", count=3, weight=0.5, folder=tmp_path / "class_pictures")
    r = recipe(folder, tiny_folder, prior=prior, latent_cache=None, loop=replace(LOOP, steps=8))
    r = replace(r, loss=DiffusionLossConfig(learned_variance=True))
    objective = run(r, tmp_path / "run")
    assert objective.log_variance is not None
    assert bool((objective.log_variance.out.bias != 0).all())
    drawn = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "class_pictures").iterdir()}
    assert sorted(drawn) == ["00000.png", "00001.png", "00002.png"]
    lines = [line for line in ledger(tmp_path / "run") if "number" in line]
    of_class = [line for line in lines if line["name"].removeprefix("class_pictures/") in drawn]
    assert of_class
    assert {line["caption"] for line in of_class} == {"a house"}
    (tmp_path / "class_pictures" / "00001.png").unlink()
    DiffusionObjective(r)
    again = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "class_pictures").iterdir()}
    assert again.keys() == drawn.keys()
    assert again["00000.png"] == drawn["00000.png"]  # only what is missing is drawn


def test_a_learned_variance_is_least_where_it_is_the_loss() -> None:
    variance, t, loss = LogVariance(), torch.tensor([10, 900]), torch.tensor([0.5, 2.0])
    assert torch.equal(variance(loss, t), loss)  # at first nothing changes
    for _ in range(300):
        (gradient, bias) = torch.autograd.grad(variance(loss, t).sum(), list(variance.parameters()))
        with torch.no_grad():
            variance.out.weight -= 0.02 * gradient
            variance.out.bias -= 0.02 * bias
    assert torch.allclose(variance(loss, t), 1 + loss.log(), atol=1e-3)


def test_plain_training_of_a_turbo_is_warned_of(
    folder: Path, tiny_model: LatentDiffusion, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system = replace(tiny_model.system, defaults=replace(tiny_model.system.defaults, steps=4))
    turbo = build(system)
    turbo.load_state_dict(tiny_model.state_dict())
    save_system(turbo, tmp_path / "turbo", {})
    DiffusionObjective(recipe(folder, tmp_path / "turbo", latent_cache=None))
    assert "tiny draws in 4 steps, which plain training undoes" in capsys.readouterr().err


def test_what_a_model_reads_must_be_there(folder: Path, tiny_folder: Path) -> None:
    with pytest.raises(InputError, match=r"buckets is missing: pictures of any size need \[buckets\]"):
        recipe(folder, tiny_folder, buckets=None)
    with pytest.raises(InputError, match=r"buckets.crop is random, expected is \"center\" beside latent_cache"):
        recipe(folder, tiny_folder, buckets=BucketConfig(32, step=16, crop="random"))
    with pytest.raises(InputError, match=r"buckets.step is 8, expected is a multiple of 16"):
        DiffusionObjective(recipe(folder, tiny_folder, buckets=BucketConfig(32, step=8)))
