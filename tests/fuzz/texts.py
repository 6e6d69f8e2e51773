"""Cases for the readers of descriptions, vocabularies, prompts, recipes, pictures and their records."""

from __future__ import annotations

import gzip
import json
import random
import shutil
from pathlib import Path

from narrow_checkpoints import MERGES, narrow, random_model, write_vocabulary

from darkroom.checkpoints.convert import Content, write_diffusers
from darkroom.checkpoints.identify import identify
from darkroom.checkpoints.native import describe_system, save_system
from darkroom.checkpoints.source import open_source
from darkroom.models.bert_tokenizer import BertTokenizer
from darkroom.models.clip_tokenizer import ClipTokenizer
from darkroom.prompts.grammar import parse
from darkroom.training.recipe import load_recipe
from tests.fuzz.mutation import json_bytes, mutate_bytes, mutate_text
from tests.fuzz.pictures import damaged_picture, readers_hold
from tests.fuzz.records import damaged_texts, records_hold
from tests.fuzz.run import Case

__all__ = ["diffusers_folders", "native_folders", "pictures", "prompts", "recipes", "records", "tokenizers"]

NAME = "sd-v1-5"


def diffusers_folders(folder: Path) -> Case:
    write_diffusers(Content.of_model(random_model(NAME)), folder / "model")
    files = sorted(p for p in (folder / "model").rglob("*.json"))
    good = {path: path.read_bytes() for path in files}

    def case(rng: random.Random) -> None:
        path = rng.choice(files)
        path.write_bytes(json_bytes(json.loads(good[path]), rng))
        try:
            identify(open_source(folder / "model"), system=narrow(NAME))
        finally:
            path.write_bytes(good[path])

    return case


def native_folders(folder: Path) -> Case:
    save_system(random_model(NAME), folder / "model", {})
    path = folder / "model" / "system.json"
    good = json.loads(path.read_text())

    def case(rng: random.Random) -> None:
        path.write_bytes(json_bytes(good, rng))
        describe_system(folder / "model")

    return case


def tokenizers(folder: Path) -> Case:
    write_vocabulary(folder / "good")
    vocabulary = json.loads((folder / "good" / "vocab.json").read_text())
    merges = (folder / "good" / "merges.txt").read_text()
    words = (folder / "good" / "vocab.txt").read_text()
    model = {"type": "BPE", "vocab": vocabulary, "merges": [list(m) for m in MERGES]}
    pieces = {"type": "WordPiece", "vocab": {w: i for i, w in enumerate(words.split())}}
    text = "a red cat, houses\u00e9 \U0001f408"

    def case(rng: random.Random) -> None:
        place = folder / "x"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        kind = rng.randrange(6)
        if kind == 0:
            (place / "vocab.json").write_bytes(json_bytes(vocabulary, rng))
            (place / "merges.txt").write_text(merges)
        elif kind == 1:
            (place / "vocab.json").write_text(json.dumps(vocabulary))
            (place / "merges.txt").write_bytes(
                mutate_bytes(merges.encode(), rng, [b"a b c\n", b"\n\n", b"\xff", b"zz zz\n"])
            )
        elif kind == 2:
            (place / "tokenizer.json").write_bytes(json_bytes({"model": model}, rng))
        elif kind == 3:
            packed = gzip.compress(mutate_bytes(merges.encode(), rng, [b"a b c\n", b"\xff"]))
            packed = mutate_bytes(packed, rng) if rng.random() < 0.5 else packed
            (place / "bpe_simple_vocab_16e6.txt.gz").write_bytes(packed)
        if kind < 4:
            ClipTokenizer(12, None, place).encode(text)
        elif kind == 4:
            (place / "vocab.txt").write_bytes(mutate_bytes(words.encode(), rng, [b"\n", b"\xff", b"[CLS]\n"]))
            BertTokenizer(12, place).encode(text)
        else:
            (place / "tokenizer.json").write_bytes(json_bytes({"model": pieces}, rng))
            BertTokenizer(12, place).encode(text)

    return case


PROMPT = "(a [red:blue:0.5] cat:1.3), [dog|cow] AND a house :0.7 BREAK <lora:ink:0.5:1> \\( ((x)) [y]"


SIGNS = ("(", ")", "[", "]", "|", ":", " AND ", " BREAK ", "<lora:", ">", "\\", ":1e308", ":nan", ":-inf", "((((")


def prompts(folder: Path) -> Case:
    def case(rng: random.Random) -> None:
        parse(mutate_text(PROMPT, rng, SIGNS))

    return case


def recipes(folder: Path) -> Case:
    sources = sorted(Path("recipes").rglob("*.toml"))
    texts = [path.read_text() for path in sources]
    words = ('"', "[[", "]", "= 1e999", "9" * 400, "= -1", "= nan", "[loop]\n", "kind = []", "{", "\x1b", "= true")

    def case(rng: random.Random) -> None:
        path = folder / "x.toml"
        path.write_text(mutate_text(rng.choice(texts), rng, words), "utf-8", "replace")
        load_recipe(path)

    return case


def pictures(folder: Path) -> Case:
    return lambda rng: readers_hold(damaged_picture(rng))


def records(folder: Path) -> Case:
    return lambda rng: records_hold(damaged_texts(rng))
