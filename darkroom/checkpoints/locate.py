"""What a user's name for a model means: a file, a folder, a model that ships, or a repository on the hub."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from darkroom.errors import InputError
from darkroom.registry import nearest

__all__ = ["locate", "shipped"]

_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?(:[\w./-]+)?")
# What a folder needs. Single files at the top of a repository would double the download, and so would its second
# precision: half precision is fetched only where there is nothing else, pickles after that.
TEXTS = ("model_index.json", "*/*.json", "*/*.txt")
WEIGHTS: tuple[tuple[tuple[str, ...], list[str]], ...] = (
    ((".safetensors",), ["*.fp16.*", "*.non_ema.*", "safety_checker/*"]),
    ((".safetensors", ".bin"), ["*.non_ema.*", "safety_checker/*"]),
)


def shipped() -> dict[str, Path]:
    """The models that ship with the package, by name."""
    return {p.parent.name: p.parent for p in sorted(Path(str(files("darkroom") / "weights")).glob("*/system.json"))}


def locate(model: str) -> Path:
    """The path of `model`: an existing path, a shipped name, or `owner/name[@revision][:file]` on the hub.

    A repository is read from the hub's cache where it is there; HF_HUB_OFFLINE, HF_HOME and the like are honoured.
    Raises `InputError` saying what was looked for.
    """
    path = Path(model).expanduser()
    if path.exists():
        return path
    if model in shipped():
        return shipped()[model]
    if _HUB.fullmatch(model) and path.suffix not in (".safetensors", ".ckpt", ".pt", ".pth", ".bin"):
        return _from_hub(model)
    if path.suffix or "/" in model:
        raise InputError(f"there is no file or folder {model!r}")
    known = ", ".join(nearest(model, list(shipped()))) or "none"
    raise InputError(
        f"there is no model {model!r}; wanted is a file, a folder, a hub id (owner/name) or a shipped model: {known}"
    )


def _from_hub(model: str) -> Path:
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
        for endings, without in WEIGHTS:
            wanted = [*TEXTS, *(f"*/*{ending}" for ending in endings)]
            folder = Path(
                snapshot_download(repository, revision=revision or None, allow_patterns=wanted, ignore_patterns=without)
            )
            if any(folder.glob(f"unet/*{ending}") for ending in endings):
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
