from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from darkroom.checkpoints.embeddings import EmbeddingFolders
from darkroom.prompts.embeddings import with_embeddings
from darkroom.requests.plan import plan
from darkroom.requests.remarks import known_words, remarks
from darkroom.systems import SYSTEMS
from darkroom.systems.picturebook import PICTUREBOOK
from darkroom.systems.sd1 import SD1
from darkroom.types import Request


def said(request: Request) -> list[str]:
    return list(remarks(plan(request, PICTUREBOOK), PICTUREBOOK))


def test_words_that_a_small_vocabulary_lacks_are_named() -> None:
    (sentence,) = said(Request("a (red:1.2) fox [under:over:0.5] 日本の猫, a fox", negative_prompt="gloom"))
    assert sentence.startswith("picturebook does not know: fox, 日本の猫, gloom; it knows: above, and, apple, ")
    assert said(Request("a red house left of a yellow tree, at night")) == []
    (edited,) = said(Request("a [cat:ferret:0.5]"))
    assert "ferret" in edited
    assert {"cat", "butterfly"} < set(known_words(PICTUREBOOK))
    assert "cats" not in known_words(PICTUREBOOK)
    assert known_words(SD1) == []


def test_learned_words_are_known(tmp_path: Path) -> None:
    save_file({"emb_params": torch.zeros(1, 256)}, tmp_path / "felix.safetensors")
    folders = EmbeddingFolders([tmp_path], PICTUREBOOK)
    read = plan(Request("a cat(s:1.1), felix, foxy"), PICTUREBOOK).read(lambda p: with_embeddings(p, folders))
    (sentence,) = remarks(read, PICTUREBOOK)
    assert sentence.startswith("picturebook does not know: foxy; it knows: ")


def test_of_many_words_the_nearest_are_named() -> None:
    text = replace(
        PICTUREBOOK.embedders[0], words=("panda", "an", *(f"{a}{b}x" for a in "bcdfghjklmnpq" for b in "bcdfghjklmnpq"))
    )  # type: ignore[call-arg]
    large = replace(PICTUREBOOK, embedders=(text, *PICTUREBOOK.embedders[1:]))
    (sentence,) = remarks(plan(Request("pandas"), large), large)
    assert sentence.startswith("picturebook does not know: pandas; it knows: 170 words, such as panda, ")


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (128, 128, None),
        (192, 128, None),
        (512, 512, "at 512x512 things come twice or fall apart. -W 128 -H 128 --hires 4 enlarges a whole picture"),
        (512, 256, "-W 176 -H 96 --hires 2.8 enlarges"),
        (64, 64, "was made for 128x128; at 64x64 little is to be seen"),
    ],
)
def test_sizes_far_from_the_systems_own(width: int, height: int, expected: str | None) -> None:
    request = Request("a cow", width=width, height=height)
    found = said(request)
    assert (found == []) if expected is None else (expected in found[0])
    assert said(replace(request, image=np.zeros((64, 64, 3), np.uint8))) == []


def test_a_prompt_that_nothing_reads_is_told() -> None:
    system = SYSTEMS["ldm_bsr_sr"]
    request = Request("a fox", image=np.zeros((16, 16, 3), np.uint8))
    sentence = "ldm_bsr_sr reads no prompt: what is said there changes nothing"
    assert sentence in list(remarks(plan(request, system), system))
    silent = replace(request, prompt="")
    assert sentence not in list(remarks(plan(silent, system), system))
