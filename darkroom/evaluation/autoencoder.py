"""What a first stage keeps of pictures: PSNR, SSIM, LPIPS, rFID, and how much of its codebook is used."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from darkroom.data.picturebook import render, sample_scene
from darkroom.errors import InputError
from darkroom.evaluation.features import FeatureNetwork
from darkroom.evaluation.frechet import Frechet
from darkroom.evaluation.judging import STREAM
from darkroom.evaluation.metric import Measured
from darkroom.evaluation.pairs import Distance, PairNumbers
from darkroom.evaluation.picture_set import PictureSet
from darkroom.models.autoencoder import AutoencoderConfig
from darkroom.models.bottleneck import KLConfig
from darkroom.pictures.labels import labeled_sheet
from darkroom.pixels import to_bytes, to_tensor
from darkroom.systems.build import LatentDiffusion

__all__ = ["CodebookUse", "StageReport", "measure_stage", "squared", "stage_pictures"]

SCENES = 256
BATCH, SHOWN, AMPLIFIED = 8, 6, 4


@dataclass(frozen=True)
class CodebookUse:
    codes: int
    used: int  # met at least once
    perplexity: float  # exp of the entropy of their use: how many, if all were used alike


@dataclass(frozen=True)
class StageReport:
    numbers: Mapping[str, Measured]
    codebook: CodebookUse | None  # None: not a VQ stage
    pictures: int
    network: FeatureNetwork
    sheet: np.ndarray  # uint8 (H, W, 3): the first pictures and the worst, decoded beside them


def squared(pixels: np.ndarray, factor: int, size: int | None) -> np.ndarray:
    """uint8 (H, W, 3) as the stage takes it: with a `size` the middle square with that side, its shorter side resized
    (bicubic, antialiased); without, the middle of the picture cut to multiples of `factor`."""
    h, w = pixels.shape[:2]
    if size is not None:
        scale = size / min(h, w)
        w, h = max(size, round(w * scale)), max(size, round(h * scale))
        pixels = np.asarray(Image.fromarray(pixels).resize((w, h), Image.Resampling.BICUBIC))
    height, width = (size, size) if size is not None else (h // factor * factor, w // factor * factor)
    if not (height and width):
        raise InputError(f"a picture of {w}x{h} is smaller than the {factor} pixels of one latent position")
    top, left = (h - height) // 2, (w - width) // 2
    return pixels[top : top + height, left : left + width]


def stage_pictures(
    model: LatentDiffusion, pictures: PictureSet | None, size: int | None, count: int | None
) -> Iterator[np.ndarray]:
    """At most `count` pictures as `squared` cuts them; None: 256 scenes of the picture-book world that no training
    drew, of the system's size."""
    if pictures is not None:
        for i in range(min(len(pictures), count or len(pictures))):
            yield squared(pictures.pixels(i), model.autoencoder.config.factor, size)
        return
    side = size or model.system.defaults.height
    for i in range(count or SCENES):
        yield render(sample_scene(np.random.default_rng((1, STREAM, i)), split="any"), side, side)


@torch.no_grad()
def measure_stage(
    model: LatentDiffusion, pictures: Iterable[np.ndarray], network: FeatureNetwork, distance: Distance | None = None
) -> StageReport:
    """Encode (the posterior's mean) and decode each of `pictures`, uint8 (H, W, 3); what is compared is rounded to
    bytes, as files are. `InputError` for fewer than two pictures."""
    pairs, codes, before, now = PairNumbers(distance), _Codes(model), Frechet(), Frechet()
    bicubic, factor = PairNumbers(), _times_smaller(model.autoencoder.config)
    kept: list[tuple[float, np.ndarray, np.ndarray]] = []  # PSNR, before, after; of the first and the worst
    for batch in _batches(pictures):
        images = to_tensor(batch)
        latents = model.encode_images(images.to(model.device, model.dtype))
        codes.update(latents)
        decoded = to_bytes(model.decode_latents(latents))
        pairs.update(to_tensor(decoded), images)
        bicubic.update(to_tensor(np.stack([_shrunk(p, factor) for p in batch])), images)
        before.update(network(images))
        now.update(network(to_tensor(decoded)))
        kept += zip(pairs.values["psnr"][-len(batch) :], batch, decoded)
        kept[SHOWN:] = sorted(kept[SHOWN:], key=lambda k: k[0])[:SHOWN]
    if len(pairs) < 2:
        raise InputError(f"a first stage is measured on at least 2 pictures, there are {len(pairs)}")
    distances = {"rFID" if network.name == "inception" else "frechet": now.result(before)["frechet"]}
    baseline = {f"psnr, {factor:.2g} times smaller": bicubic.result()["psnr"]}
    return StageReport({**pairs.result(), **baseline, **distances}, codes.use, len(pairs), network, _sheet(kept))


def _times_smaller(config: AutoencoderConfig) -> float:
    """How much smaller than the pictures those are that a first stage is compared with: three bytes for each position
    of a latent, or as many bytes in all as the codes have."""
    bottleneck = config.bottleneck
    spared = 1.0 if isinstance(bottleneck, KLConfig) else math.sqrt(24 / math.log2(bottleneck.codes))
    return config.factor * spared


def _shrunk(picture: np.ndarray, times: float) -> np.ndarray:
    """`picture` made smaller and enlarged again, bicubic."""
    height, width = picture.shape[:2]
    least = (max(1, round(width / times)), max(1, round(height / times)))
    small = Image.fromarray(picture).resize(least, Image.Resampling.BICUBIC)
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def _batches(pictures: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Pictures that follow each other and have one size, few at a time."""
    for _, alike in itertools.groupby(pictures, lambda p: p.shape):
        while part := list(itertools.islice(alike, BATCH)):
            yield np.stack(part)


class _Codes:
    """Counts of the codes that latents fall on."""

    def __init__(self, model: LatentDiffusion) -> None:
        self.quantizer, self.scale = model.autoencoder.quantizer, model.system.latent_scale
        self.counts = np.zeros(0 if self.quantizer is None else self.quantizer.config.codes, int)

    def update(self, latents: Tensor) -> None:
        if self.quantizer is not None:
            found = self.quantizer.nearest(latents / self.scale).flatten().cpu().numpy()
            self.counts += np.bincount(found, minlength=len(self.counts))

    @property
    def use(self) -> CodebookUse | None:
        if self.quantizer is None:
            return None
        shares = self.counts[self.counts > 0] / self.counts.sum()
        return CodebookUse(len(self.counts), len(shares), float(np.exp(-(shares * np.log(shares)).sum())))


def _sheet(kept: Sequence[tuple[float, np.ndarray, np.ndarray]]) -> np.ndarray:
    pictures, rows = [], []
    for i, (value, before, after) in enumerate(kept):
        error = np.abs(before.astype(int) - after) * AMPLIFIED
        pictures += [before, after, error.clip(0, 255).astype(np.uint8)]
        rows.append(f"{'worst' if i >= SHOWN else 'first'}, {value:.1f} dB")
    return labeled_sheet(pictures, ["picture", "decoded", f"error times {AMPLIFIED}"], rows, [""])
