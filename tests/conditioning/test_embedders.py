"""What each embedder reads, what it gives, what absent means, and what the unconditional branch keeps."""

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from darkroom.conditioning.aesthetic import AestheticScore, AestheticScoreConfig
from darkroom.conditioning.boxes import Box, Boxes, BoxesConfig, Layout
from darkroom.conditioning.class_label import ClassLabel, ClassLabelConfig
from darkroom.conditioning.conditioner import Conditioner
from darkroom.conditioning.depth import Depth, DepthMapConfig
from darkroom.conditioning.embedder import Embedder
from darkroom.conditioning.features import Vectors, VectorsConfig
from darkroom.conditioning.image_prompt import ImagePrompt, ImagePromptConfig, PromptImage
from darkroom.conditioning.low_resolution import LowResolution, LowResolutionConfig, Small
from darkroom.conditioning.masked_image import Masked, MaskedImage, MaskedImageConfig
from darkroom.conditioning.noise_level import NoiseLevels
from darkroom.conditioning.segmentation import Segmentation, SegmentationConfig
from darkroom.conditioning.size_and_crop import Numbers, NumbersConfig
from darkroom.errors import InputError
from darkroom.models.depth import DepthConfig
from darkroom.models.vision import VisionConfig
from darkroom.nn.embeddings import sinusoid
from darkroom.noise_schedule import NoiseSchedule
from darkroom.types import Size

VISION = VisionConfig(width=16, layers=1, heads=2, activation="gelu", projection=8, patch=14, image_size=28)
DEPTH = DepthConfig(
    stem=32,
    stages=(128, 128, 128),
    blocks=(1, 1, 1),
    width=16,
    layers=2,
    heads=2,
    taps=(0, 1),
    features=8,
    image_size=64,
)


def seeded(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed))


# Class


def test_a_class_is_one_token_and_its_absence_the_null_row():
    e = ClassLabel(ClassLabelConfig(rows=11, width=8, null=10))
    tokens = e(e.prepare([3, None]))
    assert tokens.shape == (2, 1, 8)
    torch.testing.assert_close(tokens[1, 0], e.table.weight[10])
    assert e.unconditional(3) is None


def test_without_a_null_row_a_class_is_required():
    e = ClassLabel(ClassLabelConfig(rows=10, width=8, null=None))
    assert e.unconditional(3) == 3
    with pytest.raises(InputError, match="0 to 9"):
        e.prepare([None])


@pytest.mark.parametrize("value", [-1, 10, "cat", True, 1.5])
def test_wrong_classes_are_named(value: object):
    with pytest.raises(InputError, match="class is"):
        ClassLabel(ClassLabelConfig(rows=10, width=8, null=None)).prepare([value])  # type: ignore[list-item]


# Boxes

BOXES = BoxesConfig(classes=352, width=16, layers=1, heads=2, head_dim=8)


def test_layout_tokens_are_those_of_the_paper():
    e = Boxes(BOXES)
    layout = Layout((Box(7, 0.0, 0.0, 1.0, 0.5), Box(3, 0.5, 0.25, 0.5, 0.25, group=True, inside=True)))
    tokens = e.tokens(layout)
    assert len(tokens) == 92
    assert tokens[:3] == [7, 0, round(0.5 * 89) * 90 + 89]
    middle = round(0.25 * 89) * 90 + round(0.5 * 89)
    assert tokens[3:6] == [3 + 352 * (1 + 8), middle, middle]
    assert tokens[6:90] == [8191] * 84
    assert tokens[90:] == [0, 89 * 90 + 89]  # the whole picture is shown


def test_fresh_corners_are_alike_where_they_are_near_and_fresh_classes_are_not():
    torch.manual_seed(0)
    boxes = Boxes(BoxesConfig(classes=20, width=64, layers=1, heads=1, head_dim=8))
    table = boxes.transformer.token_embedding.weight.detach()
    side = 90  # 90 · 90 ≤ 8192
    middle = 45 * side + 45

    def likeness(a: int, b: int) -> float:
        return float(F.cosine_similarity(table[a], table[b], dim=0))

    assert min(likeness(middle, middle + 1), likeness(middle, middle + side)) > 0.95
    assert max(abs(likeness(middle, middle + 20)), abs(likeness(middle, middle - 20 * side))) < 0.8
    assert max(abs(likeness(k, k + 1)) for k in range(19)) < 0.6


def test_no_layout_is_a_layout_without_objects():
    e = Boxes(BOXES)
    torch.testing.assert_close(e.prepare([None]), e.prepare([()]))
    assert e(e.prepare([None, [Box(1, 0, 0, 1, 1)]])).shape == (2, 92, 16)


@pytest.mark.parametrize("crop", [(-0.1, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 1.5), (0.6, 0.0, 0.5, 1.0)])
def test_a_wrong_crop_is_named(crop: tuple[float, float, float, float]):
    with pytest.raises(InputError, match=r"crop .* is wrong: expected are x0 <= x1"):
        Layout((), crop)


def test_wrong_layouts_are_named():
    with pytest.raises(InputError, match="between 0 and 1"):
        Box(0, 0.5, 0, 0.2, 1)
    with pytest.raises(InputError, match="at most 30"):
        Boxes(BOXES).prepare([[Box(0, 0, 0, 1, 1)] * 31])
    with pytest.raises(InputError, match="0 to 351"):
        Boxes(BOXES).prepare([[Box(352, 0, 0, 1, 1)]])


# Semantic map


def test_a_map_is_halved_and_mixed():
    e = Segmentation(SegmentationConfig(classes=5, channels=3, halvings=2))
    maps = torch.zeros(8, 8, dtype=torch.long)
    maps[:4, :4] = 2
    y = e(e.prepare([maps, None]))
    assert y.shape == (2, 3, 2, 2)
    torch.testing.assert_close(y[0, :, 0, 0], e.mix.weight[:, 2, 0, 0])
    torch.testing.assert_close(y[0, :, 1, 1], e.mix.weight[:, 0, 0, 0])
    assert not y[1].any()


def test_wrong_maps_are_named():
    e = Segmentation(SegmentationConfig(classes=5, channels=3, halvings=2))
    with pytest.raises(InputError, match="class 5"):
        e.prepare([torch.full((8, 8), 5)])
    with pytest.raises(InputError, match="missing"):
        e(e.prepare([None]))


# Numbers


def test_numbers_are_sinusoids_in_order():
    e = Numbers(NumbersConfig("original_size", absent=(128, 256), width=8))
    y = e(e.prepare([(512, 768), None]))
    assert e.prepare([Size(512, 768)]).tolist() == [[512, 768]]
    torch.testing.assert_close(y[0, :8], sinusoid(torch.tensor(512.0), 8))
    torch.testing.assert_close(y[0, 8:], sinusoid(torch.tensor(768.0), 8))
    torch.testing.assert_close(y[1, 8:], sinusoid(torch.tensor(256.0), 8))


@pytest.mark.parametrize("value", [(1, 2, 3), 512, "512x512", (1.5, 2), (True, 1)])
def test_wrong_sizes_are_named(value: object):
    with pytest.raises(InputError, match=r"crop is .*, expected are 2 whole numbers"):
        Numbers(NumbersConfig("crop", absent=(0, 0))).prepare([value])  # type: ignore[list-item]


def test_wrong_scores_are_named():
    with pytest.raises(InputError, match="'nice'"):
        AestheticScore(AestheticScoreConfig(6.0, 2.5)).prepare(["nice"])  # type: ignore[list-item]


def test_the_unconditional_branch_wants_an_uglier_picture():
    e = AestheticScore(AestheticScoreConfig(wished=6.0, unwished=2.5, width=8))
    y = e(e.prepare([None, e.unconditional(7.0)]))
    torch.testing.assert_close(y, sinusoid(torch.tensor([6.0, 2.5]), 8))


# Small picture


def test_noise_levels_are_those_of_the_diffusion_room():
    for kind in ("scaled_linear", "cosine"):
        expected = NoiseSchedule(kind, 0.0001, 0.02).alphas_cumprod()
        torch.testing.assert_close(NoiseLevels(kind, 0.0001, 0.02).alphas_cumprod(), expected, rtol=1e-12, atol=0)


def test_a_small_picture_is_noised_and_its_level_told():
    e = LowResolution(LowResolutionConfig(NoiseLevels("scaled_linear", 0.0001, 0.02, highest=349), default_level=20))
    image, noise = seeded(0, 3, 4, 4), seeded(1, 3, 4, 4)
    c = e(e.prepare([Small(image, 300, noise), image]))
    a = float(NoiseSchedule("scaled_linear", 0.0001, 0.02).alphas_cumprod()[300])
    torch.testing.assert_close(c.channels[0], a**0.5 * image + (1 - a) ** 0.5 * noise)
    torch.testing.assert_close(c.channels[1], image)
    assert c.vector.tolist() == [300, 20]
    with pytest.raises(InputError, match="0 to 349"):
        e.prepare([Small(image, 350, noise)])


def test_without_levels_there_is_no_vector():
    e = LowResolution(LowResolutionConfig())
    c = e(e.prepare([seeded(0, 3, 4, 4)]))
    assert c.vector is None
    assert c.channels.shape == (1, 3, 4, 4)


# Masked picture


def masked(order: str, drop_rate: float = 0.0) -> MaskedImage:
    e = MaskedImage(MaskedImageConfig(order, drop_rate))  # type: ignore[arg-type]
    e.use_first_stage(lambda images: F.avg_pool2d(images, 4))
    return e


def test_stable_diffusion_puts_the_mask_first_and_hides_in_grey():
    image, mask = torch.full((3, 8, 8), 0.5), torch.zeros(1, 8, 8)
    mask[:, :4] = 1.0
    y = masked("mask_first")(masked("mask_first").prepare([Masked(image, mask)]))
    assert y.shape == (1, 4, 2, 2)
    assert y[0, 0].tolist() == [[1, 1], [0, 0]]
    assert y[0, 1].tolist() == [[0, 0], [0.5, 0.5]]


def test_ldm_puts_the_mask_last_from_minus_one_and_hides_in_black():
    image, mask = torch.full((3, 8, 8), 0.5), torch.zeros(1, 8, 8)
    mask[:, :4] = 1.0
    y = masked("mask_last")(masked("mask_last").prepare([Masked(image, mask)]))
    assert y[0, 3].tolist() == [[1, 1], [-1, -1]]
    assert y[0, 0].tolist() == [[-1, -1], [0.5, 0.5]]


def test_masks_and_pictures_must_fit():
    with pytest.raises(InputError, match="agree in size"):
        masked("mask_first").prepare([Masked(torch.zeros(3, 8, 8), torch.zeros(1, 4, 4))])
    with pytest.raises(InputError, match="missing"):
        masked("mask_first")(masked("mask_first").prepare([None]))


# Depth


def test_depth_is_stretched_to_the_latents_size_and_range():
    e = Depth(DepthMapConfig(DEPTH, factor=8))
    ramp = torch.linspace(5, 9, 64).expand(1, 64, 64)
    y = e(e.prepare([ramp, seeded(0, 1, 64, 64), torch.ones(1, 64, 64)]))
    assert y.shape == (3, 1, 8, 8)
    torch.testing.assert_close(y.amin(dim=(1, 2, 3))[:2], -torch.ones(2))
    torch.testing.assert_close(y.amax(dim=(1, 2, 3))[:2], torch.ones(2))
    assert (y[0, 0].diff(dim=1) > 0).all()
    assert torch.isfinite(y[2]).all()  # a flat map has no range


def test_depth_is_estimated_from_a_picture():
    torch.manual_seed(0)
    e = Depth(DepthMapConfig(DEPTH, factor=8))
    nn.init.constant_(e.estimator.head3.bias, 5.0)
    y = e(e.prepare([seeded(0, 3, 64, 96)]))
    assert y.shape == (1, 1, 8, 12)
    assert y.max() == 1
    assert y.min() == -1


# Image prompt


def test_an_image_prompt_is_its_noised_embedding_and_the_level():
    e = ImagePrompt(ImagePromptConfig(VISION, NoiseLevels("cosine")))
    e.mean.fill_(0.5)
    e.std.fill_(2.0)
    embedding, noise = seeded(0, 8), seeded(1, 8)
    y = e(e.prepare([PromptImage(embedding, 700, noise), PromptImage(embedding, 30), None]))
    a = float(NoiseSchedule("cosine").alphas_cumprod()[700])
    expected = (a**0.5 * (embedding - 0.5) / 2 + (1 - a) ** 0.5 * noise) * 2 + 0.5
    torch.testing.assert_close(y[0, :8], expected)
    torch.testing.assert_close(y[0, 8:], sinusoid(torch.tensor(700.0), 8))
    torch.testing.assert_close(y[1, :8], embedding)
    assert not y[2].any()  # the level's half, too
    assert e.unconditional(embedding) is None


def test_a_picture_and_its_embedding_prompt_alike():
    torch.manual_seed(0)
    e = ImagePrompt(ImagePromptConfig(VISION, NoiseLevels("cosine")))
    image = seeded(0, 3, 40, 60)
    torch.testing.assert_close(e.prepare([image]), e.prepare([e.embed(image)]))
    with pytest.raises(InputError, match=r"\[3, H, W\] or \[8\]"):
        e.prepare([torch.zeros(9)])


# Vectors


def test_vectors_pass_and_their_absence_is_zeros():
    e = Vectors(VectorsConfig(width=4, key="neighbours"))
    y = e(e.prepare([torch.ones(2, 4), None]))
    assert y.shape == (2, 2, 4)
    assert not y[1].any()
    with pytest.raises(InputError, match="neighbours must be"):
        e.prepare([torch.ones(2, 4), torch.ones(3, 4)])


# All together


def sdxl_like() -> list[Embedder]:
    return [
        ClassLabel(ClassLabelConfig(rows=11, width=8, null=10, drop_rate=0.5)),
        Numbers(NumbersConfig("crop", absent=(0, 0), width=4)),
        AestheticScore(AestheticScoreConfig(6.0, 2.5, width=4)),
    ]


def test_slots_are_joined_in_the_order_of_the_embedders():
    conditioner = Conditioner(sdxl_like())
    c = conditioner(conditioner.prepare([{"class": 1, "crop": (3, 4)}]))
    assert c.tokens.shape == (1, 1, 8)
    torch.testing.assert_close(c.vector[0, :4], sinusoid(torch.tensor(3.0), 4))
    torch.testing.assert_close(c.vector[0, 8:], sinusoid(torch.tensor(6.0), 4))


def test_the_unconditional_branch_keeps_what_guidance_leaves_alone():
    inputs = {"class": 1, "crop": (3, 4), "aesthetic_score": 9.0}
    assert Conditioner(sdxl_like()).unconditional(inputs) == {"class": None, "crop": (3, 4), "aesthetic_score": 2.5}


def test_training_drops_each_input_at_its_own_rate():
    conditioner = Conditioner(sdxl_like())
    prepared = conditioner.prepare([{"class": 1, "crop": (3, 4)}] * 2000)
    generator = Generator().manual_seed(0)
    dropped = conditioner.drop(prepared, lambda: torch.rand(2000, generator=generator))
    assert abs((dropped["class"] == 10).float().mean() - 0.5) < 0.05
    assert (dropped["crop"] == prepared["crop"]).all()


def test_pictures_can_be_dropped_in_training():
    e = masked("mask_first", drop_rate=1.0)
    conditioner = Conditioner([e])
    prepared = conditioner.prepare([{"masked_image": Masked(torch.ones(3, 8, 8), torch.zeros(1, 8, 8))}])
    dropped = conditioner.drop(prepared, lambda: torch.rand(1))["masked_image"]
    assert (dropped[:, 3] == 1).all()
    assert not dropped[:, :3].any()
