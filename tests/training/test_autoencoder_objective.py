import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from contexts import context, first_places
from safetensors.torch import save_file
from torch import nn

from darkroom.checkpoints.native import write_network
from darkroom.data.source import PictureBookConfig
from darkroom.errors import InputError
from darkroom.models.autoencoder import Autoencoder, AutoencoderConfig
from darkroom.models.bottleneck import KLConfig, VQConfig
from darkroom.models.classifier import Classifier, ClassifierConfig
from darkroom.models.judge import Judge, JudgeConfig
from darkroom.models.lpips import LPIPS
from darkroom.models.perceptual import feature_distance
from darkroom.systems.build import LatentDiffusion
from darkroom.training.autoencoder import (
    AutoencoderObjective,
    AutoencoderRecipe,
    ErrorVariance,
    adaptive_weight,
    discriminator_loss,
    gradient_loss,
)
from darkroom.training.config import LoopConfig
from darkroom.training.first_codes import begin_codes, pictures_for_codes
from darkroom.training.loop import train
from darkroom.training.perceptual import load_distance
from darkroom.training.validation import ValidationConfig

MODEL = AutoencoderConfig(32, (1, 1), 1, 1, (False, False), False, 4, 4, KLConfig(), patch_size=2)


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = Classifier(ClassifierConfig(("a", "b"), 4))
    write_network(tmp_path / "classifier.safetensors", network, network.config, {})
    return tmp_path / "classifier.safetensors"


def recipe(perceptual: Path | None, **changes: object) -> AutoencoderRecipe:
    loop = LoopConfig(steps=25, batch_size=4, lr=3e-3, precision="fp32", log_every=1, save_every=25, sample_every=25)
    plain = AutoencoderRecipe(
        loop=loop, data=PictureBookConfig(32, 40), perceptual=perceptual, perceptual_weight=0.1, kl_weight=1e-6,
        discriminator_start=15, discriminator_layers=2, discriminator_channels=8, model=MODEL,
    )  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_it_learns_to_reconstruct_and_exports(classifier: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    r = recipe(classifier)
    r = replace(r, loop=replace(r.loop, steps=100, sample_every=100, lr=1e-3), discriminator_start=90)
    r = replace(r, validation=ValidationConfig(share=0.1, every=50, count=4))
    objective = AutoencoderObjective(r)
    images = objective.batch(first_places(objective.reader, 8))
    before = (objective.autoencoder(images) - images).abs().mean()
    train(objective, r.loop, tmp_path / "run", recipe=r)
    after = (objective.autoencoder.eval()(images) - images).abs().mean()
    assert after < 0.7 * before
    assert (tmp_path / "run" / "export" / "autoencoder.safetensors").exists()
    assert (tmp_path / "run" / "samples" / "0000100.png").exists()
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    validated = [line for line in lines if "validation/loss" in line]
    assert [line["step"] for line in validated] == [50, 100]
    assert validated[1]["validation/loss"] < validated[0]["validation/loss"]
    assert validated[1]["validation/PSNR"] > validated[0]["validation/PSNR"]
    log = [line for line in lines if "lr" in line]
    assert "loss/discriminator" not in log[88]
    assert "loss/discriminator" in log[95]
    assert "adaptive weight" in log[95]


def test_a_decoder_trains_on_alone(classifier: Path, tmp_path: Path) -> None:
    loop = replace(recipe(None).loop, steps=5)
    first = recipe(classifier, loop=loop)
    train(AutoencoderObjective(first), first.loop, tmp_path / "first", recipe=first)
    r = recipe(
        None,
        loop=loop,
        init_from=str(tmp_path / "first" / "export" / "autoencoder.safetensors"),
        decoder_only=True,
        latent_noise=0.5,
    )
    objective = AutoencoderObjective(r)
    images = objective.batch(first_places(objective.reader, 4))
    latents, decoded = objective.autoencoder.encode(images), objective.autoencoder(images)
    train(objective, r.loop, tmp_path / "second", recipe=r)
    objective.autoencoder.eval()
    assert torch.equal(objective.autoencoder.encode(images), latents)
    assert not torch.allclose(objective.autoencoder(images), decoded, atol=1e-3)


def test_gradients_of_pictures_are_compared_at_two_sizes() -> None:
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert float(gradient_loss(images, images + 0.3)) == pytest.approx(0.0, abs=1e-6)  # a constant has no gradient
    step = torch.zeros_like(images)
    step[..., 4:] = 1.0  # one edge: 1 of 7 differences across at full size, 1 of 3 at half size, none along it
    assert float(gradient_loss(images, images + step)) == pytest.approx((1 / 7 + 1 / 3) / 4, abs=1e-6)


def test_squared_errors_and_gradients_join_the_loss(tmp_path: Path) -> None:
    r = recipe(None, squared_weight=2.0, gradient_weight=0.5, discriminator_start=100)
    objective = AutoencoderObjective(r)
    places = first_places(objective.reader, 2)
    batch = objective.batch(places)
    torch.manual_seed(0)
    more = next(AutoencoderObjective(r).losses(batch, context(places)))
    torch.manual_seed(0)
    plain = replace(r, squared_weight=0.0, gradient_weight=0.0)
    less = next(AutoencoderObjective(plain).losses(batch, context(places)))
    assert more.value.item() > less.value.item() + 2 * float(torch.as_tensor(more.log["squared"]))
    assert "squared" not in less.log


def test_the_squared_error_may_stand_alone() -> None:
    r = recipe(None, absolute_weight=0.0, squared_weight=2.0, kl_weight=0.0, discriminator_start=100)
    objective = AutoencoderObjective(r)
    places = first_places(objective.reader, 2)
    loss = next(objective.losses(objective.batch(places), context(places)))
    assert loss.value.item() == pytest.approx(2 * float(torch.as_tensor(loss.log["squared"])), rel=1e-6)


def test_the_discriminator_s_losses_are_the_papers() -> None:
    generator = np.random.default_rng(0)
    real, fake = generator.normal(size=(2, 1, 3, 3)) * 2, generator.normal(size=(2, 1, 3, 3)) * 2
    hinge = 0.5 * (np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean())
    chance = 1 / (1 + np.exp(-real)), 1 / (1 + np.exp(-fake))  # that a picture is taken for a true one
    vanilla = -0.5 * (np.log(chance[0]).mean() + np.log(1 - chance[1]).mean())
    logits = torch.from_numpy(real), torch.from_numpy(fake)
    assert float(discriminator_loss(*logits, "hinge")) == pytest.approx(hinge, rel=1e-12)
    assert float(discriminator_loss(*logits, "vanilla")) == pytest.approx(vanilla, rel=1e-12)


def test_the_learned_variance_comes_to_the_mean_error() -> None:
    variance, errors = ErrorVariance().double(), torch.tensor([0.1, 0.5], dtype=torch.float64)
    assert torch.equal(variance(errors), errors)  # zero at first: nothing is changed
    with torch.no_grad():
        variance.log.fill_(math.log(0.3))
    value = variance(errors).mean()
    value.backward()
    assert value.item() == pytest.approx(1 + math.log(0.3), rel=1e-12)
    assert variance.log.grad is not None
    assert float(variance.log.grad) == pytest.approx(0.0, abs=1e-12)  # the least of all values


def test_the_variance_learns_and_weighs_the_reconstruction_alone() -> None:
    r = recipe(None, learned_variance=True, discriminator_start=0, discriminator_loss="vanilla")
    objective = AutoencoderObjective(r)
    assert any(p is objective.trained["variance"].log for p in objective.optimizers()["autoencoder"])
    places = first_places(objective.reader, 2)
    autoencoder, discriminator = objective.losses(objective.batch(places), context(places))
    autoencoder.value.backward()
    log, l1 = objective.trained["variance"].log, float(torch.as_tensor(autoencoder.log["l1"]))
    assert float(log.grad) == pytest.approx(1 - l1, rel=1e-5)  # the derivative of l1 / exp(s) + s at 0
    assert discriminator.value.item() == pytest.approx(math.log(2), rel=0.5)  # logits near zero


def test_a_stage_that_corrects_its_pictures_goes_on_from_one_that_does_not(tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = AutoencoderObjective(recipe(None))
    write_network(tmp_path / "plain.safetensors", plain.autoencoder, MODEL, {})
    grown = AutoencoderObjective(
        recipe(None, init_from=str(tmp_path / "plain.safetensors"), model=replace(MODEL, refine_channels=6))
    )
    images = plain.batch(first_places(plain.reader, 2))
    assert torch.allclose(grown.autoencoder.eval()(images), plain.autoencoder.eval()(images), atol=0.02)  # bf16 file
    with pytest.raises(InputError, match=r"its channel_mult is \(1, 1\), expected is \(1, 2\)"):
        AutoencoderObjective(
            recipe(
                None,
                init_from=str(tmp_path / "plain.safetensors"),
                model=replace(MODEL, channel_mult=(1, 2), refine_channels=6),
            )
        )


def test_it_goes_on_from_the_first_stage_of_a_model(tiny_folder: Path, tiny_model: LatentDiffusion) -> None:
    stage = tiny_model.autoencoder
    objective = AutoencoderObjective(recipe(None, init_from=str(tiny_folder), model=stage.config))
    for name, tensor in stage.state_dict().items():
        assert torch.equal(objective.autoencoder.state_dict()[name], tensor)


def test_exported_latents_have_unit_variance_unless_the_decoder_trained_alone(tmp_path: Path) -> None:
    objective = AutoencoderObjective(recipe(None))
    images = torch.cat([objective.batch(objective.reader.order.batch(i)) for i in range(10)])
    before = objective.autoencoder.encode(images)
    objective.export(tmp_path, {})
    standard = objective.autoencoder.encode(images)
    assert torch.allclose(standard.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-3)
    assert not torch.allclose(before, standard)
    r = recipe(None, init_from=str(tmp_path / "autoencoder.safetensors"), decoder_only=True)
    alone = AutoencoderObjective(r)
    before = alone.autoencoder.encode(images)
    alone.export(tmp_path / "alone", {})
    assert torch.equal(alone.autoencoder.encode(images), before)


def test_a_codebook_trains_too(tmp_path: Path) -> None:
    r = recipe(None, model=replace(MODEL, bottleneck=VQConfig(32)), discriminator_start=100)
    train(AutoencoderObjective(r), r.loop, tmp_path, recipe=r)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    used = [line["codes in use"] for line in lines if "codes in use" in line]
    assert used[0] > 20, "of 32: the codes begin where latents are"
    assert used[-1] > 5, "and are still of use when the latents have moved"


def test_a_fresh_codebook_lies_where_latents_are() -> None:
    torch.manual_seed(0)
    stage = Autoencoder(replace(MODEL, bottleneck=VQConfig(32)))
    assert stage.quantizer is not None
    images = torch.rand(pictures_for_codes(stage, 32 * 32), 3, 32, 32) * 2 - 1
    far = stage.quantizer(stage.moments(images)).perplexity
    begin_codes(stage, images)
    latents = stage.moments(images)
    assert torch.allclose(latents.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-5)
    assert torch.allclose(latents.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-4)
    assert stage.quantizer(latents).perplexity > 20 > 4 * far
    assert len(stage.quantizer.embedding.weight.unique(dim=0)) == 32


def test_the_adaptive_weight_is_the_ratio_of_gradient_norms() -> None:
    w = nn.Parameter(torch.tensor([3.0, 4.0]))
    weight = adaptive_weight((w * torch.tensor([6.0, 8.0])).sum(), (w * torch.tensor([0.0, 2.0])).sum(), w)
    assert float(weight) == pytest.approx(10 / (2 + 1e-4))
    assert not weight.requires_grad


def test_the_distance_is_zero_for_equal_pictures_and_feeds_back_to_the_second(classifier: Path) -> None:
    distance = load_distance(classifier)
    a, b = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32, requires_grad=True)
    assert distance(a, a).abs().max() < 1e-6
    distance(a, b).sum().backward()
    assert b.grad is not None
    assert b.grad.abs().sum() > 0


def test_lpips_is_found_alone_or_within_a_first_stage(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = LPIPS()
    with torch.no_grad():
        for p in network.parameters():
            p.abs_().mul_(0.5)
    state = network.state_dict()
    save_file(state, tmp_path / "alone.safetensors")
    save_file({f"loss.perceptual_loss.{k}": v for k, v in state.items()}, tmp_path / "within.safetensors")
    a, b = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    expected = network(a, b)
    assert expected.min() > 0
    for name in ("alone", "within"):
        assert torch.allclose(load_distance(tmp_path / f"{name}.safetensors")(a, b), expected, rtol=1e-4)
    # By its definition, map for map, with all weights one: the plain feature distance.
    with torch.no_grad():
        for i in range(5):
            network.get_submodule(f"lin{i}.model.1").weight.fill_(1.0)  # type: ignore[union-attr, operator]
    assert torch.allclose(network(a, b), feature_distance(network.features, a, b), rtol=1e-4)


def test_other_files_are_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="neither LPIPS weights nor a classifier"):
        load_distance(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="there is no file"):
        load_distance(tmp_path / "absent.safetensors")


def test_the_judge_trains_nobody(tmp_path: Path) -> None:
    """What trains a model may not grade it: the judge's file is no perceptual network."""
    config = JudgeConfig(("cat",), ("red",), 1, {"sky": ("day",)}, 4)
    write_network(tmp_path / "judge.safetensors", Judge(config), config, {})
    with pytest.raises(InputError, match=r"judge.safetensors: unknown key kinds"):
        load_distance(tmp_path / "judge.safetensors")


def test_a_first_stage_of_another_shape_is_not_gone_on_from(tmp_path: Path) -> None:
    other = replace(MODEL, channels=64)
    write_network(tmp_path / "other.safetensors", Autoencoder(other), other, {})
    with pytest.raises(InputError, match=r"holds another network: its channels is 64, expected is 32"):
        AutoencoderObjective(recipe(None, init_from=str(tmp_path / "other.safetensors")))


def test_a_model_that_cannot_be_built_is_the_recipes_fault() -> None:
    with pytest.raises(InputError, match="the model of the recipe cannot be built"):
        AutoencoderObjective(recipe(None, model=replace(MODEL, channels=33)))
