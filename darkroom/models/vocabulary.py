"""Where the vocabularies of CLIP and BERT are, on a machine without a network.

Single-file checkpoints do not carry them. Looked through in this order: the checkpoint's folder, the hub cache, an
installed package that carries them.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from darkroom.errors import InputError, cause, printable
from darkroom.input_file import open_input

__all__ = ["checked", "files_in", "find_bert_vocabulary", "find_clip_vocabulary", "hub_cache", "read_bytes"]

MAX_BYTES = 32 << 20  # of a file, unpacked; CLIP's tokenizer.json has 3.6 MB
MAX_WORDS = 1 << 20

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
            if os.path.isfile(path) and _is_clip(path):
                return path
    raise _missing("CLIP", folder, "vocab.json and merges.txt (or bpe_simple_vocab_16e6.txt.gz)")


def find_bert_vocabulary(folder: Path | None) -> Path:
    """A file that `BertTokenizer` reads; `folder` is the checkpoint's. `InputError` says what to put where."""
    places = [folder / sub for sub in BERT_FOLDERS] if folder is not None else []
    for place in (*places, *_snapshots(BERT_REPOSITORIES, BERT_FOLDERS)):
        for name in BERT_FILES:
            path = place / name
            if os.path.isfile(path) and (name == "vocab.txt" or _holds(path, '"WordPiece"')):
                return path
    raise _missing("BERT", folder, "vocab.txt of bert-base-uncased")


def files_in(folder: Path | None, find: Callable[[Path | None], Path]) -> list[Path]:
    """The files of the vocabulary that `find` finds in `folder`, the checkpoint's; none where it lies elsewhere."""
    try:
        found = None if folder is None else find(folder)
    except InputError:
        return []
    if folder is None or found is None or not found.is_relative_to(folder):
        return []
    return [p for name in (found.name, "merges.txt") if os.path.isfile(p := found.parent / name)]


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
        return os.path.isfile(path.parent / "merges.txt") and _holds(path, "<|startoftext|>")
    return path.suffix != ".json" or _holds(path, "<|startoftext|>")


def _holds(path: Path, text: str) -> bool:
    try:
        return text.encode() in read_bytes(path)
    except InputError:  # what cannot be read is no vocabulary; another may be
        return False


def read_bytes(path: Path) -> bytes:
    """The content of a vocabulary's file, unpacked if it is compressed. Raises `InputError` naming the file."""
    try:
        with open_input(path) as raw, gzip.open(raw) if path.suffix == ".gz" else raw as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {cause(error)}") from None
    if len(content) > MAX_BYTES:
        raise InputError(f"{path} holds more than {MAX_BYTES} bytes, which no vocabulary does")
    return content


def checked(vocabulary: object, special: Sequence[str], limit: int | None = None) -> dict[str, int]:
    """`vocabulary`, a table from words to their numbers, if it is one: each number once, from 0 to below `limit`, the
    rows that the text encoder has; the `special` words among them. Raises `ValueError` naming the cause."""
    if not isinstance(vocabulary, dict) or len(vocabulary) > MAX_WORDS:
        raise ValueError(f"its words are not a table of at most {MAX_WORDS}")
    limit = MAX_WORDS if limit is None else limit
    for word, number in vocabulary.items():
        if type(number) is not int or not 0 <= number < limit:
            raise ValueError(f"the number of {printable(word)!r} is {printable(number)}, expected is 0 to {limit - 1}")
        word.encode()  # half a surrogate pair is no text
    if len(set(vocabulary.values())) < len(vocabulary):
        raise ValueError("a number stands for two words")
    missing = [word for word in special if word not in vocabulary]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    return vocabulary


def _missing(what: str, folder: Path | None, files: str) -> InputError:
    beside = f"in {folder} or its folder 'tokenizer'" if folder is not None else "beside the checkpoint"
    return InputError(
        f"{what}'s vocabulary is not on this machine: put {files} {beside}, "
        f"or a model that has it into the hub cache at {hub_cache()}"
    )
