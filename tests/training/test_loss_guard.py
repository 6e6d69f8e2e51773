"""When a loss counts as exploded."""

from __future__ import annotations

import json

from darkroom.training.loss_guard import WINDOW, LossGuard


def first_trouble(losses: list[float], guard: LossGuard | None = None) -> int | None:
    guard = guard or LossGuard()
    return next((i for i, v in enumerate(losses) if guard.trouble({"loss/diffusion": v, "gradient": 9e9})), None)


def test_a_loss_far_above_its_beginning_is_told() -> None:
    guard = LossGuard()
    assert first_trouble([0.2] * 50 + [9.0] * 3, guard) == 51  # 0.2 · 18/20 + 9 · 2/20 passes 5 · 0.2
    told = guard.trouble({"loss/diffusion": 9.0})
    assert told == "loss/diffusion is 1.52 over the last 20 steps, it began at 0.2"


def test_a_hard_start_and_single_hard_steps_are_sound() -> None:
    assert first_trouble([9.0] * 5 + [0.1] * 100 + [4.0] + [0.1] * 100) is None
    assert first_trouble([0.1] * 40 + [5.0] + [0.1] * 40) is None


def test_a_loss_that_began_below_zero_is_not_looked_at() -> None:
    assert first_trouble([-1.0] * WINDOW + [50.0] * 60) is None


def test_it_goes_on_where_it_was() -> None:
    losses = [0.2] * 45 + [2.0] * 20
    whole = first_trouble(losses)
    assert whole is not None
    guard = LossGuard()
    assert first_trouble(losses[:47], guard) is None
    other = LossGuard()
    other.load_state_dict(json.loads(json.dumps(guard.state_dict())))
    assert first_trouble(losses[47:], other) == whole - 47


def test_players_at_odds_are_not_looked_at() -> None:
    guard = LossGuard()
    assert all(guard.trouble({"loss/net": 0.1 * 2**i, "loss/other": 1.0}) is None for i in range(60))
