"""Recipes that begin from others, and keys of earlier versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkroom.data.folder import FolderConfig
from darkroom.data.source import PictureBookConfig
from darkroom.errors import InputError
from darkroom.training.config import OptimizerConfig
from darkroom.training.diffusion import DiffusionRecipe
from darkroom.training.recipe import load_recipe

PLAIN = """
kind = "diffusion"
model = "picturebook:fresh"
prompts = ["a", "b"]

[loop]
steps = 5
batch_size = 4
lr = 1e-3

[loop.optimizers.embedders]
lr = 1e-5

[data]
kind = "picturebook"
size = 128
count = 10
"""


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text)
    return folder / f"{next(reversed(files))}.toml"


def read(path: Path, *overrides: str) -> DiffusionRecipe:
    return load_recipe(path, overrides).recipe


def test_a_recipe_changes_keys_of_its_base(tmp_path: Path) -> None:
    changes = (
        'base = "plain.toml"\nprompts = ["c"]\n[loop]\nsteps = 7\n[loop.optimizers.embedders]\nweight_decay = 0.1\n'
    )
    changed = read(write(tmp_path, plain=PLAIN, changed=changes), "loop.batch_size=2")
    assert (changed.loop.steps, changed.loop.batch_size, changed.loop.lr) == (7, 2, 1e-3)
    assert changed.prompts == ("c",)
    assert changed.loop.optimizers == {"embedders": OptimizerConfig(lr=1e-5, weight_decay=0.1)}
    assert isinstance(changed.data, PictureBookConfig)


def test_data_of_another_kind_take_the_place_of_the_base_s(tmp_path: Path) -> None:
    changes = 'base = "plain.toml"\n[data]\nkind = "folder"\npath = "cats"\n[buckets]\nresolution = 64\nstep = 16\n'
    assert read(write(tmp_path, plain=PLAIN, changed=changes)).data == FolderConfig(Path("cats"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('base = "absent.toml"', r"absent.toml cannot be read as a recipe: there is no file"),
        ('base = "changed.toml"', r"more than 8 recipes are based on each other"),
        ("base = 3", r"changed.toml: base is 3, the name of a recipe expected"),
        ("a = ", r"changed.toml cannot be read as a recipe: .*changed.toml is not valid TOML"),
    ],
)
def test_bases_that_cannot_be(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read(write(tmp_path, changed=text))


OLD = """
kind = "diffusion"
system = "picturebook"
autoencoder = "first.safetensors"
cache = "cache"
guidance = 3.0
prompts = ["a"]

[loop]
steps = 5
batch_size = 4
learning_rate = 1e-3
warmup = 2
decay = "cosine"
accumulation = 2
clip = 0.5

[loss]
norm = "l1"
min_snr = 5.0

[data]
kind = "picturebook"
size = 128
count = 10
"""


def test_keys_of_earlier_versions_are_taken_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = read(write(tmp_path, old=OLD), "loop.learning_rate=0.5")
    loop = recipe.loop
    assert (loop.lr, loop.warmup_steps, loop.lr_schedule) == (0.5, 2, "cosine")
    assert (loop.grad_accumulation, loop.max_grad_norm) == (2, 0.5)
    assert (recipe.model, recipe.vae, recipe.latent_cache) == ("picturebook:fresh", "first.safetensors", Path("cache"))
    assert (recipe.loss.loss_type, recipe.loss.min_snr_gamma, recipe.samples) == ("l1", 5.0, {"guidance_scale": 3.0})
    said = capsys.readouterr().err
    assert "old.toml: loop.learning_rate is called loop.lr now" in said
    assert "system is part of model now: model = 'picturebook:fresh'" in said
    again = read(write(tmp_path, old='initial = "runs/x/export"\n' + OLD))
    assert again.model == "runs/x/export"


def test_one_setting_under_two_names(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"loop.warmup and loop.warmup_steps are given, which is one setting"):
        read(write(tmp_path, old=OLD.replace("warmup = 2", "warmup = 2\nwarmup_steps = 3")))


def test_errors_name_the_file_and_line_that_set_the_key(tmp_path: Path) -> None:
    changes = 'base = "plain.toml"\n[loop]\nwarmup = -1\n'
    path = write(tmp_path, plain=PLAIN + 'color = "red"\n', changed=changes)
    with pytest.raises(InputError, match=r"plain.toml line 18: unknown key data.color"):
        read(path, "loop.warmup=2")
    (tmp_path / "plain.toml").write_text(PLAIN)
    with pytest.raises(InputError, match=r"changed.toml line 3: loop.warmup_steps is -1, expected is 0 or more"):
        read(path)
    with pytest.raises(InputError, match=r"override 'loop.warmup=-2': loop.warmup_steps is -2"):
        read(path, "loop.warmup=-2")
    write(tmp_path, plain=PLAIN.replace("lr = 1e-5", "lr = 0"))
    with pytest.raises(InputError, match=r"plain.toml line 12: loop.optimizers.embedders.lr is 0.0, expected is"):
        read(path, "loop.warmup=2")


def test_so_do_errors_of_what_a_recipe_is_built_into(tmp_path: Path) -> None:
    loaded = load_recipe(write(tmp_path, plain=PLAIN))
    told = "loop.optimizers.embedders is no optimizer of this recipe"
    with pytest.raises(InputError, match=f"plain.toml line 11: {told}"), loaded.naming_places():
        raise InputError(told)
    with pytest.raises(InputError, match=r"^steps are done$"), loaded.naming_places():
        raise InputError("steps are done")
