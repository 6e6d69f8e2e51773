"""A checkpoint of random weights in one file, and what the peer needs beside it to read that without a network."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.networks import randomise
from darkroom.checkpoints.convert import Content, write_original
from darkroom.checkpoints.diffusers_config import component_configs, model_index, scheduler_configs
from darkroom.checkpoints.diffusers_tokenizer import find_tokenizers, write_json, write_tokenizer
from darkroom.conditioning.clip_text import ClipTextEmbedderConfig
from darkroom.models.clip_tokenizer import END, START
from darkroom.systems.build import build
from darkroom.systems.system import System

__all__ = ["Checkpoint", "write_checkpoint"]


@dataclass(frozen=True)
class Checkpoint:
    """`config`: the peer's folder, complete but for the weights. `size`: bytes of the weights."""

    file: Path
    config: Path
    size: int


def write_checkpoint(system: System, folder: Path) -> Checkpoint:
    """`system` with random weights in float16, as checkpoints are published, and a vocabulary for it, in `folder`."""
    model = build(system, "meta").half().to_empty(device="cpu")
    randomise(model)
    file, config = folder / "model.safetensors", folder / "config"
    write_original(Content.of_model(model), file)
    _write_vocabulary(system, folder)
    for component, content in component_configs(system).items():
        write_json(config / component / "config.json", content)
    for component, content in scheduler_configs(system).items():
        write_json(config / component / "scheduler_config.json", content)
    for component, tokenizer in find_tokenizers(system, folder).items():
        write_tokenizer(config / component, tokenizer)
    write_json(config / "model_index.json", model_index(system))
    return Checkpoint(file, config, sum(p.numel() * p.itemsize for p in model.parameters()))


def _write_vocabulary(system: System, folder: Path) -> None:
    """A vocabulary of CLIP's form that spells every word: random weights need no other.

    Number 0 is "!", which fills up the second tower of SDXL; the last numbers are the start and the end, as towers that
    pool at the highest number expect.
    """
    towers = [t.tower for e in system.embedders if isinstance(e, ClipTextEmbedderConfig) for t in e.towers]
    size = min(tower.vocabulary for tower in towers)
    letters = ["!", *(chr(c) for c in range(ord("a"), ord("z") + 1))]
    numbers = {word: i for i, word in enumerate([*letters, *(f"{c}</w>" for c in letters)])} | {
        START: size - 2,
        END: size - 1,
    }
    (folder / "vocab.json").write_text(json.dumps(numbers))
    (folder / "merges.txt").write_text("#version: 0.2\n")
