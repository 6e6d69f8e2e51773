"""A model with running means of another length than the run exported, rebuilt of the run's snapshots."""

from __future__ import annotations

import sys
from pathlib import Path

from darkroom.config import from_dict
from darkroom.errors import InputError
from darkroom.training.checkpoints import Checkpoints
from darkroom.training.power_ema import Rebuilt, Snapshots
from darkroom.training.recipe import LoadedRecipe, objective_class, recipe_class
from darkroom.training.run_folder import recorded
from darkroom.training.sharding import like

__all__ = ["export_length"]


def export_length(run: Path, length: float, folder: Path, at: int | None = None) -> Rebuilt:
    """Export to `folder` what the run in the folder `run` has learned, averaged over `length` of it (σ_rel) until step
    `at`, the last snapshot's when not given. Returns what was rebuilt.

    `InputError` for what is no run, for one without snapshots and for a length or step out of reach.
    """
    told = recorded(run)
    if not isinstance(told, dict) or not isinstance(told.get("kind"), str):
        raise InputError(f"{run} holds no run of a recipe: recipe.json is missing or cannot be read")
    rebuilt = Snapshots(run).rebuilt(length, at)
    recipe = from_dict(recipe_class(told["kind"]), told, str(run / "recipe.json"))
    objective = LoadedRecipe(recipe, objective_class(told["kind"])).objective()
    if (found := Checkpoints(run, lambda warning: print(warning, file=sys.stderr)).newest()) is None:
        raise InputError(f"{run} holds no checkpoint")
    own = objective.trained.state_dict()
    networks = {name: like(own[name], t) for name, t in found[1]["networks"].items() if name in own}
    try:
        objective.trained.load_state_dict(networks | dict(rebuilt.means))
    except RuntimeError as error:
        raise InputError(f"{run} is not of these networks: {' '.join(str(error).split())[:200]}") from None
    objective.trained.eval().requires_grad_(False)
    objective.export(folder, {"steps": rebuilt.step, "ema_length": length})
    return rebuilt
