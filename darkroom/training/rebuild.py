"""Models of a run's folder besides what it exports at its end: of its newest checkpoint, or with running means of
another length."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkroom.config import from_dict
from darkroom.errors import InputError, cause
from darkroom.training.checkpoints import Checkpoints
from darkroom.training.objective import Objective
from darkroom.training.power_ema import Rebuilt, Snapshots
from darkroom.training.recipe import LoadedRecipe, objective_class, recipe_class
from darkroom.training.run_folder import recorded
from darkroom.training.sharding import like

__all__ = ["export_length", "export_newest"]


def export_newest(run: Path, folder: Path) -> int:
    """Export to `folder` what the run in the folder `run`, which need not be at its end, has learned by its newest
    checkpoint: its running means. Returns the step.

    `InputError` for what is no run, and for one without a checkpoint.
    """
    opened = _opened(run, _recorded(run))
    step = int(opened.state["step"])
    opened.export(folder, opened.state["ema"]["means"], {"steps": step})
    return step


def export_length(run: Path, length: float, folder: Path, at: int | None = None) -> Rebuilt:
    """Export to `folder` what the run in the folder `run` has learned, averaged over `length` of it (σ_rel) until step
    `at`, the last snapshot's when not given. Returns what was rebuilt.

    `InputError` for what is no run, for one without snapshots and for a length or step out of reach.
    """
    told = _recorded(run)
    rebuilt = Snapshots(run).rebuilt(length, at)
    _opened(run, told).export(folder, rebuilt.means, {"steps": rebuilt.step, "ema_length": length})
    return rebuilt


@dataclass(frozen=True)
class _Opened:
    """A run: its networks as its recipe makes them, and the state in its newest checkpoint."""

    run: Path
    objective: Objective
    state: Mapping[str, Any]

    def export(self, folder: Path, means: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """The networks of the checkpoint, with `means` in their places."""
        trained = self.objective.trained
        own = trained.state_dict()
        held = {name: t for name, t in self.state["networks"].items() if name in own} | dict(means)
        try:
            trained.load_state_dict({name: like(own[name], t) if name in own else t for name, t in held.items()})
        except RuntimeError as error:
            raise InputError(f"{self.run} is not of these networks: {cause(error)}") from None
        trained.eval().requires_grad_(False)
        self.objective.export(folder, metadata)


def _recorded(run: Path) -> dict[str, Any]:
    told = recorded(run)
    if not isinstance(told, dict) or not isinstance(told.get("kind"), str):
        raise InputError(f"{run} holds no run of a recipe: recipe.json is missing or cannot be read")
    return told


def _opened(run: Path, told: dict[str, Any]) -> _Opened:
    recipe = from_dict(recipe_class(told["kind"]), told, str(run / "recipe.json"))
    objective = LoadedRecipe(recipe, objective_class(told["kind"])).objective()
    if (found := Checkpoints(run, lambda warning: print(warning, file=sys.stderr)).newest()) is None:
        raise InputError(f"{run} holds no checkpoint")
    return _Opened(run, objective, found[1])
