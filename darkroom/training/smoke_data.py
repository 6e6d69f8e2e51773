"""A tiny data set of every kind that systems read, made at random, for runs that only show that a recipe runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from darkroom.conditioning.boxes import BoxesConfig
from darkroom.conditioning.class_label import ClassLabelConfig
from darkroom.conditioning.features import VectorsConfig
from darkroom.conditioning.segmentation import SegmentationConfig
from darkroom.data.folder import FolderConfig
from darkroom.systems.system import System
from darkroom.types import Request

__all__ = ["request_for", "write_smoke_data"]

COUNT, CAPTION = 4, "a red house"


def write_smoke_data(folder: Path, side: int, system: System | None) -> FolderConfig:
    """A few pictures of `side` pixels in `folder`, with what the embedders of `system` read beside them."""
    rng, pictures = np.random.default_rng(0), folder / "pictures"
    pictures.mkdir(parents=True)
    names = [f"{i}.png" for i in range(COUNT)]
    rows = []
    for i, name in enumerate(names):
        sides = (side, side + side // 2) if i % 2 else (side, side)
        Image.fromarray(rng.integers(0, 256, (*sides, 3), np.uint8)).save(pictures / name)
        rows.append({"file_name": name, "caption": CAPTION, "class": i, "score": 5.0 + i})
        for kind in ("segmentation", "depth"):
            (folder / kind).mkdir(exist_ok=True)
            Image.fromarray(rng.integers(0, 4, sides, np.uint8)).save(folder / kind / name)
    (pictures / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    given: dict[str, Any] = {}
    for config in system.embedders if system is not None else ():
        match config.key:
            case "class":
                given["class_column"] = "class"
            case "aesthetic_score":
                given["aesthetic_column"] = "score"
            case "segmentation" | "depth" as key:
                given[key] = folder / key
            case "boxes":
                given["boxes"] = _write_boxes(folder / "boxes.json", names, side)
    return FolderConfig(pictures, **given)


def _write_boxes(path: Path, names: list[str], side: int) -> Path:
    images = [
        {"id": i, "file_name": n, "width": side + side // 2 * (i % 2), "height": side} for i, n in enumerate(names)
    ]
    boxes = [{"image_id": i, "category_id": 7, "bbox": [2, 2, side // 2, side // 2]} for i in range(len(names))]
    table = {"images": images, "annotations": boxes, "categories": [{"id": 7, "name": "house"}]}
    path.write_text(json.dumps(table), encoding="utf-8")
    return path


def request_for(system: System, side: int) -> Request:
    """What draws one picture of `side` pixels, in two steps, with everything that `system` reads."""
    rng = np.random.default_rng(1)
    inputs: dict[str, Any] = {}
    image = mask = None
    photo = rng.integers(0, 256, (side, side, 3), np.uint8)
    for config in system.embedders:
        match config:
            case ClassLabelConfig():
                inputs["class"] = 0
            case BoxesConfig():
                inputs["boxes"] = [{"label": 0, "x0": 0.1, "y0": 0.1, "x1": 0.9, "y1": 0.9}]
            case SegmentationConfig():
                inputs["segmentation"] = np.zeros((side, side), np.int64)
            case VectorsConfig():
                inputs[config.key] = np.zeros((1, config.width), np.float32)
        if config.key == "masked_image":
            image, mask = photo, np.ones((side, side), np.uint8)
        elif config.key in ("depth", "image_prompt"):
            image = photo
        elif config.key == "low_resolution":
            image = photo[:: system.autoencoder.factor, :: system.autoencoder.factor].copy()
    prompt = CAPTION if any(config.key == "caption" for config in system.embedders) else ""
    return Request(prompt, width=side, height=side, steps=2, image=image, mask=mask, inputs=inputs)
