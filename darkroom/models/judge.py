"""The judge: a small detector that finds the things of a picture-book scene, their colours and their surroundings.

A residual network at strides 4, 8 and 16 with one step back up to stride 8. Every cell of the stride-8 map says which
kind has its centre there (as in CenterNet, Zhou et al. 2019), its box, its colours and its facing; pooled features of
stride 16 say the surroundings and serve as the features of the Fréchet distance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["STRIDE", "Detection", "Judge", "JudgeConfig", "JudgeOutput"]

STRIDE = 8


@dataclass(frozen=True)
class JudgeConfig:
    """The names that the judge knows, in the order of its outputs, and its width."""

    kinds: tuple[str, ...]
    colours: tuple[str, ...]
    part_slots: int  # the most coloured parts that any kind has
    surroundings: dict[str, tuple[str, ...]]  # "sky" -> ("day", "sunset", "night") …
    width: int  # channels at stride 2


@dataclass(frozen=True)
class JudgeOutput:
    """Raw outputs for a batch; h and w are the picture's height and width over 8."""

    kinds: Tensor  # (B, K, h, w) logits of "the centre of a thing of this kind lies here"
    boxes: Tensor  # (B, 4, h, w): centre offset y, x in cells from the cell's middle; log height, log width in cells
    colours: Tensor  # (B, C, h, w) logits
    parts: Tensor  # (B, slots, C, h, w) logits
    facing: Tensor  # (B, h, w) logit of "right"
    surroundings: dict[str, Tensor]  # name -> (B, n) logits
    features: Tensor  # (B, 8 * width), pooled


@dataclass(frozen=True)
class Detection:
    """One thing found in a picture; the box is (top, left, bottom, right) in pixels."""

    kind: str
    score: float
    colour: str
    parts: tuple[str, ...]  # colour of every part slot; slots that the kind lacks mean nothing
    facing: str
    box: tuple[float, float, float, float]

    @property
    def centre(self) -> tuple[float, float]:
        top, left, bottom, right = self.box
        return (top + bottom) / 2, (left + right) / 2


class Judge(nn.Module):
    """See the module's text. Input: pictures (B, 3, H, W) in [-1, 1], sides multiples of 16."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        w = config.width
        n_colours = len(config.colours)
        self.stem = nn.Sequential(_conv(3, w, 2), _conv(w, 2 * w, 2), _Residual(2 * w))  # stride 4
        self.middle = nn.Sequential(_conv(2 * w, 4 * w, 2), _Residual(4 * w), _Residual(4 * w))  # stride 8
        self.deep = nn.Sequential(_conv(4 * w, 8 * w, 2), _Residual(8 * w), _Residual(8 * w))  # stride 16
        self.up = nn.Conv2d(8 * w, 4 * w, 1)
        self.neck = nn.Sequential(_conv(4 * w, 4 * w), _conv(4 * w, 4 * w))
        self.kinds = nn.Conv2d(4 * w, len(config.kinds), 1)
        nn.init.constant_(self.kinds.bias, -4.0)  # type: ignore[arg-type]  # most cells are empty: start there
        self.details = nn.Conv2d(4 * w, 4 + n_colours * (1 + config.part_slots) + 1, 1)
        self.surroundings = nn.ModuleDict({k: nn.Linear(8 * w, len(v)) for k, v in config.surroundings.items()})

    def forward(self, images: Tensor) -> JudgeOutput:
        n, slots = len(self.config.colours), self.config.part_slots
        middle = self.middle(self.stem(images))
        deep = self.deep(middle)
        x = self.neck(middle + F.interpolate(self.up(deep), scale_factor=2.0, mode="nearest"))
        boxes, colours, parts, facing = self.details(x).split([4, n, n * slots, 1], dim=1)
        features = deep.float().mean(dim=(2, 3))
        return JudgeOutput(
            kinds=self.kinds(x),
            boxes=boxes,
            colours=colours,
            parts=parts.unflatten(1, (slots, n)),
            facing=facing.squeeze(1),
            surroundings={name: head(features) for name, head in self.surroundings.items()},
            features=features,
        )

    @torch.no_grad()
    def detect(self, output: JudgeOutput, threshold: float = 0.27) -> list[list[Detection]]:
        """The things in each picture of `output`, surest first: peaks of the centre maps above `threshold`."""
        scores = output.kinds.float().sigmoid()
        best, kind = scores.max(dim=1)  # (B, h, w)
        peak = (best == F.max_pool2d(best, 3, 1, 1)) & (best >= threshold)
        found: list[list[Detection]] = []
        for b in range(len(best)):
            candidates = [self._read(output, best, kind, b, y, x) for y, x in peak[b].nonzero().tolist()]
            found.append(_suppress(sorted(candidates, key=lambda d: -d.score)))
        return found

    @torch.no_grad()
    def describe(self, output: JudgeOutput) -> list[dict[str, str]]:
        """The surroundings of each picture of `output`, by name."""
        names = self.config.surroundings
        picks = {name: logits.argmax(dim=1).tolist() for name, logits in output.surroundings.items()}
        return [{name: names[name][picks[name][b]] for name in names} for b in range(len(output.features))]

    def _read(self, output: JudgeOutput, best: Tensor, kind: Tensor, b: int, y: int, x: int) -> Detection:
        dy, dx, log_h, log_w = output.boxes[b, :, y, x].float().tolist()
        centre_y, centre_x = (y + 0.5 + dy) * STRIDE, (x + 0.5 + dx) * STRIDE
        half_h, half_w = STRIDE / 2 * math.exp(log_h), STRIDE / 2 * math.exp(log_w)
        colours = self.config.colours
        return Detection(
            kind=self.config.kinds[int(kind[b, y, x])],
            score=float(best[b, y, x]),
            colour=colours[int(output.colours[b, :, y, x].argmax())],
            parts=tuple(colours[i] for i in output.parts[b, :, :, y, x].argmax(dim=1).tolist()),
            facing="right" if float(output.facing[b, y, x]) > 0 else "left",
            box=(centre_y - half_h, centre_x - half_w, centre_y + half_h, centre_x + half_w),
        )


def _conv(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True))


class _Residual(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.first = _conv(n, n)
        self.second = nn.Sequential(nn.Conv2d(n, n, 3, 1, 1, bias=False), nn.BatchNorm2d(n))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


def _suppress(detections: list[Detection]) -> list[Detection]:
    """Drop what nearly coincides with something surer (intersection over union above 0.65)."""
    kept: list[Detection] = []
    for d in detections:
        if all(_iou(d.box, k.box) <= 0.65 for k in kept):
            kept.append(d)
    return kept


def _iou(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    height = min(a[2], b[2]) - max(a[0], b[0])
    width = min(a[3], b[3]) - max(a[1], b[1])
    if height <= 0 or width <= 0:
        return 0.0
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return height * width / (area - height * width)
