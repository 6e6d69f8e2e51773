"""Statistics of image embeddings come from beside a single file, as the reference's do."""

from pathlib import Path

import pytest
import torch
from narrow_checkpoints import narrow, random_model
from safetensors.torch import load_file

from darkroom.checkpoints.convert import Content, write_diffusers, write_original
from darkroom.checkpoints.identify import identify
from darkroom.checkpoints.inspect import inspect
from darkroom.checkpoints.load import load_checkpoint
from darkroom.checkpoints.source import open_source
from darkroom.checkpoints.statistics import STATISTICS, embedding_statistic, statistics_beside
from darkroom.errors import InputError

NAME = "sd-v2-1-unclip-l"
MEAN, STD = torch.linspace(-1, 1, 24), torch.linspace(0.5, 2, 24)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """As it was released: without statistics."""
    content = Content.of_model(random_model(NAME))
    tensors = {n: t for n, t in content.tensors.items() if not n.endswith(("image_prompt.mean", "image_prompt.std"))}
    write_original(Content(content.system, tensors, {}, {}), tmp_path / "unclip-l.safetensors")
    return tmp_path / "unclip-l.safetensors"


@pytest.mark.parametrize("place", [".", "karlo_models"])
def test_they_are_read_from_beside_the_file_and_go_with_it(tmp_path: Path, file: Path, place: str) -> None:
    plain = load_checkpoint(file, system=narrow(NAME)).model.conditioner.embedders["image_prompt"]
    assert not plain.mean.any()
    assert (plain.std == 1).all()
    (tmp_path / place).mkdir(exist_ok=True)
    torch.save((MEAN[None], STD[None]), tmp_path / place / STATISTICS)
    found = load_checkpoint(file, torch.float16, system=narrow(NAME)).model.conditioner.embedders["image_prompt"]
    assert torch.equal(found.mean, MEAN.half())
    assert torch.equal(found.std, STD.half())
    source = open_source(file)
    write_diffusers(Content.of_source(source, identify(source, system=narrow(NAME))), tmp_path / "folder")
    assert torch.equal(
        load_file(tmp_path / "folder/image_normalizer/diffusion_pytorch_model.safetensors")["std"][0], STD
    )


def test_statistics_of_another_width_are_not_meant(tmp_path: Path) -> None:
    torch.save((MEAN, STD), tmp_path / STATISTICS)
    assert statistics_beside(tmp_path, 25) is None
    assert torch.equal(embedding_statistic("a.std", 25, tmp_path), torch.ones(25))


def test_damaged_statistics_are_an_error(tmp_path: Path) -> None:
    torch.save({"a": MEAN}, tmp_path / STATISTICS)
    with pytest.raises(InputError, match="does not hold a mean and a deviation"):
        statistics_beside(tmp_path, 24)
    torch.save((MEAN * torch.nan, STD), tmp_path / STATISTICS)
    with pytest.raises(InputError, match="NaN"):
        statistics_beside(tmp_path, 24)


def test_inspect_tells_of_them(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from darkroom.checkpoints import identify as identify_module

    monkeypatch.setattr(identify_module, "SYSTEMS", {NAME: narrow(NAME)})
    assert inspect(file, hashed=False)["embedding statistics"] == "0 and 1"
    torch.save((MEAN, STD), tmp_path / STATISTICS)
    assert inspect(file, hashed=False)["embedding statistics"].endswith(STATISTICS)
