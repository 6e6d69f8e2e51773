"""Recipes: TOML files that name an objective by `kind` and hold all of its settings."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from darkroom.config import apply_override, from_dict, merged, place_of, read_toml
from darkroom.errors import InputError, printable
from darkroom.registry import Registry
from darkroom.training.objective import Objective

__all__ = ["RECIPE_KINDS", "LoadedRecipe", "load_recipe", "objective_class", "recipe_class"]

# kind -> module, recipe class, objective class; imported when asked for.
RECIPE_KINDS: Registry[tuple[str, str, str]] = Registry("kind of recipe")
RECIPE_KINDS.add("add", ("distillation.add", "AddRecipe", "AddObjective"))
RECIPE_KINDS.add("apt", ("distillation.apt", "AptRecipe", "AptObjective"))
RECIPE_KINDS.add("autoencoder", ("autoencoder", "AutoencoderRecipe", "AutoencoderObjective"))
RECIPE_KINDS.add("classifier", ("classifier", "ClassifierRecipe", "ClassifierObjective"))
RECIPE_KINDS.add("consistency", ("distillation.consistency", "ConsistencyRecipe", "ConsistencyObjective"))
RECIPE_KINDS.add("diffusion", ("diffusion", "DiffusionRecipe", "DiffusionObjective"))
RECIPE_KINDS.add("dmd2", ("distillation.dmd", "DmdRecipe", "DmdObjective"))
RECIPE_KINDS.add("judge", ("judge", "JudgeRecipe", "JudgeObjective"))
RECIPE_KINDS.add("ladd", ("distillation.ladd", "LaddRecipe", "LaddObjective"))
RECIPE_KINDS.add("preview", ("preview", "PreviewRecipe", "PreviewObjective"))
RECIPE_KINDS.add("progressive", ("distillation.progressive", "ProgressiveRecipe", "ProgressiveObjective"))
RECIPE_KINDS.add("text", ("text", "TextRecipe", "TextObjective"))

# Keys of earlier versions, and what they are called now.
RENAMED = {
    "loop.learning_rate": "loop.lr",
    "loop.warmup": "loop.warmup_steps",
    "loop.decay": "loop.lr_schedule",
    "loop.accumulation": "loop.grad_accumulation",
    "loop.clip": "loop.max_grad_norm",
    "loss.norm": "loss.loss_type",
    "loss.min_snr": "loss.min_snr_gamma",
    "loss.first_timestep": "loss.min_timestep",
    "loss.last_timestep": "loss.max_timestep",
    "cache": "latent_cache",
    "guidance": "samples.guidance_scale",
    "guidance_scale": "samples.guidance_scale",
    "autoencoder": "vae",
    "initial": "init_from",
}
LONGEST_CHAIN = 8  # of recipes based on each other


@dataclass(frozen=True)
class LoadedRecipe:
    recipe: Any
    build: Callable[[Any], Objective]
    place: Callable[[str], str] = lambda key: ""  # where a dotted key of it stands

    def objective(self, recipe: Any = None) -> Objective:
        """The objective of this recipe or of a variant of it, with the fresh weights that the loop's seed gives."""
        recipe = recipe or self.recipe
        torch.manual_seed(recipe.loop.seed)
        return self.build(recipe)

    @contextmanager
    def naming_places(self) -> Iterator[None]:
        """Errors about a key of the recipe say where it stands, also those that come while it is carried out."""
        try:
            yield
        except InputError as error:
            key = re.match(r"([a-z_]+)[\w.\[\]]*(?= (is|are) )", str(error))
            if key is None or not hasattr(self.recipe, key[1]) or not (place := self.place(key[0])):
                raise
            raise InputError(f"{place}: {error}") from None


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Read the recipe at `path`, changed by `key=value` overrides. Errors name the file, the line and the key.

    A recipe may begin from another one, `base = "other.toml"`, relative to its own place, and change keys of it.
    """
    data = _based(path, 0)
    for override in overrides:
        key, equals, value = override.partition("=")
        apply_override(data, f"{RENAMED.get(key.strip(), key)}{equals}{value}")
    kind = data.get("kind")
    if not isinstance(kind, str):
        raise InputError(f"{path}: key kind is missing; known are: {', '.join(RECIPE_KINDS)}")

    def place(key: str) -> str:
        return place_of([*_chain(path)], overrides, key, RENAMED)

    recipe = from_dict(recipe_class(kind), _settled(data, path), place)
    return LoadedRecipe(recipe, objective_class(kind), place)


def recipe_class(kind: str) -> type[Any]:
    """The dataclass that holds recipes of `kind`; `InputError` for an unknown one."""
    module_name, name, _ = RECIPE_KINDS[kind]
    return getattr(import_module(f"darkroom.training.{module_name}"), name)


def objective_class(kind: str) -> type[Any]:
    """What recipes of `kind` are built into."""
    module_name, _, name = RECIPE_KINDS[kind]
    return getattr(import_module(f"darkroom.training.{module_name}"), name)


def _based(path: Path, depth: int) -> dict[str, Any]:
    """The recipe at `path` upon its base."""
    try:
        data = read_toml(path)
    except InputError as error:
        raise InputError(f"{path} cannot be read as a recipe: {error}") from None
    data = _renamed(data, path)
    base = data.pop("base", None)
    if base is None:
        return data
    if not isinstance(base, str):
        raise InputError(f"{path}: base is {base!r}, the name of a recipe expected")
    if depth == LONGEST_CHAIN:
        raise InputError(f"{path}: more than {LONGEST_CHAIN} recipes are based on each other")
    return merged(_based(path.parent / base, depth + 1), data)


def _chain(path: Path) -> Iterator[Path]:
    """The recipe at `path`, which can be read, and those that it is based on."""
    yield path
    if (base := read_toml(path).get("base")) is not None:
        yield from _chain(path.parent / base)


def _renamed(data: dict[str, Any], path: Path) -> dict[str, Any]:
    """`data` with keys of earlier versions under their new names, which is said."""
    for old, new in RENAMED.items():
        table, _, key = old.rpartition(".")
        place = data.get(table) if table else data
        if isinstance(place, dict) and key in place:
            table, _, now = new.rpartition(".")
            target = data.setdefault(table, {}) if table else data
            if not isinstance(target, dict):
                raise InputError(f"{path}: {table} is {printable(target, 40)}, expected is a table")
            if now in target:
                raise InputError(f"{path}: {old} and {new} are given, which is one setting; {new} is its name now")
            target[now] = place.pop(key)
            print(f"{path}: {old} is called {new} now", file=sys.stderr)
    return data


def _settled(data: dict[str, Any], path: Path) -> dict[str, Any]:
    """A diffusion recipe of earlier versions named its system and an export to go on from apart."""
    if data.get("kind") == "diffusion" and "system" in data and "model" not in data:
        data = dict(data)
        system, begin = data.pop("system"), data.pop("init_from", None)
        data["model"] = f"{system}:fresh" if begin is None else begin
        print(f"{path}: system is part of model now: model = {data['model']!r}", file=sys.stderr)
    return data
