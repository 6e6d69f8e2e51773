"""Features of captions, encoded once: a run that has those of all captions that may come needs no text encoder."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from darkroom.conditioning.caption import CaptionEmbedder, Tokenized
from darkroom.conditioning.conditioning import Conditioning
from darkroom.conditioning.weighted_text import WeightedText
from darkroom.errors import InputError, cause
from darkroom.requests.plan import Plan, plan
from darkroom.systems.build import LatentDiffusion
from darkroom.tasks.guide import Guides
from darkroom.training.row_cache import require_same, weights_digest
from darkroom.types import Request
from darkroom.whole_file import made_folder, whole_file

__all__ = ["KeptText", "give_back_text", "keep_text"]

TOGETHER = 16  # texts that are encoded at a time
CHECKED = 3  # of those that are there, encoded once more at each start


class KeptText(CaptionEmbedder):
    """Stands in for the caption embedder `whole` of a model and reads what that made of texts from files.

    `prepare` gives (B, L · D + V): the tokens (L, D) and the vector (V,) of each text, side by side. While it is
    `open`, texts that are not there are encoded and kept; afterwards they are an `InputError`. A file is found by the
    tokens of its text; the name of its folder tells the weights, the settings and the precision.
    """

    def __init__(self, whole: CaptionEmbedder, folder: Path, *, half: bool) -> None:
        super().__init__(whole.config)
        self._whole = (whole,)  # in a tuple, so that it is no part of this module, which moves without it
        self.open, self.in_half = True, half
        digest = weights_digest([whole])
        digest.update(repr(replace(whole.config, drop_rate=0.0)).encode())  # type: ignore[type-var]
        self.folder = folder / f"text-{digest.hexdigest()[:16]}{'' if half else '-fp32'}"
        self.vector_width = 0  # V, as the first text that is read tells it
        self.token_width = 1

    @property
    def whole(self) -> CaptionEmbedder:
        return self._whole[0]

    def tokenize(self, texts: Sequence[WeightedText | None]) -> list[Tokenized]:
        for text in texts:
            if text is not None and text.embeddings:
                raise InputError(f"{text.embeddings[0].name!r} is a learned word: the texts are encoded already")
        return self.whole.tokenize(texts)

    def blocks(self, length: int, width: int) -> tuple[int, list[int]]:
        return self.whole.blocks(length, width)

    def prepare(self, values: Sequence[Any]) -> Tensor:
        return self._rows(values, None)

    def encode(self, values: Sequence[Any], clip_skip: int | None, device: torch.device) -> Conditioning:
        return self(self._rows(values, clip_skip).to(device))

    def forward(self, prepared: Tensor, clip_skip: int | None = None) -> Conditioning:
        if clip_skip is not None:
            raise InputError(f"clip skip is {clip_skip}, expected is none: the texts are encoded already")
        tokens = prepared[:, : prepared.shape[1] - self.vector_width].unflatten(1, (-1, self.token_width))
        return Conditioning(tokens, vector=prepared[:, -self.vector_width :] if self.vector_width else None)

    def add(self, values: Sequence[Any]) -> None:
        """Encode those of `values`, texts of equally many tokens, that are not there; a few that are, once more.

        `InputError` if one of them is not what it was.
        """
        paths = {self._path(value, None): value for value in values}
        there = [path for path in paths if path.exists()]
        absent = [value for path, value in paths.items() if not path.exists()]
        for path in there[:: max(1, len(there) // CHECKED)][:CHECKED]:
            kept = self._read(path, paths[path])
            fresh = self._encoded([paths[path]], None)[0]
            for name, tensor in kept.items():
                require_same(tensor.float().numpy(), fresh[name].numpy(), path, repr(paths[path] or ""))
        if absent:
            print(f"encoding {len(absent)} captions, to be kept in {self.folder}", file=sys.stderr)
        for start in range(0, len(absent), TOGETHER):
            self._keep(absent[start : start + TOGETHER], None)

    def _rows(self, values: Sequence[Any], clip_skip: int | None) -> Tensor:
        found = []
        for value in values:
            path = self._path(value, clip_skip)
            if self.open and not path.exists():
                self._keep([value], clip_skip)
            kept = self._read(path, value)
            self.token_width = kept["tokens"].shape[-1]
            self.vector_width = len(kept["vector"]) if "vector" in kept else 0
            found.append(torch.cat([t.float().flatten() for t in kept.values()]))
        return torch.stack(found)

    def _path(self, value: Any, clip_skip: int | None) -> Path:
        tokens = self.whole.prepare([value])
        content = f"{clip_skip} {list(tokens.shape)} {tokens.flatten().tolist()}"
        return self.folder / f"{hashlib.blake2b(content.encode(), digest_size=16).hexdigest()}.safetensors"

    def _read(self, path: Path, value: Any) -> dict[str, Tensor]:
        """ "tokens" (L, D), and "vector" (V,) where there is one."""
        try:
            kept = safetensors.torch.load(path.read_bytes())
            return {"tokens": kept["tokens"], **{name: kept[name] for name in ("vector",) if name in kept}}
        except FileNotFoundError:
            raise InputError(
                f"the features of {value!r} are not in {self.folder}: they are made when a run begins"
            ) from None
        except (OSError, KeyError, SafetensorError) as error:
            raise InputError(f"{path} cannot be read ({cause(error)}): remove it") from None

    @torch.no_grad()
    def _encoded(self, values: Sequence[Any], clip_skip: int | None) -> list[dict[str, Tensor]]:
        device = next(self.whole.parameters()).device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.in_half):
            found = self.whole.encode(values, clip_skip, device)
        filled = found if isinstance(found, Conditioning) else Conditioning(tokens=found)
        slots = {"tokens": filled.tokens, "vector": filled.vector}
        return [{k: t[i].float().cpu() for k, t in slots.items() if t is not None} for i in range(len(values))]

    def _keep(self, values: Sequence[Any], clip_skip: int | None) -> None:
        made_folder(self.folder)
        for value, slots in zip(values, self._encoded(values, clip_skip)):
            small = self.in_half and all(t.half().isfinite().all() for t in slots.values())
            kept = {name: t.half() if small else t for name, t in slots.items()}
            with whole_file(self._path(value, clip_skip)) as file:
                file.write(safetensors.torch.save(kept))


def keep_text(
    model: LatentDiffusion, captions: Sequence[str], drawn: Sequence[Request], folder: Path, device: str, *, half: bool
) -> KeptText:
    """Put a `KeptText` in the place of `model`'s caption embedder that has, in `folder`, all that can be asked of it:
    `captions`, no caption, and what drawing the requests `drawn` asks for.

    The text encoder itself is on the CPU afterwards.
    """
    whole = model.conditioner.embedders["caption"]
    assert isinstance(whole, CaptionEmbedder)
    kept = KeptText(whole.to(device).eval(), folder, half=half)
    model.conditioner.embedders["caption"] = kept
    kept.add([*dict.fromkeys(captions), None])
    kept.prepare([None])
    for request in drawn:
        _foresee(model, kept, request)
    kept.open = False
    whole.to("cpu")
    return kept


def give_back_text(model: LatentDiffusion) -> None:
    """Put the text encoder of `model` back where `keep_text` has taken it out."""
    for key, embedder in model.conditioner.embedders.items():
        if isinstance(embedder, KeptText):
            model.conditioner.embedders[key] = embedder.whole


def _foresee(model: LatentDiffusion, kept: KeptText, request: Request) -> None:
    """Encode all texts that drawing `request` asks for, step by step."""
    first = plan(request, model.system)
    for p in (first, first.second):
        if p is not None:
            guides = Guides(p, {}, model.conditioner.unconditional, partial(_condition, kept, p), (1, 1))
            for step, sigma in enumerate(p.whole[:-1]):
                guides.at(step, float(sigma))


def _condition(kept: KeptText, drawn: Plan, rows: Sequence[Mapping[str, Any]]) -> Conditioning:
    captions = [row["caption"] for row in rows]
    cpu = torch.device("cpu")
    found = kept.condition(captions, emphasis=drawn.emphasis, clip_skip=drawn.request.clip_skip, device=cpu)
    return Conditioning.cat(found)
