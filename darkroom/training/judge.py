"""Objective: the judge. A detector of things, trained on renders; it grades, and never trains another network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.checkpoints.native import write_network
from darkroom.data.order import Place
from darkroom.data.picturebook import COLOURS, KINDS, Scene
from darkroom.data.picturebook.backdrop import BACKGROUNDS, GROUNDS, SKIES
from darkroom.data.reader import Reader
from darkroom.data.source import PictureBook, PictureBookConfig
from darkroom.errors import require
from darkroom.models.judge import STRIDE, Judge, JudgeConfig, JudgeOutput
from darkroom.pixels import to_tensor
from darkroom.training.config import LoopConfig
from darkroom.training.objective import Loss, StepContext

__all__ = ["JudgeObjective", "JudgeRecipe", "JudgeTargets", "judge_loss", "judge_targets"]

SURROUNDINGS = {"sky": tuple(SKIES), "ground": tuple(GROUNDS), "background": BACKGROUNDS}


@dataclass(frozen=True)
class JudgeRecipe:
    loop: LoopConfig
    data: PictureBookConfig
    width: int
    kind: Literal["judge"] = "judge"

    def __post_init__(self) -> None:
        require(self.width >= 1, "width", self.width, "at least 1")
        require(self.data.size % (2 * STRIDE) == 0, "data.size", self.data.size, f"a multiple of {2 * STRIDE}")


@dataclass(frozen=True)
class JudgeTargets:
    """What the judge should say about a batch. Rows of `places` are things: (picture, y, x) of the centre's cell."""

    heat: Tensor  # (B, K, h, w), 1 at centres, falling off around them
    places: Tensor  # (N, 3) int64
    boxes: Tensor  # (N, 4)
    colours: Tensor  # (N,)
    parts: Tensor  # (N, slots), −1 where the kind has no such slot
    facing: Tensor  # (N,), 1 right, 0 left, −1 where the kind does not face
    surroundings: dict[str, Tensor]  # (B,)

    def to(self, device: torch.device) -> JudgeTargets:
        return JudgeTargets(
            self.heat.to(device),
            self.places.to(device),
            self.boxes.to(device),
            self.colours.to(device),
            self.parts.to(device),
            self.facing.to(device),
            {name: truth.to(device) for name, truth in self.surroundings.items()},
        )


def judge_targets(scenes: Sequence[Scene], size: int, part_slots: int) -> JudgeTargets:
    """Targets of `scenes` rendered at size × size pixels."""
    kinds, colours = {k: i for i, k in enumerate(KINDS)}, {c: i for i, c in enumerate(COLOURS)}
    cells = size // STRIDE
    heat = np.zeros((len(scenes), len(kinds), cells, cells), np.float32)
    places, boxes, colour, parts, facing = [], [], [], [], []
    grid_y, grid_x = np.mgrid[0:cells, 0:cells] + 0.5
    for b, scene in enumerate(scenes):
        for thing in scene.things:
            (y, x), box = thing.box.centre, thing.box
            height, width = (box.bottom - box.top) * cells, (box.right - box.left) * cells
            cell_y, cell_x = (min(cells - 1, max(0, int(v * cells))) for v in (y, x))
            spread = max(0.5, 0.12 * min(height, width))
            bump = np.exp(-((grid_y - cell_y - 0.5) ** 2 + (grid_x - cell_x - 0.5) ** 2) / (2 * spread**2))
            plane = heat[b, kinds[thing.kind]]
            np.maximum(plane, bump, out=plane)
            places.append((b, cell_y, cell_x))
            boxes.append((y * cells - cell_y - 0.5, x * cells - cell_x - 0.5, math.log(height), math.log(width)))
            colour.append(colours[thing.colour])
            own = [colours[thing.parts[p]] for p in KINDS[thing.kind].parts]
            parts.append(own + [-1] * (part_slots - len(own)))
            facing.append((1 if thing.facing == "right" else 0) if KINDS[thing.kind].faces else -1)
    return JudgeTargets(
        heat=torch.from_numpy(heat),
        places=torch.tensor(places),
        boxes=torch.tensor(boxes),
        colours=torch.tensor(colour),
        parts=torch.tensor(parts),
        facing=torch.tensor(facing),
        surroundings={
            name: torch.tensor([options.index(getattr(s, name)) for s in scenes])
            for name, options in SURROUNDINGS.items()
        },
    )


def judge_loss(output: JudgeOutput, targets: JudgeTargets) -> tuple[Tensor, dict[str, Tensor]]:
    """Focal loss of the centres, cross-entropies and box errors at the true centres; and the terms by name."""
    b, y, x = targets.places.unbind(dim=1)
    logits = output.kinds.float()
    p = logits.sigmoid()
    positive = targets.heat == 1.0
    # Penalty-reduced focal loss (CenterNet, equation 1; alpha 2, beta 4).
    hit = (1 - p).square() * F.logsigmoid(logits) * positive
    miss = p.square() * (1 - targets.heat) ** 4 * F.logsigmoid(-logits) * ~positive
    parts = output.parts[b, :, :, y, x].float().flatten(0, 1)
    facing = targets.facing >= 0
    terms = {
        "centres": -(hit + miss).sum() / len(b),
        "boxes": F.l1_loss(output.boxes[b, :, y, x].float(), targets.boxes),
        "colours": F.cross_entropy(output.colours[b, :, y, x].float(), targets.colours),
        "parts": F.cross_entropy(parts, targets.parts.flatten(), ignore_index=-1),
        "facing": F.binary_cross_entropy_with_logits(
            output.facing[b, y, x].float()[facing], targets.facing[facing].float()
        ),
    }
    for name, truth in targets.surroundings.items():
        terms[name] = F.cross_entropy(output.surroundings[name].float(), truth)
    terms = {k: v.nan_to_num(0.0) for k, v in terms.items()}  # a batch without parts or facing things has no such term
    return sum(terms.values(), logits.new_zeros(())), {k: v.detach() for k, v in terms.items()}


class JudgeObjective:
    ema = ("judge",)

    def __init__(self, recipe: JudgeRecipe) -> None:
        self.recipe = recipe
        self.data = PictureBook(recipe.data)
        self.reader = Reader(self.data, None, recipe.loop.step_size, recipe.loop.seed)
        self.slots = max(len(k.parts) for k in KINDS.values())
        self.judge = Judge(JudgeConfig(tuple(KINDS), tuple(COLOURS), self.slots, SURROUNDINGS, recipe.width))
        self.frozen = nn.ModuleDict()
        self.trained = nn.ModuleDict({"judge": self.judge})

    def optimizers(self) -> dict[str, list[nn.Parameter]]:
        return {"judge": list(self.judge.parameters())}

    def batch(self, places: Sequence[Place]) -> tuple[Tensor, JudgeTargets]:
        numbers = [place.index for place in places]
        scenes = [self.data.scene(number) for number in numbers]
        images = to_tensor(np.stack([self.data.image(number) for number in numbers]))
        return images, judge_targets(scenes, self.recipe.data.size, self.slots)

    def losses(self, batch: tuple[Tensor, JudgeTargets], context: StepContext) -> Iterator[Loss]:
        images, targets = batch
        images, targets = images.to(self.judge.kinds.weight.device), targets.to(self.judge.kinds.weight.device)
        # Generated pictures are a little softer and noisier than renders: so are some of these.
        draws = context.draws
        noisy, soft = (draws.uniform(1, 1, 1).to(images) < share for share in (0.5, 0.3))
        images = torch.where(noisy, images + 0.06 * draws.normal(*images.shape[1:]).to(images), images)
        small = F.avg_pool2d(images, 2)
        images = torch.where(soft, F.interpolate(small, scale_factor=2.0, mode="bilinear", align_corners=False), images)
        loss, terms = judge_loss(self.judge(images), targets)
        yield Loss("judge", loss, terms)

    def samples(self) -> np.ndarray | None:
        return None

    def export(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        write_network(folder / "judge.safetensors", self.judge, self.judge.config, metadata)
