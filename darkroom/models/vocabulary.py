"""Where the vocabularies of CLIP and BERT are, on a machine without a network.

Single-file checkpoints do not carry them. Looked through in this order: the checkpoint's folder, the hub cache, an
installed package that carries them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from darkroom.errors import InputError

__all__ = ["find_bert_vocabulary", "find_clip_vocabulary", "hub_cache"]

CLIP_FILES = ("tokenizer.json", "vocab.json", "bpe_simple_vocab_16e6.txt.gz", "bpe_simple_vocab_16e6.txt")
BERT_FILES = ("vocab.txt", "tokenizer.json")
CLIP_FOLDERS = (".", "tokenizer", "tokenizer_2")
BERT_FOLDERS = (".", "tokenizer")
# Repositories that hold CLIP's vocabulary; every Stable Diffusion folder does, too, and is looked into after these.
CLIP_REPOSITORIES = ("openai--clip-vit-large-patch14", "laion--CLIP-ViT-*")
BERT_REPOSITORIES = ("google-bert--bert-base-uncased", "bert-base-uncased", "CompVis--ldm-text2im-large-256")
CLIP_PACKAGES = ("open_clip", "clip")


def find_clip_vocabulary(folder: Path | None) -> Path:
    """A file that `ClipTokenizer` reads; `folder` is the checkpoint's. `InputError` says what to put where."""
    places = [folder / sub for sub in CLIP_FOLDERS] if folder is not None else []
    for place in (*places, *_snapshots((*CLIP_REPOSITORIES, "*"), CLIP_FOLDERS), *_packages(CLIP_PACKAGES)):
        for name in CLIP_FILES:
            path = place / name
            if path.is_file() and _is_clip(path):
                return path
    raise _missing("CLIP", folder, "vocab.json and merges.txt (or bpe_simple_vocab_16e6.txt.gz)")


def find_bert_vocabulary(folder: Path | None) -> Path:
    """A file that `BertTokenizer` reads; `folder` is the checkpoint's. `InputError` says what to put where."""
    places = [folder / sub for sub in BERT_FOLDERS] if folder is not None else []
    for place in (*places, *_snapshots(BERT_REPOSITORIES, BERT_FOLDERS)):
        for name in BERT_FILES:
            path = place / name
            if path.is_file() and (name == "vocab.txt" or _holds(path, '"WordPiece"')):
                return path
    raise _missing("BERT", folder, "vocab.txt of bert-base-uncased")


def hub_cache() -> Path:
    """The hub's cache folder, from the variables that huggingface_hub honours, read now rather than at import."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE"):
        if value := os.environ.get(variable):
            return Path(value).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or f"{cache}/huggingface").expanduser() / "hub"


def _snapshots(repositories: tuple[str, ...], folders: tuple[str, ...]) -> Iterator[Path]:
    cache = hub_cache()
    for repository in repositories:
        for snapshot in sorted(cache.glob(f"models--{repository}/snapshots/*")):
            yield from (snapshot / folder for folder in folders)


def _packages(names: tuple[str, ...]) -> Iterator[Path]:
    for name in names:
        spec = find_spec(name)  # does not import the package
        if spec is not None and spec.origin is not None:
            yield Path(spec.origin).parent


def _is_clip(path: Path) -> bool:
    """Other models have files of the same names: only a byte-pair vocabulary whose words end in </w> will do."""
    if path.name == "vocab.json":
        return (path.parent / "merges.txt").is_file() and _holds(path, "<|startoftext|>")
    return path.suffix != ".json" or _holds(path, "<|startoftext|>")


def _holds(path: Path, text: str) -> bool:
    return text in path.read_text(encoding="utf-8", errors="replace")


def _missing(what: str, folder: Path | None, files: str) -> InputError:
    beside = f"in {folder} or its folder 'tokenizer'" if folder is not None else "beside the checkpoint"
    return InputError(
        f"{what}'s vocabulary is not on this machine: put {files} {beside}, "
        f"or a model that has it into the hub cache at {hub_cache()}"
    )
