"""The tokenizers of a Diffusers folder, from whatever vocabulary is on this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from darkroom.checkpoints.diffusers import text_components
from darkroom.conditioning.bert_text import BertTextConfig
from darkroom.conditioning.clip_text import ClipTextEmbedderConfig
from darkroom.errors import InputError
from darkroom.models.bert_tokenizer import BertTokenizer
from darkroom.models.clip_tokenizer import END, START, ClipTokenizer
from darkroom.systems.system import System
from darkroom.whole_file import made_folder

__all__ = ["FoundTokenizer", "find_tokenizers", "write_json", "write_tokenizer"]


@dataclass(frozen=True)
class FoundTokenizer:
    """A vocabulary, and what the peer must know to use it as this system does."""

    tokenizer: Tokenizer
    settings: Mapping[str, Any]


def find_tokenizers(system: System, beside: Path | None) -> dict[str, FoundTokenizer]:
    """Component → tokenizer; none where no vocabulary is found. `beside`: the checkpoint's folder."""
    found: dict[str, FoundTokenizer] = {}
    try:
        for config in system.embedders:
            if isinstance(config, BertTextConfig):
                settings = {"tokenizer_class": "BertTokenizer", "model_max_length": config.length}
                found["tokenizer"] = FoundTokenizer(BertTokenizer(config.length, beside).tokenizer, settings)
            if isinstance(config, ClipTextEmbedderConfig):
                for tower, component in zip(config.towers, text_components(config)):
                    tokenizer = ClipTokenizer(tower.tower.length, tower.padding, beside).tokenizer
                    padding = END if tower.padding is None else tokenizer.id_to_token(tower.padding)
                    settings = {
                        "tokenizer_class": "CLIPTokenizer",
                        "model_max_length": tower.tower.length,
                        "bos_token": START,
                        "eos_token": END,
                        "unk_token": END,
                        "pad_token": padding,
                    }
                    name = component.replace("text_encoder", "tokenizer")
                    found[name] = FoundTokenizer(tokenizer, settings)
    except InputError:
        return {}  # the caller tells the user where to put one
    return found


def write_tokenizer(folder: Path, found: FoundTokenizer) -> None:
    """Write vocabulary and settings to `folder`."""
    made_folder(folder)
    found.tokenizer.model.save(str(folder))
    write_json(folder / "tokenizer_config.json", found.settings)


def write_json(path: Path, table: Mapping[str, Any]) -> None:
    made_folder(path.parent)
    path.write_text(json.dumps(table, indent=2, sort_keys=True) + "\n", encoding="utf-8")
