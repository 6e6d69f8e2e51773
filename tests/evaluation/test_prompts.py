"""CLIP score, variety and copies: by definition, on random networks and on sets whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from narrow_checkpoints import VOCABULARY, write_vocabulary
from PIL import Image
from transformers import CLIPConfig, CLIPModel
from typer.testing import CliRunner

from darkroom.cli.evaluate import app
from darkroom.errors import InputError
from darkroom.evaluation.copies import copied_share, nearest
from darkroom.evaluation.features import open_features
from darkroom.evaluation.prompts import clip_score, variety
from darkroom.evaluation.study.design import Item
from darkroom.evaluation.study.machines import MACHINES
from darkroom.models.clip_tokenizer import ClipTokenizer

LONG = "cat " * 30


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("clip")
    write_vocabulary(folder)
    shared = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    text = {"vocab_size": VOCABULARY, "max_position_embeddings": 12, "eos_token_id": VOCABULARY - 1, "bos_token_id": 0}
    config = CLIPConfig(
        text_config={**shared, **text},
        vision_config={**shared, "image_size": 28, "patch_size": 14},
        projection_dim=16,
    )
    CLIPModel(config).eval().save_pretrained(folder)
    return folder


@pytest.fixture
def captioned(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i, caption in enumerate(("a cat", "a cat", "a dog", LONG)):
        Image.fromarray(rng.integers(0, 256, (28, 28, 3)).astype(np.uint8)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(caption)
    return folder


def test_clip_votes_by_its_score(clip_folder: Path, captioned: Path) -> None:
    make, questions = MACHINES["clip"]
    assert questions == ("prompt",)
    captions = [(captioned / f"{i}.txt").read_text() for i in range(4)]
    score, network = make(str(clip_folder)), open_features(f"clip={clip_folder}")
    scores = [score(captioned / f"{i}.png", Item(str(i), c)) for i, c in enumerate(captions)]
    pixels = np.stack([np.asarray(Image.open(captioned / f"{i}.png")) for i in range(4)])
    rows = network(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1)
    assert np.mean(scores) == pytest.approx(clip_score([rows], captions, network).value, abs=1e-6)
    with pytest.raises(InputError, match="clip"):
        MACHINES["clip"][0](None)


@torch.no_grad()
def test_the_clip_score_is_that_of_transformers_and_tells_of_cuts(
    clip_folder: Path, captioned: Path, tmp_path: Path
) -> None:
    """The peer reads the same tokens; the mean cosine to 1e-5."""
    report = tmp_path / "report.json"
    command = ["prompts", str(captioned), "--features", f"clip={clip_folder}", "--cache", str(tmp_path / "cache")]
    done = CliRunner().invoke(app, [*command, "-o", str(report)])
    assert done.exit_code == 0, (done.output, done.exception)
    found = json.loads(report.read_text())["numbers"]["clip score"]
    network, peer = open_features(f"clip={clip_folder}"), CLIPModel.from_pretrained(clip_folder).eval()
    assert network.texts is not None
    captions = [(captioned / f"{i}.txt").read_text() for i in range(4)]
    texts = network.texts(captions)
    assert texts.cut == 1
    assert found["note"] == "1 of 4 captions are longer than the network reads and were cut"
    tokens = torch.tensor([ClipTokenizer(12, None, clip_folder).encode(c) for c in captions])
    pooled = peer.text_projection(peer.text_model(tokens).pooler_output)
    unit = torch.nn.functional.normalize(pooled, dim=1).numpy()
    np.testing.assert_allclose(texts.rows, unit, atol=1e-5)
    pixels = np.stack([np.asarray(Image.open(captioned / f"{i}.png")) for i in range(4)])
    rows = network(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1)
    cosines = (rows / np.linalg.norm(rows, axis=1, keepdims=True) * unit).sum(axis=1)
    assert found["value"] == pytest.approx(cosines.clip(0).mean(), abs=1e-5)


def test_variety_is_its_mean_over_pairs() -> None:
    captions = ["a", "b", "a", "b", "a", "c"]
    rows = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def mean(pairs: list[tuple[int, int]]) -> float:
        return float(np.mean([1 - unit[i] @ unit[j] for i, j in pairs]))

    found = variety([rows[:2], rows[2:]], captions)
    assert found["variety"].value == pytest.approx((mean([(0, 2), (0, 4), (2, 4)]) + mean([(1, 3)])) / 2, abs=1e-6)
    assert found["variety"].note == "1 of 3 prompts have one picture and are left out"
    unlike = [(i, j) for i in range(6) for j in range(i) if captions[i] != captions[j]]
    assert found["variety between prompts"].value == pytest.approx(mean(unlike), abs=1e-6)
    with pytest.raises(InputError, match="every prompt has one picture"):
        variety([rows], list("abcdef"))


def test_pictures_without_captions_are_named(captioned: Path) -> None:
    (captioned / "2.txt").unlink()
    done = CliRunner().invoke(app, ["prompts", str(captioned)])
    assert "1 of 4 pictures have no caption, the first is 2.png" in str(done.exception)


def test_the_nearest_is_found_however_the_training_set_is_cut() -> None:
    rng = np.random.default_rng(0)
    rows, training = rng.normal(size=(30, 4)), rng.normal(size=(50, 4))
    whole = np.linalg.norm(rows[:, None] - training, axis=2)
    found = nearest(rows, np.array_split(training, 7))
    np.testing.assert_allclose(found.distance, whole.min(axis=1), atol=1e-9)
    assert np.array_equal(found.index, whole.argmin(axis=1))
    own = np.linalg.norm(training[:, None] - training, axis=2) + np.where(np.eye(50), np.inf, 0)
    among = nearest(training, np.array_split(training, 7), itself=True)
    np.testing.assert_allclose(among.distance, own.min(axis=1), atol=1e-9)


def test_the_share_of_copies_is_what_was_copied_and_five_percent_without() -> None:
    rng = np.random.default_rng(3)
    training, fresh = rng.normal(size=(1500, 8)), rng.normal(size=(1000, 8))
    usual = nearest(training, [training], itself=True)
    honest = copied_share(nearest(fresh, [training]), usual)
    assert honest.interval is not None
    assert honest.interval[0] < 0.05 < honest.interval[1]
    fresh[:300] = training[:300] + rng.normal(size=(300, 8)) * 0.01
    assert copied_share(nearest(fresh, [training]), usual).value == pytest.approx(0.3 + 0.7 * 0.05, abs=0.03)
    with pytest.raises(InputError, match="at least 20 pictures, there are 5"):
        copied_share(usual, nearest(fresh[:5], [training]))


def test_copies_are_shown_beside_their_originals(tmp_path: Path) -> None:
    for name, seeds in (("training", range(25)), ("drawn", (100, 7, 101))):
        (tmp_path / name).mkdir()
        for i, seed in enumerate(seeds):
            pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i:02}.png")
    sheet, report = tmp_path / "sheet.png", tmp_path / "report.json"
    command = ["copies", str(tmp_path / "drawn"), str(tmp_path / "training"), "--cache", str(tmp_path / "cache")]
    done = CliRunner().invoke(app, [*command, "--sheet", str(sheet), "-o", str(report)])
    assert done.exit_code == 0, (done.output, done.exception)
    found = json.loads(report.read_text())
    assert found["nearest"][0][:2] == ["01.png", "07.png"]
    assert found["nearest"][0][2] == pytest.approx(0, abs=1e-4)
    assert found["numbers"]["copies"]["value"] >= 1 / 3
    with Image.open(sheet) as picture:
        assert picture.height > 3 * 32
