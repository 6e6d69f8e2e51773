"""Textual-inversion embeddings in the forms in which people have them."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from darkroom.checkpoints.embeddings import EmbeddingFolders, bundled_embeddings, embedding_hash, read_embedding
from darkroom.checkpoints.inspect import inspect
from darkroom.checkpoints.lora import read_lora
from darkroom.checkpoints.open_file import open_weights
from darkroom.errors import InputError
from darkroom.systems import SYSTEMS

TWO = torch.arange(2 * 768.0).reshape(2, 768)
BIG = torch.arange(2 * 1280.0).reshape(2, 1280)


def a1111(vectors: Any) -> dict[str, Any]:
    return {
        "string_to_token": {"*": torch.tensor(265)},
        "string_to_param": vectors,
        "name": "cat",
        "step": 100,
        "sd_checkpoint": None,
        "sd_checkpoint_name": None,
    }


FILES: dict[str, Any] = {
    "cat.pt": a1111({"*": TWO}),
    "old/cat.pt": a1111(nn.ParameterDict({"*": nn.Parameter(TWO)})),
    "cat.bin": {"<cat-toy>": TWO},
    "cat.safetensors": {"emb_params": TWO},
    "cat/learned_embeds.safetensors": {"<cat-toy>": TWO.half()},
    "cat/learned_embeds.bin": {"<cat-toy>": TWO},
}


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize("name", FILES)
def test_files_of_every_tool(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, FILES[name])
    found = read_embedding(path, SYSTEMS["sd-v1-5"])
    assert (found.name, len(found)) == ("cat", 2)
    assert torch.equal(found.vectors[0], FILES[name].get("<cat-toy>", TWO).float())
    facts = inspect(path)
    assert (facts["vectors"], facts["widths"]) == ("2", "768")
    assert facts["hash"] == embedding_hash(path) == hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def test_one_vector_may_be_without_its_axis(tmp_path: Path) -> None:
    path = write(tmp_path / "cat.bin", {"<cat>": TWO[1]})
    assert torch.equal(read_embedding(path, SYSTEMS["sd-v1-5"]).vectors[0], TWO[1:])
    assert inspect(path, hashed=False)["vectors"] == "1"


@pytest.mark.parametrize("names", [("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1")])
def test_two_towers(tmp_path: Path, names: tuple[str, str]) -> None:
    path = write(tmp_path / "cat.safetensors", {names[1]: BIG, names[0]: TWO})
    found = read_embedding(path, SYSTEMS["sdxl-base"])
    assert torch.equal(found.vectors[0], TWO)
    assert torch.equal(found.vectors[1], BIG)
    assert torch.equal(read_embedding(path, SYSTEMS["sdxl-refiner"]).vectors[0], BIG)


WRONG = {
    "SD2": ({"emb_params": torch.ones(1, 1024)}, "sd-v1-5", "width 1024, sd-v1-5 reads 768"),
    "one tower": ({"clip_l": TWO}, "sdxl-base", "width 768, sdxl-base reads 768 and 1280"),
    "SD1 on SDXL": ({"emb_params": TWO}, "sdxl-base", "width 768, sdxl-base reads 768 and 1280"),
    "uneven": ({"clip_l": TWO, "clip_g": BIG[:1]}, "sdxl-base", "2 and 1 vectors"),
    "too many": ({"emb_params": torch.ones(76, 768)}, "sd-v1-5", "76 vectors, accepted are 1 to 75"),
    "none": ({"emb_params": torch.ones(0, 768)}, "sd-v1-5", "0 vectors"),
    "NaN": ({"emb_params": TWO * torch.nan}, "sd-v1-5", "NaN or infinite"),
    "whole numbers": ({"emb_params": TWO.int()}, "sd-v1-5", "torch.int32 of shape"),
    "cube": ({"emb_params": torch.ones(1, 2, 768)}, "sd-v1-5", r"of shape \[1, 2, 768\]"),
    "scalar": ({"emb_params": torch.tensor(1.0)}, "sd-v1-5", "vectors of width 1,"),
    "a model": ({"a.weight": TWO, "b.weight": TWO + 1}, "sd-v1-5", "is no embedding: its 2 tensors"),
    "no text": ({"emb_params": TWO}, "ldm_celeba256", "has no text encoder"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_named(tmp_path: Path, what: str) -> None:
    content, system, message = WRONG[what]
    path = write(tmp_path / "cat.safetensors", content)
    with pytest.raises(InputError, match=message) as caught:
        read_embedding(path, SYSTEMS[system])
    assert "cat.safetensors" in str(caught.value)


def test_found_by_name_in_folders(tmp_path: Path) -> None:
    write(tmp_path / "EasyNegative.safetensors", {"emb_params": TWO})
    write(tmp_path / "cats" / "tabby.pt", a1111({"*": TWO[:1]}))
    write(tmp_path / "toy" / "learned_embeds.bin", {"<toy>": TWO})
    found = EmbeddingFolders([tmp_path], SYSTEMS["sd-v1-5"])
    for name, count in (("easynegative", 2), ("tabby", 1), ("cats/tabby", 1), ("tabby.pt", 1), ("toy", 2)):
        embedding = found.get(name)
        assert embedding is not None
        assert len(embedding) == count
    assert found.get("tabby") is found.get("Tabby")
    assert found.get("nobody") is None


def test_loras_bring_words_along(tmp_path: Path) -> None:
    key = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_k"
    lora = {f"{key}.lora_down.weight": torch.ones(4, 640), f"{key}.lora_up.weight": torch.ones(640, 4)}
    words = {"bundle_emb.cat.clip_l": TWO, "bundle_emb.cat.clip_g": BIG}
    path = write(tmp_path / "x.safetensors", {**lora, **words})
    assert len(read_lora(path, SYSTEMS["sdxl-base"]).adapters) == 1
    found = bundled_embeddings(open_weights(path), SYSTEMS["sdxl-base"])
    assert [(e.name, len(e), e.file) for e in found] == [("cat", 2, None)]
    path = write(tmp_path / "y.safetensors", {**lora, "bundle_emb.cat.string_to_param.*": TWO})
    with pytest.raises(InputError, match="the embedding 'cat' inside holds vectors of width 768"):
        bundled_embeddings(open_weights(path), SYSTEMS["sdxl-base"])
