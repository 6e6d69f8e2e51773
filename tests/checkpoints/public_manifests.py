"""The names and shapes of the public checkpoints (manifests/README.md)."""

import functools
import json
import lzma
from pathlib import Path
from typing import Any

from darkroom.checkpoints.stored import MappedFile, Stored
from darkroom.systems import SYSTEMS
from darkroom.systems.build import LatentDiffusion, build


@functools.cache
def manifests() -> dict[str, dict[str, Any]]:
    return json.loads(lzma.decompress((Path(__file__).parent / "manifests" / "public.json.xz").read_bytes()))


@functools.cache
def empty_model(system: str) -> LatentDiffusion:
    """On the meta device: names and shapes, no storage."""
    return build(SYSTEMS[system], "meta")


def fake_weights(shapes: dict[str, list[int]]) -> dict[str, Stored]:
    """Tensors that are only described; loading one would fail."""
    nowhere = MappedFile.from_bytes(b"\0", "nowhere")
    return {name: Stored(nowhere, 0, "float32", tuple(shape)) for name, shape in shapes.items()}
