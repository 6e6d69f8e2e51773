"""Validation: what is held out, that it is measured the same each time, and what is kept as the best."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from darkroom.checkpoints.native import load_system
from darkroom.data.source import PictureBook, PictureBookConfig
from darkroom.errors import InputError
from darkroom.systems.system import SYSTEMS, System
from darkroom.training.config import LoopConfig
from darkroom.training.diffusion import DiffusionObjective, DiffusionRecipe
from darkroom.training.loop import row_draws, train
from darkroom.training.validation import Best, ValidationConfig, held_out, measure

LOOP = LoopConfig(steps=4, batch_size=4, lr=1e-3, precision="fp32", log_every=1, save_every=2, ema_decay=0.5)


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch, tiny_system: System) -> DiffusionRecipe:
    monkeypatch.setitem(SYSTEMS._entries, "picturebook", tiny_system)
    held = ValidationConfig(every=2, count=6, share=0.3)
    return DiffusionRecipe(LOOP, PictureBookConfig(32, 24), "picturebook:fresh", validation=held)


def fresh(recipe: DiffusionRecipe) -> DiffusionObjective:
    torch.manual_seed(0)
    return DiffusionObjective(recipe)


def logged(folder: Path) -> list[dict[str, float]]:
    return [line for text in (folder / "log.jsonl").open() if "validation/loss/diffusion" in (line := json.loads(text))]


def test_content_decides_what_is_held_out() -> None:
    data = PictureBook(PictureBookConfig(32, 200))
    chosen = [i for i in range(200) if held_out(data, 0.2)(i)]
    assert 20 < len(chosen) < 60
    assert {i for i in range(200) if held_out(data, 0.1)(i)} < set(chosen)
    with pytest.raises(InputError, match=r"validation.share is 0.001, which holds 0 of 20 pictures, expected is a"):
        held_out(PictureBook(PictureBookConfig(32, 20)), 0.001)


def test_what_is_measured_on_is_never_learned_from(recipe: DiffusionRecipe) -> None:
    objective = DiffusionObjective(recipe)
    own = {int(i) for members in objective.reader.buckets.values() for i in members}
    other = {int(i) for members in objective.validation_reader.buckets.values() for i in members}
    assert own | other == set(range(24))
    assert not own & other
    assert objective.reader.left_out == len(other)
    assert objective.reader.count == len(own)


def test_a_measurement_repeats_itself_and_sees_only_the_first_samples(recipe: DiffusionRecipe) -> None:
    objective = DiffusionObjective(recipe)
    objective.trained.eval()
    seen: list[int] = []

    def draws(places: list[int]) -> object:
        seen.extend(places)
        return row_draws(places, LOOP, 0)

    first = measure(objective, 0, draws, 4)
    assert seen == list(range(6))
    assert first == measure(objective, 100, draws, 4)
    by_two = measure(objective, 0, draws, 2)
    assert by_two["validation/loss/diffusion"] == pytest.approx(first["validation/loss/diffusion"], rel=1e-5)
    assert any(name.startswith("validation/loss at t") for name in first)


def test_a_run_measures_keeps_the_best_and_goes_on_alike(recipe: DiffusionRecipe, tmp_path: Path) -> None:
    train(fresh(recipe), LOOP, tmp_path / "unbroken", recipe=recipe)
    assert [line["step"] for line in logged(tmp_path / "unbroken")] == [2, 4]
    losses = {line["step"]: line["validation/loss/diffusion"] for line in logged(tmp_path / "unbroken")}
    best = json.loads((tmp_path / "unbroken" / "best" / "validation.json").read_text())
    assert best["step"] == min(losses, key=lambda step: losses[step])
    assert best["loss"] == pytest.approx(min(losses.values()), rel=1e-4)
    assert load_system(tmp_path / "unbroken" / "best").unet is not None
    train(fresh(recipe), LOOP, tmp_path / "broken", recipe=recipe, minutes=0.0)  # a single step
    train(fresh(recipe), LOOP, tmp_path / "broken", recipe=recipe)
    assert [(line["step"], line["validation/loss/diffusion"]) for line in logged(tmp_path / "broken")] == list(
        losses.items()
    )


def test_other_pictures_to_measure_on(recipe: DiffusionRecipe) -> None:
    other = ValidationConfig(count=4, data=PictureBookConfig(32, 8, seed=5))
    objective = DiffusionObjective(replace(recipe, validation=other))
    assert objective.reader.left_out == 0
    assert len(objective.validation_reader.dataset) == 8


def test_only_what_is_better_is_kept(tmp_path: Path) -> None:
    best, exported = Best(tmp_path), []

    def export(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        exported.append(folder)

    offers = [(1, 0.5), (2, 0.7), (3, 0.4), (4, float("nan"))]
    assert [best.offer(s, {"validation/loss/net": v}, export) for s, v in offers] == [True, False, True, False]
    assert best.loss() == 0.4
    assert len(exported) == 2
    (tmp_path / "best" / "validation.json").write_text("[]")
    assert Best(tmp_path).loss() == float("inf")


def test_impossible_settings_are_named() -> None:
    with pytest.raises(InputError, match=r"validation.share is 1.0, expected is a number above 0 and below 1"):
        ValidationConfig(share=1.0)
