"""The files that a picture was made with, in its record and when it is repeated."""

from pathlib import Path

import torch
from narrow import WIDTH, narrow
from safetensors.torch import save_file

from darkroom.checkpoints.embeddings import EmbeddingFolders, embedding_hash
from darkroom.checkpoints.fingerprint import lora_hash
from darkroom.checkpoints.folders import LORAS, find_file
from darkroom.prompts.embeddings import with_embeddings
from darkroom.requests.plan import Plan, plan
from darkroom.requests.records.a1111 import parameters_text, parse_parameters
from darkroom.requests.records.files import files_of, other_files
from darkroom.types import Request

PROMPT = "a mystyle [cat|(mystyle:0.5)] <lora:ink:0.5>"


def planned(folder: Path, **request: str) -> Plan:
    folders = EmbeddingFolders([folder], narrow("sd-v1-5"))
    return plan(Request(**request), folders.system).read(lambda p: with_embeddings(p, folders))  # type: ignore[arg-type]


def test_loras_and_embeddings_are_named_and_compared(tmp_path: Path) -> None:
    for name in ("MyStyle", "bad"):
        save_file({"emb_params": torch.full((1, WIDTH), len(name) / 10)}, tmp_path / f"{name}.safetensors")
    save_file({"w": torch.ones(1)}, tmp_path / "ink.safetensors")

    def find(name: str) -> Path:
        return find_file(LORAS, name, [tmp_path])

    made = planned(tmp_path, prompt=PROMPT, negative_prompt="bad")
    style, bad = (embedding_hash(tmp_path / f"{name}.safetensors") for name in ("MyStyle", "bad"))
    files = files_of(made, find)
    assert files == {
        "Lora hashes": f"ink: {lora_hash(tmp_path / 'ink.safetensors')}",
        "TI hashes": f"MyStyle: {style}, bad: {bad}",
    }
    found = parse_parameters(parameters_text(made, "m", "0123456789", "darkroom 1", files))
    assert found.dialect == "Darkroom"
    assert found.embedding_hashes == {"MyStyle": style, "bad": bad}
    assert found.unmapped == ()
    assert list(other_files(found, made, find)) == []

    save_file({"emb_params": torch.zeros(1, WIDTH)}, tmp_path / "bad.safetensors")
    save_file({"w": torch.zeros(1)}, tmp_path / "ink.safetensors")
    other = planned(tmp_path, prompt="a [cat|<lora:ink:1>]", negative_prompt="bad")
    assert list(other_files(found, other, find)) == [
        f"the LoRA ink [{found.lora_hashes['ink']}]; this one is [{lora_hash(tmp_path / 'ink.safetensors')}]",
        f"the embedding MyStyle [{style}], which no prompt names or no folder holds",
        f"the embedding bad [{bad}]; this one is [{embedding_hash(tmp_path / 'bad.safetensors')}]",
    ]


def test_texts_of_the_web_ui_name_them_alike() -> None:
    text = 'a cat\nSteps: 2, Seed: 1, Size: 32x32, TI hashes: "bad: 12ab, worse: 34cd", Version: v1.10'
    found = parse_parameters(text)
    assert (found.dialect, found.unmapped) == ("A1111", ())
    assert found.embedding_hashes == {"bad": "12ab", "worse": "34cd"}
