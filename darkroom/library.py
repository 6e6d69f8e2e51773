"""The library's face: a model by its name, and pictures from it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.requests.change import changed
from darkroom.types import Request

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image

    from darkroom.checkpoints.model import LoadedModel
    from darkroom.engine.run import Picture
    from darkroom.requests.plan import Plan

__all__ = ["Drawn", "Model", "load", "sampler_names", "schedule_names", "system_names"]


@dataclass(frozen=True)
class Drawn:
    """A finished picture. Notebooks show it where it is the last value of a cell."""

    picture: Picture
    parameters: str  # how it was made, as A1111 writes it and most tools read it

    @property
    def pixels(self) -> np.ndarray:
        """uint8 (H, W, 3), RGB."""
        return self.picture.pixels

    @property
    def plan(self) -> Plan:
        """The request without gaps: what the system's defaults have filled in."""
        return self.picture.plan

    @property
    def image(self) -> Image.Image:
        """As Pillow has pictures."""
        from PIL import Image

        return Image.fromarray(self.pixels)

    def save(self, path: Path | str) -> Path:
        """Write it to `path`, in place of what is there: .png, .jpg or .webp, its parameters inside.

        `InputError` if the ending is unknown or the file cannot be written.
        """
        from darkroom.pictures.picture_file import write_picture

        write_picture(Path(path), self.pixels, self.parameters)
        return Path(path)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.image.save(buffer, "PNG")
        return buffer.getvalue()


class Model:
    """A system that is ready to draw. The same request gives the same picture, alone or with others."""

    def __init__(
        self,
        loaded: LoadedModel,
        lora_folders: Sequence[Path] = (),
        embedding_folders: Sequence[Path] = (),
        control_folders: Sequence[Path] = (),
    ) -> None:
        from darkroom.engine.pipeline import Pipeline

        self.loaded = loaded
        self.pipeline = Pipeline(loaded.model, lora_folders, embedding_folders, control_folders)

    def draw(self, prompt: str | Request = "", **settings: Any) -> Drawn:
        """One picture of `prompt`, or of a request, with `settings` by the names of `Request`'s fields.

        Names of the command line and of other tools are understood (`steps=20, cfg_scale=5`); fields of a field stand
        in a table (`hires={"scale": 2}`). `InputError` names what is unknown or wrong.
        """
        request = prompt if isinstance(prompt, Request) else Request(prompt)
        return self.draw_all([changed(request, settings)])[0]

    def draw_all(self, requests: Iterable[Request | Mapping[str, Any]]) -> list[Drawn]:
        """The pictures of `requests`, in order, drawn together as far as memory allows."""
        asked = [r if isinstance(r, Request) else changed(Request(), r) for r in requests]
        return [Drawn(picture, self._parameters(picture)) for picture in self.pipeline.generate(asked)]

    def _parameters(self, picture: Picture) -> str:
        from darkroom.engine.parameters import made_with

        return made_with(self.loaded, picture.plan, self.pipeline.shelf)


def load(
    name: str | Path = "picturebook",
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    *,
    lora_folders: Sequence[Path | str] = (),
    embedding_folders: Sequence[Path | str] = (),
    control_folders: Sequence[Path | str] = (),
    models_dirs: Sequence[Path | str] = (),
    vae: str | None = None,
    memory: str = "auto",
    quantize: str | None = None,
) -> Model:
    """The model that `name` means: a checkpoint's file or folder, a shipped name, or a hub id.

    `models_dirs`: folders of A1111, ComfyUI or models, in which names of models, first stages, LoRAs and embeddings are
    looked up, too. `dtype` None: what is fast on `device`. The others as `darkroom.checkpoints.model.load_model` has
    them.
    """
    from darkroom.checkpoints.folders import CHECKPOINTS, called
    from darkroom.checkpoints.model import load_model
    from darkroom.checkpoints.model_folders import ModelFolders, tree_folders

    folders = ModelFolders(
        loras=tuple(map(Path, lora_folders)),
        embeddings=tuple(map(Path, embedding_folders)),
        controlnet=tuple(map(Path, control_folders)),
    )
    for root in models_dirs:
        folders = folders + tree_folders(Path(root))
    path = called(CHECKPOINTS, str(name), folders.checkpoints)
    stage = vae and called(CHECKPOINTS, vae, folders.vae)
    loaded = load_model(path, device, dtype, vae=stage, memory=memory, quantize=quantize)
    return Model(loaded, folders.loras, folders.embeddings, folders.controlnet)


def system_names() -> list[str]:
    """Names of the systems of the catalogue."""
    from darkroom.systems import SYSTEMS

    return list(SYSTEMS)


def sampler_names() -> list[str]:
    """Names of the samplers."""
    from darkroom.diffusion.samplers import SAMPLERS

    return list(SAMPLERS)


def schedule_names() -> list[str]:
    """Names of the schedules of noise levels."""
    from darkroom.diffusion.sigma_schedules import SCHEDULES

    return list(SCHEDULES)
