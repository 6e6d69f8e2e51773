from pathlib import Path

import pytest
import torch
from narrow import WIDTH, narrow
from safetensors.torch import save_file

from darkroom.checkpoints.embeddings import EmbeddingFolders
from darkroom.conditioning.weighted_text import Piece
from darkroom.errors import InputError
from darkroom.prompts.embeddings import with_embeddings
from darkroom.prompts.grammar import parse
from darkroom.prompts.schedule import Wording, flat
from darkroom.systems import SYSTEMS


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingFolders:
    folder = tmp_path_factory.mktemp("embeddings")
    for name, count in (("mine", 2), ("mine-too", 1), ("Look(v2)", 3)):
        save_file({"emb_params": torch.zeros(count, WIDTH)}, folder / f"{name}.safetensors")
    return EmbeddingFolders([folder], narrow("sd-v1-5"))


def read(text: str, folders: EmbeddingFolders, step: int = 0) -> list[tuple[str, float, int]]:
    """(Text, weight, number of vectors) of each piece."""
    prompt = with_embeddings(parse(text), folders)
    return [_seen(p) for p in flat(prompt.parts[0].prompt, step, 4).pieces]


def _seen(p: Piece) -> tuple[str, float, int]:
    return p.text, p.weight, 0 if p.embedding is None else len(p.embedding)


def test_names_stand_for_vectors_as_a1111_and_comfyui_write_them(folders: EmbeddingFolders) -> None:
    assert read("a mine, b", folders) == [("a ", 1, 0), ("mine", 1, 2), (", b", 1, 0)]
    assert read("a embedding:MINE, b", folders) == [("a ", 1, 0), ("embedding:MINE", 1, 2), (", b", 1, 0)]
    assert read("(mine:1.3)mine-too", folders) == [("mine", 1.3, 2), ("mine-too", 1, 1)]
    assert read("(embedding:mine-too:0.5)", folders) == [("embedding:mine-too", 0.5, 1)]
    assert read(r"look\(v2\).", folders) == [("look(v2)", 1, 3), (".", 1, 0)]
    assert read("mine mine", folders) == [("mine", 1, 2), (" ", 1, 0), ("mine", 1, 2)]


def test_where_only_the_mark_counts(folders: EmbeddingFolders) -> None:
    prompt = with_embeddings(parse("mine embedding:mine"), folders, bare=False)
    seen = [_seen(p) for p in flat(prompt.parts[0].prompt, 0, 4).pieces]
    assert seen == [("mine ", 1, 0), ("embedding:mine", 1, 2)]


def test_parts_of_words_are_words(folders: EmbeddingFolders) -> None:
    for text in ("mines", "undermine", "mine2", "mine_", "İmine"):
        assert read(text, folders) == [(text, 1, 0)]


def test_edited_and_alternating_prompts_and_the_text_of_a_prompt(folders: EmbeddingFolders) -> None:
    prompt = with_embeddings(parse("[mine:a:2] [mine-too|b] AND mine"), folders)
    assert str(prompt) == str(parse("[mine:a:2] [mine-too|b] AND mine"))
    assert len(prompt.parts[1].prompt.nodes) == 1
    assert read("[mine:a:2]", folders) == [("mine", 1, 2)]
    assert read("[mine:a:2]", folders, step=3) == [("a", 1, 0)]
    assert Wording(prompt.parts[0].prompt, 4).changes() == [2, 3]


def test_unknown_and_unfit_names_are_refused(folders: EmbeddingFolders, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown embedding 'mien' in the prompt; known are: mine"):
        read("a embedding:mien, b", folders)
    other = EmbeddingFolders(folders.folders, SYSTEMS["sdxl-base"])
    with pytest.raises(InputError, match="made for another model"):
        read("mine", other)
    assert read("mined", other) == [("mined", 1, 0)]
    none = EmbeddingFolders(folders.folders, SYSTEMS["ldm_celeba256"])
    assert read("mine", none) == [("mine", 1, 0)]
    with pytest.raises(InputError, match="names the embedding 'mine', but ldm_celeba256 reads none"):
        read("embedding:mine", none)
    with pytest.raises(InputError, match="known are: none"):
        read("embedding:mine", EmbeddingFolders([], narrow("sd-v1-5")))
