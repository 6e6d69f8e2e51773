"""Control networks of single runs: read once, made ready for a run, called for the rows of all runs that use them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import accumulate
from operator import add
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from darkroom.checkpoints.control import ControlNetwork, read_control
from darkroom.checkpoints.folders import CONTROLS
from darkroom.checkpoints.image_encoder import find_image_encoder, image_encoder_config, read_image_encoder
from darkroom.checkpoints.locate import locate_file
from darkroom.conditioning.conditioning import Conditioning
from darkroom.engine.shelf import Shelf
from darkroom.errors import InputError
from darkroom.models.control import Control
from darkroom.models.controlnet import ControlNet, guess_weights
from darkroom.models.ip_adapter import IPAdapter
from darkroom.models.t2i_adapter import T2IAdapter
from darkroom.models.vision import VisionTower, cropped_for_tower
from darkroom.nn.attention import Context
from darkroom.pictures.hints import HINTS, fitted_hint
from darkroom.systems.build import LatentDiffusion
from darkroom.tasks.guide import Guide
from darkroom.types import ControlUnit, Size

__all__ = ["ControlShelf", "RunControl", "UnitNetworks", "given", "ready"]

KEPT = 4  # networks that stay read
PIXELS = 8  # a side, that a position of the latent stands for in the hint of a T2I-Adapter


@dataclass(frozen=True)
class UnitNetworks:
    """A unit of a request, and its networks. `encoder`: of an IP-Adapter."""

    unit: ControlUnit
    network: ControlNetwork
    encoder: VisionTower | None = None


class ControlShelf:
    """Reads the networks of control units from `folders`, and the image encoders that IP-Adapters need; with `paths`
    from wherever a name is a path, too."""

    def __init__(self, folders: Sequence[Path], *, paths: bool = True) -> None:
        self.folders, self.paths = tuple(folders), paths
        self._networks = Shelf(read_control, KEPT)
        self._encoders = Shelf(lambda path, model: read_image_encoder(path, model.dtype, model.device), 1)

    def of(self, units: Sequence[ControlUnit], model: LatentDiffusion) -> list[UnitNetworks]:
        """`InputError` for a file that is not found, is damaged, does not fit the model or what is asked of it."""
        return [self._of(unit, model) for unit in units]

    def _of(self, unit: ControlUnit, model: LatentDiffusion) -> UnitNetworks:
        path = locate_file(CONTROLS, unit.model, self.folders, paths=self.paths)
        network = self._networks.get(path, model)
        if unit.guess and not isinstance(network, ControlNet):
            raise InputError(f"{path} is no ControlNet; guess mode is for those alone")
        if not isinstance(network, IPAdapter):
            if unit.encoder is not None:
                raise InputError(f"an image encoder is named for {path}, which is no IP-Adapter and reads none")
            return UnitNetworks(unit, network)
        if unit.preprocessor is not None:
            raise InputError(f"{path} is an IP-Adapter, which looks at the picture itself: a preprocessor has no place")
        return UnitNetworks(unit, network, self._encoder(unit, path, network, model))

    def _encoder(self, unit: ControlUnit, path: Path, adapter: IPAdapter, model: LatentDiffusion) -> VisionTower:
        wants = adapter.config.image_dim
        for candidate in (candidates := find_image_encoder(unit.encoder, path, self.folders, paths=self.paths)):
            config = image_encoder_config(candidate)
            if wants == (config.projection if adapter.config.resampler is None else config.width):
                return self._encoders.get(candidate, model)
        raise InputError(
            f"{path} reads what an image encoder of width {wants} gives; of another width is "
            + ", ".join(map(str, candidates))
        )


@dataclass(frozen=True, eq=False)
class RunControl:
    """What one unit gives in one pass of a run."""

    unit: ControlUnit
    network: ControlNet | None = None  # called at every step, with …
    hint: Tensor | None = None  # (1, C, h, w), what it makes of the picture
    features: Control = field(default_factory=Control)  # of the others, made once
    images: Control = field(default_factory=Control)  # of two rows, with the prompt and without it

    def rows(self, guide: Guide) -> list[int]:
        """The rows that a ControlNet is called for: in guess mode, and where it pools, those with the prompt."""
        every = range(guide.rows)
        return [r for r in every if r != guide.null] if self._prompted else list(every)

    @property
    def _prompted(self) -> bool:
        return self.unit.guess or (self.network is not None and self.network.global_pool)

    def weighed(self, residuals: Control, guide: Guide) -> Control:
        """What the network gave, as it goes to all rows of the run."""
        weight: float | Tensor = self.unit.weight
        if self.unit.guess and not (self.network is not None and self.network.global_pool):
            weight = weight * guess_weights(len(residuals.skips))
        rows, weighed = self.rows(guide), residuals.scaled(weight)
        return weighed if len(rows) == guide.rows else weighed.rows(rows, guide.rows)

    def constant(self, guide: Guide) -> Control:
        """What is the same at every step, for the rows of the run."""
        which = [int(r == guide.null) for r in range(guide.rows)]
        images = tuple(
            replace(image, layers=tuple((k[which], v[which]) for k, v in image.layers)) for image in self.images.images
        )
        return replace(self.features, images=images)


def ready(found: Sequence[UnitNetworks], model: LatentDiffusion, size: Size) -> list[RunControl]:
    """The units of a run for a pass at `size` in pixels."""
    factor = model.autoencoder.config.factor
    with torch.no_grad():
        return [_ready(n, model, Size(size.height // factor, size.width // factor)) for n in found]


def _ready(n: UnitNetworks, model: LatentDiffusion, latent: Size) -> RunControl:
    unit, network = n.unit, n.network
    if isinstance(network, IPAdapter):
        assert n.encoder is not None, "an IP-Adapter has its encoder"
        seen = cropped_for_tower(unit.image, n.encoder.config.image_size).to(model.device, model.dtype)
        if network.config.resampler is None:
            features = n.encoder(seen)
            features = torch.cat([features, torch.zeros_like(features)])
        else:
            features = n.encoder.positions(torch.cat([seen, torch.zeros_like(seen)]), skip=1)
        return RunControl(unit, images=network(features).scaled(unit.weight))
    pixels = network.hint_factor if isinstance(network, ControlNet) else PIXELS
    hint = _hint(unit, Size(latent.height * pixels, latent.width * pixels)).to(model.device, model.dtype)
    if isinstance(network, T2IAdapter):
        return RunControl(unit, features=network(hint).scaled(unit.weight))
    return RunControl(unit, network, network.hint(hint))


def _hint(unit: ControlUnit, size: Size) -> Tensor:
    """(1, 3, H, W) from 0 to 1."""
    pixels = fitted_hint(unit.image, size)
    if unit.preprocessor is not None:
        pixels = HINTS[unit.preprocessor](pixels)
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255


def given(
    runs: Sequence[tuple[Guide, Sequence[RunControl]]],
    x: Tensor,
    t: Tensor,
    cond: Conditioning,
    context: Context | None,
) -> list[tuple[int, Control | None]]:
    """What each run's rows get in a call of the denoiser for scaled latents x at t; every ControlNet is called once,
    for the rows of all runs that use it.

    `cond`, `context`: the conditioning of all rows, and the tokens with what layers made of them.
    """
    firsts = list(accumulate((guide.rows for guide, _ in runs), initial=0))
    found: dict[tuple[int, int], Control] = {}
    called: dict[ControlNet, list[tuple[int, int]]] = {}
    for i, (guide, controls) in enumerate(runs):
        for j, control in enumerate(controls):
            if control.network is None:
                found[i, j] = control.constant(guide)
            else:
                called.setdefault(control.network, []).append((i, j))
    for network, places in called.items():
        rows = [[firsts[i] + row for row in runs[i][1][j].rows(runs[i][0])] for i, j in places]
        hints = [runs[i][1][j].hint for i, j in places]
        hint = torch.cat([h.expand(len(r), -1, -1, -1) for h, r in zip(hints, rows) if h is not None])
        residuals, first = _called(network, [r for part in rows for r in part], hint, x, t, cond, context), 0
        for (i, j), part in zip(places, rows):
            guide, controls = runs[i]
            found[i, j] = controls[j].weighed(residuals[first : first + len(part)], guide)
            first += len(part)
    sums = [[found[i, j] for j in range(len(controls))] for i, (_, controls) in enumerate(runs)]
    return [(guide.rows, reduce(add, parts) if parts else None) for (guide, _), parts in zip(runs, sums)]


def _called(
    network: ControlNet,
    rows: list[int],
    hint: Tensor,
    x: Tensor,
    t: Tensor,
    cond: Conditioning,
    context: Context | None,
) -> Control:
    if rows == list(range(len(x))):
        return network(x, t, hint, context, cond.vector)
    part = cond[rows]
    return network(x[rows], t[rows], hint, part.tokens, part.vector)
