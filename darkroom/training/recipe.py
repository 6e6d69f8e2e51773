"""Recipes: TOML files that name an objective by `kind` and hold all of its settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from darkroom.config import load_toml, read_toml
from darkroom.errors import InputError
from darkroom.registry import Registry
from darkroom.training.objective import Objective

__all__ = ["LoadedRecipe", "load_recipe"]

# kind -> module, recipe class, objective class; imported when asked for.
_KINDS: Registry[tuple[str, str, str]] = Registry("kind of recipe")
_KINDS.add("autoencoder", ("autoencoder", "AutoencoderRecipe", "AutoencoderObjective"))
_KINDS.add("classifier", ("classifier", "ClassifierRecipe", "ClassifierObjective"))
_KINDS.add("diffusion", ("diffusion", "DiffusionRecipe", "DiffusionObjective"))
_KINDS.add("judge", ("judge", "JudgeRecipe", "JudgeObjective"))
_KINDS.add("text", ("text", "TextRecipe", "TextObjective"))


@dataclass(frozen=True)
class LoadedRecipe:
    recipe: Any
    build: Callable[[Any], Objective]

    def objective(self, recipe: Any = None) -> Objective:
        """The objective of this recipe or of a variant of it, with the fresh weights that the loop's seed gives."""
        recipe = recipe or self.recipe
        torch.manual_seed(recipe.loop.seed)
        return self.build(recipe)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Read the recipe at `path`, changed by `key=value` overrides. Errors name the file and the key."""
    kind = read_toml(path).get("kind")
    if not isinstance(kind, str):
        raise InputError(f"{path}: key kind is missing; known are: {', '.join(_KINDS)}")
    module_name, recipe_class, objective_class = _KINDS[kind]
    module = import_module(f"darkroom.training.{module_name}")
    recipe = load_toml(getattr(module, recipe_class), path, overrides)
    return LoadedRecipe(recipe, getattr(module, objective_class))
