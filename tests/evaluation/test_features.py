"""Feature networks against their definitions and peers, on random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model

from darkroom.checkpoints.feature_networks import load_inception
from darkroom.errors import InputError
from darkroom.evaluation.features import FeatureNetwork, center_square, open_features, resized
from darkroom.models.dino import MEAN as DINO_MEAN
from darkroom.models.dino import STD as DINO_STD
from darkroom.models.inception import Inception
from darkroom.models.vision import MEAN, STD

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    state = Inception().state_dict()
    for name, tensor in state.items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith(("running_mean", "bn.bias")):
            tensor.normal_(0, 0.1)
    path = tmp_path_factory.mktemp("inception") / "pt_inception-2015-12-05.pth"
    torch.save(state, path)
    return path


class Definition:
    """The graph of 2015-12-05, operation by operation, over the tensors of the released file."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def conv(self, name: str, x: Tensor, stride: int = 1, padding: tuple[int, int] | int = 0) -> Tensor:
        s = self.state
        x = F.conv2d(x, s[f"{name}.conv.weight"], None, stride, padding)
        scale = s[f"{name}.bn.weight"] / (s[f"{name}.bn.running_var"] + 0.001).sqrt()
        shift = s[f"{name}.bn.bias"] - s[f"{name}.bn.running_mean"] * scale
        return (x * scale[:, None, None] + shift[:, None, None]).relu()

    def mean(self, x: Tensor) -> Tensor:
        """Over what lies in the picture: the border's cells have fewer neighbors."""
        ones = F.avg_pool2d(torch.ones_like(x), 3, 1, 1)
        return F.avg_pool2d(x, 3, 1, 1) / ones

    def a(self, m: str, x: Tensor) -> Tensor:
        five = self.conv(f"{m}.branch5x5_2", self.conv(f"{m}.branch5x5_1", x), padding=2)
        three = self.conv(f"{m}.branch3x3dbl_2", self.conv(f"{m}.branch3x3dbl_1", x), padding=1)
        three = self.conv(f"{m}.branch3x3dbl_3", three, padding=1)
        return torch.cat(
            [self.conv(f"{m}.branch1x1", x), five, three, self.conv(f"{m}.branch_pool", self.mean(x))], dim=1
        )

    def c(self, m: str, x: Tensor) -> Tensor:
        once = self.conv(f"{m}.branch7x7_1", x)
        once = self.conv(f"{m}.branch7x7_2", once, padding=(0, 3))
        once = self.conv(f"{m}.branch7x7_3", once, padding=(3, 0))
        twice = self.conv(f"{m}.branch7x7dbl_1", x)
        for i, padding in ((2, (3, 0)), (3, (0, 3)), (4, (3, 0)), (5, (0, 3))):
            twice = self.conv(f"{m}.branch7x7dbl_{i}", twice, padding=padding)
        return torch.cat(
            [self.conv(f"{m}.branch1x1", x), once, twice, self.conv(f"{m}.branch_pool", self.mean(x))], dim=1
        )

    def e(self, m: str, x: Tensor, pooled: Tensor) -> Tensor:
        three = self.conv(f"{m}.branch3x3_1", x)
        twice = self.conv(f"{m}.branch3x3dbl_2", self.conv(f"{m}.branch3x3dbl_1", x), padding=1)
        return torch.cat(
            [
                self.conv(f"{m}.branch1x1", x),
                self.conv(f"{m}.branch3x3_2a", three, padding=(0, 1)),
                self.conv(f"{m}.branch3x3_2b", three, padding=(1, 0)),
                self.conv(f"{m}.branch3x3dbl_3a", twice, padding=(0, 1)),
                self.conv(f"{m}.branch3x3dbl_3b", twice, padding=(1, 0)),
                self.conv(f"{m}.branch_pool", pooled),
            ],
            dim=1,
        )

    def __call__(self, x: Tensor) -> Tensor:
        x = self.conv("Conv2d_2a_3x3", self.conv("Conv2d_1a_3x3", x, stride=2))
        x = F.max_pool2d(self.conv("Conv2d_2b_3x3", x, padding=1), 3, 2)
        x = F.max_pool2d(self.conv("Conv2d_4a_3x3", self.conv("Conv2d_3b_1x1", x)), 3, 2)
        for m in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
            x = self.a(m, x)
        m = "Mixed_6a"
        double = self.conv(f"{m}.branch3x3dbl_2", self.conv(f"{m}.branch3x3dbl_1", x), padding=1)
        double = self.conv(f"{m}.branch3x3dbl_3", double, stride=2)
        x = torch.cat([self.conv(f"{m}.branch3x3", x, stride=2), double, F.max_pool2d(x, 3, 2)], dim=1)
        for m in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
            x = self.c(m, x)
        m = "Mixed_7a"
        three = self.conv(f"{m}.branch3x3_2", self.conv(f"{m}.branch3x3_1", x), stride=2)
        seven = self.conv(f"{m}.branch7x7x3_2", self.conv(f"{m}.branch7x7x3_1", x), padding=(0, 3))
        seven = self.conv(f"{m}.branch7x7x3_4", self.conv(f"{m}.branch7x7x3_3", seven, padding=(3, 0)), stride=2)
        x = torch.cat([three, seven, F.max_pool2d(x, 3, 2)], dim=1)
        x = self.e("Mixed_7b", x, self.mean(x))
        x = self.e("Mixed_7c", x, F.max_pool2d(x, 3, 1, 1))
        return x.mean(dim=(2, 3))


def pictures(*shape: int) -> tuple[np.ndarray, Tensor]:
    """uint8 (B, H, W, 3), smooth enough that a resize has something to keep; and the same in [−1, 1]."""
    small = RNG.integers(0, 256, (shape[0], 6, 6, 3)).astype(np.uint8)
    pixels = np.stack([np.asarray(Image.fromarray(p).resize(shape[2:0:-1], Image.Resampling.BICUBIC)) for p in small])
    return pixels, torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def test_inception_is_its_definition(inception_file: Path) -> None:
    """Features to 1e-4 of the largest, float32 on both sides; the classes are a product without bias."""
    network = open_features(f"inception={inception_file}")
    pixels, images = pictures(2, 64, 48)
    channels = [
        np.stack([np.asarray(Image.fromarray(p[..., c].astype(np.float32)).resize((299, 299), 3)) for c in range(3)])
        for p in pixels
    ]
    state = torch.load(inception_file)
    expected = Definition(state)((torch.from_numpy(np.stack(channels)) - 128) / 128)
    found = network(images)
    assert found.shape == (2, 2048)
    assert np.abs(found - expected.numpy()).max() < 1e-4 * expected.abs().max()
    assert network.classes is not None
    probabilities = (expected @ state["fc.weight"].T).softmax(dim=1)
    np.testing.assert_allclose(network.classes(found), probabilities.numpy(), atol=1e-4)


def test_other_weights_are_refused_by_name(inception_file: Path, tmp_path: Path) -> None:
    state = torch.load(inception_file)
    del state["Mixed_6c.branch7x7_2.conv.weight"]
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"Mixed_6c\.branch7x7_2\.conv\.weight"):
        load_inception(tmp_path / "x.pth")
    with pytest.raises(InputError, match="inception needs its weights, expected is inception=PATH"):
        open_features("inception")
    with pytest.raises(InputError, match="unknown feature network 'incepton'; known are: inception"):
        open_features("incepton=x")


@pytest.mark.parametrize("size", [(20, 33), (100, 40), (64, 64)])
def test_the_resize_is_pillows_without_rounding(size: tuple[int, int]) -> None:
    """Up and down, to 0.01 of 255."""
    pixels, images = pictures(1, 64, 48)
    found = (resized(images, *size)[0] + 1) * 127.5
    for c in range(3):
        theirs = np.asarray(Image.fromarray(pixels[0, ..., c].astype(np.float32)).resize(size[::-1], 3))
        assert np.abs(found[c].numpy() - theirs).max() < 0.01


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("clip")
    shared = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    config = CLIPConfig(
        text_config={**shared, "vocab_size": 49408, "eos_token_id": 49407, "bos_token_id": 49406},
        vision_config={**shared, "image_size": 28, "patch_size": 14, "hidden_act": "gelu"},
        projection_dim=16,
    )
    CLIPModel(config).eval().save_pretrained(folder)
    return folder


@torch.no_grad()
def test_clip_is_transformers(clip_folder: Path) -> None:
    """Embeddings of pictures and of texts to 1e-5 on random weights."""
    peer = CLIPModel.from_pretrained(clip_folder).eval()
    network = open_features(f"clip={clip_folder}")
    _, images = pictures(3, 28, 28)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    outputs = peer.vision_model(((images + 1) / 2 - mean) / std)
    expected = peer.visual_projection(outputs.pooler_output)
    np.testing.assert_allclose(network(images), expected.numpy(), atol=1e-5)
    assert network.law == "bicubic with antialiasing to 28, the middle square"


def test_the_middle_square_keeps_the_middle() -> None:
    _, images = pictures(1, 40, 80)
    assert torch.allclose(center_square(images, 20), resized(images, 20, 40).clamp(-1, 1)[..., 10:30])


@torch.no_grad()
def test_dinov2_is_transformers(tmp_path: Path) -> None:
    torch.manual_seed(2)
    config = Dinov2Config(hidden_size=64, num_hidden_layers=2, num_attention_heads=1, image_size=224, patch_size=14)
    peer = Dinov2Model(config).eval()
    peer.save_pretrained(tmp_path)
    network = open_features(f"dinov2={tmp_path}")
    _, images = pictures(2, 224, 224)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (DINO_MEAN, DINO_STD))
    expected = peer(((images + 1) / 2 - mean) / std).last_hidden_state[:, 0]
    np.testing.assert_allclose(network(images), expected.numpy(), atol=1e-4)


def test_the_judge_classifies_surroundings() -> None:
    network: FeatureNetwork = open_features("judge")
    _, images = pictures(2, 32, 32)
    assert network.classes is not None
    rows = network.classes(network(images))
    assert rows.shape == (2, 36)  # sky, ground, background
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)
