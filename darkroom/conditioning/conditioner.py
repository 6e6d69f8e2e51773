"""The embedders that condition one system, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from darkroom.conditioning.caption import CaptionEmbedder
from darkroom.conditioning.conditioning import Conditioning
from darkroom.conditioning.embedder import Embedder
from darkroom.conditioning.weighted_text import WeightedText
from darkroom.errors import InputError
from darkroom.types import Request, Size

__all__ = ["Conditioner"]


class Conditioner(nn.Module):
    """Embedders side by side: tokens are joined along their length, channels and vectors along theirs."""

    def __init__(self, embedders: Sequence[Embedder]) -> None:
        super().__init__()
        self.embedders = nn.ModuleDict({e.key: e for e in embedders})

    def prepare(self, inputs: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """One mapping per picture, by embedder key, to prepared tensors by the same keys."""
        return {key: e.prepare([i.get(key) for i in inputs]) for key, e in self._items()}

    def read(self, request: Request, size: Size, generator: Generator) -> dict[str, Any]:
        """The inputs, by embedder key, of the picture of `size` that `request` asks for; noise is `generator`'s.

        Captions are not among them: they come from the prompts, step by step and part by part.
        """
        return {key: e.read(request, size, generator) for key, e in self._items() if not isinstance(e, CaptionEmbedder)}

    def use_first_stage(self, encode: Callable[[Tensor], Tensor]) -> None:
        """Tell all embedders the system's way from images to scaled latents."""
        for _, e in self._items():
            e.use_first_stage(encode)

    def unconditional(self, inputs: Mapping[str, Any], negative_prompt: str = "") -> dict[str, Any]:
        """The inputs of the unconditional branch beside `inputs`: each embedder says whether it goes without.

        A negative prompt takes the caption's place; an empty one is an absent caption.
        """
        result = {key: e.unconditional(inputs.get(key)) for key, e in self._items()}
        if "caption" in result and negative_prompt:
            result["caption"] = negative_prompt
        return result

    def look_in(self, folder: Path) -> None:
        """Tell all embedders where the checkpoint lies: vocabularies may lie beside it."""
        for _, e in self._items():
            e.look_in(folder)

    def files(self) -> list[Path]:
        """The files in the checkpoint's folder that embedders need."""
        return [path for _, e in self._items() for path in e.files()]

    def drop(self, prepared: Mapping[str, Tensor], uniform: Callable[[], Tensor]) -> dict[str, Tensor]:
        """`prepared` with each input made absent at its embedder's rate, independently.

        `uniform` draws (B,) from 0 … 1, once for each embedder.
        """
        result = {}
        for key, e in self._items():
            value = prepared[key]
            absent = uniform() < e.config.drop_rate
            if absent.any():
                nothing = e.prepare([None]).to(value)
                mask = absent.view(-1, *[1] * (value.dim() - 1))
                value = torch.where(mask.to(value.device), nothing, value)
            result[key] = value
        return result

    def condition(
        self,
        inputs: Sequence[Mapping[str, Any]],
        *,
        emphasis: str = "a1111",
        clip_skip: int | None = None,
        device: torch.device | str = "cpu",
    ) -> Conditioning:
        """The conditioning of B rows of inputs by embedder key, on `device`. No row depends on the others.

        Captions may be weighted texts, whose weights act as `emphasis` says. `clip_skip`: the last layer of CLIP's
        text encoder to run, counted from its end; `InputError` where there is none, or no such layer.
        """
        rows, device = list(inputs), torch.device(device)
        captions = [r.get("caption") for r in rows]
        if "caption" not in self.embedders:
            _refuse_clip_skip(clip_skip)
            if any(isinstance(c, WeightedText) and not c.plain for c in captions):
                raise InputError("this system reads no prompts, so no words can be weighted")
        parts: list[list[Conditioning]] = []
        for key, e in self._items():
            if isinstance(e, CaptionEmbedder):
                parts.append(e.condition(captions, emphasis=emphasis, clip_skip=clip_skip, device=device))
            else:
                filled = _in_slot(e, e(e.prepare([r.get(key) for r in rows]).to(device)))
                parts.append([filled[i] for i in range(len(rows))])
        return Conditioning.cat([_side_by_side(row) for row in zip(*parts)])

    def forward(self, prepared: Mapping[str, Tensor], clip_skip: int | None = None) -> Conditioning:
        """The conditioning of prepared inputs; `clip_skip` as in `condition`."""
        if "caption" not in self.embedders:
            _refuse_clip_skip(clip_skip)
        parts = []
        for key, e in self._items():
            value = prepared[key]
            parts.append(_in_slot(e, e(value, clip_skip) if isinstance(e, CaptionEmbedder) else e(value)))
        return _side_by_side(parts)

    def _items(self) -> list[tuple[str, Embedder]]:
        return list(self.embedders.items())  # type: ignore[arg-type]  # all are embedders


def _refuse_clip_skip(clip_skip: int | None) -> None:
    if clip_skip is not None:
        raise InputError(f"clip skip is {clip_skip}, but this system has no CLIP text encoder")


def _in_slot(embedder: Embedder, found: Tensor | Conditioning) -> Conditioning:
    return found if isinstance(found, Conditioning) else Conditioning(**{embedder.slot: found})


def _side_by_side(parts: Sequence[Conditioning]) -> Conditioning:
    """Tokens joined along their length, channels and vectors along theirs."""
    return Conditioning(
        _join([p.tokens for p in parts]), _join([p.channels for p in parts]), _join([p.vector for p in parts])
    )


def _join(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [p for p in parts if p is not None]
    if len(present) < 2:
        return present[0] if present else None  # one alone may be class indices (B,)
    return torch.cat(present, dim=1)
