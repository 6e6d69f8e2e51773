"""Data sets as kohya's trainers have them: folders `N_class`, or a TOML file of datasets and their subsets."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from darkroom.config import from_dict, from_plain, read_toml
from darkroom.data.buckets import BucketConfig, Buckets
from darkroom.data.captions import CaptionConfig
from darkroom.data.dataset import Joined
from darkroom.data.folder import Folder, FolderConfig
from darkroom.errors import InputError, require
from darkroom.input_file import entries
from darkroom.pictures.reading import ENDINGS
from darkroom.registry import nearest

__all__ = ["KohyaConfig", "kohya_buckets", "open_kohya"]


@dataclass(frozen=True)
class KohyaConfig:
    """`path` is a folder of folders `N_class`, each read N times an epoch, or a TOML file (kohya's dataset_config)."""

    path: Path
    captions: CaptionConfig = field(default_factory=CaptionConfig)  # for folders; the file has its own
    kind: Literal["kohya"] = "kohya"


# Keys of a subset, and what they are called here; a path, repeats and weights have meanings of their own.
FOLDER_KEYS = {"class_tokens": "caption", "caption_extension": "caption_extension"}
CAPTION_KEYS = {
    "shuffle_caption": "shuffle", "keep_tokens": "keep_tokens", "keep_tokens_separator": "keep_separator",
    "caption_separator": "separator", "caption_prefix": "prefix", "caption_suffix": "suffix",
    "enable_wildcard": "lines", "caption_dropout_rate": "drop_rate", "caption_tag_dropout_rate": "tag_drop_rate",
}  # fmt: skip
MOST_REPEATS = 999_999  # as in the names of folders
OWN_KEYS = ("image_dir", "num_repeats", "dataset_repeats", "is_reg", "prior_loss_weight")
BUCKET_KEYS = (
    "resolution", "enable_bucket", "min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "bucket_no_upscale",
    "random_crop", "flip_aug",
)  # fmt: skip
LOOP_KEYS = ("batch_size", "train_batch_size")  # the recipe's loop.batch_size says it
KNOWN = (*FOLDER_KEYS, *CAPTION_KEYS, *OWN_KEYS, *BUCKET_KEYS, *LOOP_KEYS)
# What this reader does not do; taken where it asks for nothing.
REFUSED = (
    "metadata_file", "secondary_separator", "caption_dropout_every_n_epochs", "color_aug", "face_crop_aug_range",
    "alpha_mask", "token_warmup_min", "token_warmup_step", "resize_interpolation", "cache_info", "custom_attributes",
    "max_token_length", "network_multiplier", "validation_split", "validation_seed", "debug_dataset",
)  # fmt: skip
PLAIN = {"token_warmup_min": 1, "network_multiplier": 1.0, "max_token_length": 75}  # what asks for nothing


def open_kohya(config: KohyaConfig, *, once: bool = False) -> Joined:
    """All subsets as one data set; `InputError` names the file and the key of what cannot be.

    `once`: every picture once, whether or not it has a caption, to be looked at.
    """
    if os.path.isdir(config.path):
        return _folders(config, once)
    subsets = _subsets(config.path)
    parts = [Folder(_folder(config.path, s)) for s in subsets]
    labels = [f"{s['image_dir']}/" for s in subsets]
    if once:
        return Joined(parts, [1] * len(parts), [1.0] * len(parts), labels)
    for part in parts:
        part.require_captions()
    weighed = [_weighed(config.path, s) for s in subsets]
    return Joined(parts, [repeats for repeats, _ in weighed], [weight for _, weight in weighed], labels)


def kohya_buckets(path: Path) -> Buckets:
    """The buckets that a TOML file asks for, of each subset its own unless all agree; None for folders, which say
    nothing of sizes."""
    if os.path.isdir(path):
        return None
    found = tuple(_buckets(path, s) for s in _subsets(path))
    return found[0] if len(set(found)) == 1 else found


def _folders(config: KohyaConfig, once: bool) -> Joined:
    parts, repeats = [], []
    visible = [p for p in entries(config.path) if not p.name.startswith(".")]
    loose = [p.name for p in visible if p.suffix.lower() in ENDINGS and os.path.isfile(p)]
    if loose:
        raise InputError(
            f"{config.path} holds {len(loose)} pictures beside its folders N_class, which would not be read, the first "
            f"is {loose[0]}: move them into such a folder"
        )
    for folder in filter(os.path.isdir, visible):
        match = re.fullmatch(r"(\d{1,6})_(.*)", folder.name)
        if match is None or int(match[1]) == 0:
            raise InputError(
                f"{folder} is not named as N_class, such as 10_cat: N says how often its pictures are read"
            )
        parts.append(Folder(FolderConfig(folder, caption=match[2].strip(), captions=config.captions)))
        repeats.append(1 if once else int(match[1]))
    if not parts:
        raise InputError(f"{config.path} holds no folders named as N_class, such as 10_cat")
    return Joined(parts, repeats, [1.0] * len(parts), [f"{part.config.path.name}/" for part in parts])


def _subsets(path: Path) -> list[dict[str, Any]]:
    """The settings of each subset, with those of its dataset and the general ones below them."""
    data = read_toml(path)
    general = _table(path, "general", data.get("general", {}))
    _known(path, "", data, ("general", "datasets"))
    found = []
    for i, dataset in enumerate(_list(path, "datasets", data.get("datasets"))):
        place = f"datasets[{i}]"
        own = {k: v for k, v in _table(path, place, dataset).items() if k != "subsets"}
        for j, subset in enumerate(_list(path, f"{place}.subsets", dataset.get("subsets"))):
            where = f"{place}.subsets[{j}]"
            settings = {**general, **own, **_table(path, where, subset)}
            _known(path, where, settings, (*KNOWN, *REFUSED))
            for key in REFUSED:
                if settings.get(key) and settings[key] != PLAIN.get(key):
                    told = f"{where}.{key} is {settings[key]!r}"
                    raise InputError(f"{path}: {told}, which is not supported; leave it out")
            if not isinstance(settings.get("image_dir"), str):
                raise InputError(f"{path}: {where}.image_dir is missing")
            found.append(settings)
    return found


def _folder(path: Path, subset: Mapping[str, Any]) -> FolderConfig:
    captions = {ours: subset[theirs] for theirs, ours in CAPTION_KEYS.items() if theirs in subset}
    others = {ours: subset[theirs] for theirs, ours in FOLDER_KEYS.items() if theirs in subset}
    given = Path(subset["image_dir"])
    folder = given if given.is_absolute() or os.path.isdir(given) else path.parent / given
    return from_dict(FolderConfig, {"path": str(folder), "captions": captions, **others}, str(path))


def _weighed(path: Path, subset: Mapping[str, Any]) -> tuple[int, float]:
    """How often a subset's pictures are read in an epoch, and what multiplies their losses."""
    key = "num_repeats" if "num_repeats" in subset else "dataset_repeats"
    repeats = from_plain(int, subset.get(key, 1), f"{path}: {key}")
    require(1 <= repeats <= MOST_REPEATS, f"{path}: {key}", repeats, f"1 to {MOST_REPEATS}")
    if not from_plain(bool, subset.get("is_reg", False), f"{path}: is_reg"):
        return repeats, 1.0
    weight = from_plain(float, subset.get("prior_loss_weight", 1.0), f"{path}: prior_loss_weight")
    require(0 <= weight < math.inf, f"{path}: prior_loss_weight", weight, "a finite number of at least 0")
    return repeats, weight


def _buckets(path: Path, subset: Mapping[str, Any]) -> BucketConfig:
    resolution = subset.get("resolution")
    sides = resolution if isinstance(resolution, list) and len(resolution) == 2 else [resolution, resolution]
    side = sides[0]
    if not isinstance(side, int) or sides[1] != side:
        raise InputError(f"{path}: resolution is {resolution!r}, a side in pixels or two equal ones expected")
    settings = {
        "resolution": side,
        "step": 8,
        "crop": "random" if subset.get("random_crop") else "center",
        "flip": subset.get("flip_aug", False),
    }
    if subset.get("enable_bucket"):
        settings |= {
            "shapes": "aspect",
            "step": subset.get("bucket_reso_steps", 64),
            "shortest": subset.get("min_bucket_reso", min(256, side)),
            "longest": subset.get("max_bucket_reso", max(1024, side)),
            "upscale": not subset.get("bucket_no_upscale", False),
        }
    return from_dict(BucketConfig, settings, str(path))


def _known(path: Path, where: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            near = ", ".join(nearest(key, list(known))[:5])
            raise InputError(f"{path}: unknown key {f'{where}.{key}'.lstrip('.')}; known are: {near} …")


def _table(path: Path, key: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{path}: {key} is not a table")
    return value


def _list(path: Path, key: str, value: object) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise InputError(f"{path}: {key} is missing: a list of tables expected")
    return value
