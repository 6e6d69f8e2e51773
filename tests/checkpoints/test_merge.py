"""Sums of models and of LoRAs are those that torch computes; what does not go together is one sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from narrow_checkpoints import narrow, random_model, randomise
from safetensors.torch import load_file, save_file
from torch import Tensor

import darkroom
from darkroom.checkpoints.convert import Content, write_diffusers, write_original
from darkroom.checkpoints.load import load_checkpoint
from darkroom.checkpoints.locate import locate
from darkroom.checkpoints.lora import Lora, read_lora, write_lora
from darkroom.checkpoints.lora_names import kohya_names
from darkroom.checkpoints.lora_sum import sum_loras
from darkroom.checkpoints.merge import Summand, merge, system_called
from darkroom.checkpoints.native import load_system, save_adapted, save_system
from darkroom.checkpoints.open_file import open_weights
from darkroom.diffusion.prediction import Prediction
from darkroom.errors import InputError
from darkroom.nn.lora import Adapter, Full, Hadamard, Kronecker, LowRank, WithBias
from darkroom.systems import SYSTEMS
from darkroom.systems.build import LatentDiffusion, build
from darkroom.systems.system import System

NAME = "sd-v1-5"
LINEAR, CONVOLUTION = "unet.down.0.attentions.0.blocks.0.attn1.to_q", "unet.down.0.blocks.0.conv1"


@pytest.fixture(autouse=True)
def narrow_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogue with narrow systems in place of the full ones."""
    for name in (NAME, "sd-v2-1-base", "sd-v2-1-768-v"):
        monkeypatch.setitem(SYSTEMS._entries, name, narrow(name))


def model_of(seed: int, name: str = NAME) -> LatentDiffusion:
    model = build(narrow(name))
    randomise(model, seed)
    return model


def summand(path: Path, weight: float) -> Summand:
    return Summand(str(path), path, weight)


def state_of(path: Path) -> dict[str, Tensor]:
    return load_checkpoint(path).model.state_dict()


def torch_sum(states: list[dict[str, Tensor]], weights: list[float]) -> dict[str, Tensor]:
    sums = {}
    for name, first in states[0].items():
        sums[name] = first
        if first.is_floating_point():
            sums[name] = first.float() * weights[0]
            for state, weight in zip(states[1:], weights[1:]):
                sums[name] = sums[name] + state[name].float() * weight
    return sums


@pytest.mark.parametrize("weights", [[0.5, 0.5], [1.0, 0.7, -0.7]])
def test_checkpoints_of_both_layouts_into_both(tmp_path: Path, weights: list[float]) -> None:
    models = [model_of(seed) for seed in range(len(weights))]
    paths = [tmp_path / "a.safetensors", tmp_path / "b", tmp_path / "c.safetensors"]
    extra = {"model_ema.decay": torch.tensor(0.9)}
    for model, path in zip(models, paths):
        content = Content.of_model(model)
        write_original(content, path) if path.suffix else write_diffusers(content, path)
    notes = {"modelspec.author": "somebody", "modelspec.hash_sha256": "0x12", **open_weights(paths[0]).metadata}
    save_file({**load_file(paths[0]), **extra}, paths[0], metadata=notes)
    wanted = torch_sum([model.state_dict() for model in models], weights)
    summands = [summand(path, weight) for path, weight in zip(paths, weights)]
    for out in (tmp_path / "mix.safetensors", tmp_path / "mix"):
        (said,) = [line for line in merge(out, summands) if not line.startswith("note: ")]
        assert said.startswith(f"sd-v1-5: a.safetensors {weights[0]}, b {weights[1]}")
        found = state_of(out)
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert load_file(tmp_path / "mix.safetensors")["model_ema.decay"] == extra["model_ema.decay"]
    for path in (tmp_path / "mix.safetensors", tmp_path / "mix" / "original_unused.safetensors"):
        metadata = open_weights(path).metadata
        assert metadata["modelspec.merged_from"].startswith(f"a.safetensors {weights[0]}, b {weights[1]}")
        assert metadata["modelspec.author"] == "somebody"
        assert "modelspec.hash_sha256" not in metadata


def test_kinds_of_numbers(tmp_path: Path, file: Path) -> None:
    """Those of the first part, or the ones asked for; whole numbers stay."""
    half = tmp_path / "half.safetensors"
    save_file({n: t.half() if t.is_floating_point() else t for n, t in load_file(file).items()}, half)
    merge(tmp_path / "one.safetensors", [summand(half, 0.25), summand(file, 0.75)])
    merge(tmp_path / "two.safetensors", [summand(half, 0.25), summand(file, 0.75)], dtype=torch.bfloat16)
    stored, exact = load_file(half), load_file(file)
    for path, kind in (("one", torch.float16), ("two", torch.bfloat16)):
        for name, tensor in load_file(tmp_path / f"{path}.safetensors").items():
            whole = not stored[name].is_floating_point()
            wanted = stored[name] if whole else (stored[name].float() * 0.25 + exact[name] * 0.75).to(kind)
            assert torch.equal(tensor, wanted)


def test_a_part_may_be_replaced_by_the_sum(tmp_path: Path, file: Path) -> None:
    other = tmp_path / "other.safetensors"
    write_original(Content.of_model(model_of(1)), other)
    wanted = torch_sum([state_of(file), model_of(1).state_dict()], [0.3, 0.7])
    merge(file, [summand(file, 0.3), summand(other, 0.7)], force=True)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in state_of(file).items())


def test_folders_of_this_project(tmp_path: Path) -> None:
    models = [model_of(0), model_of(1)]
    models[1].system = replace(models[1].system, title="Another", name="another")
    folders = [tmp_path / "a", tmp_path / "b" / "export"]  # the second one is a run's
    for folder, model in zip(folders, models):
        save_system(model, folder, {}, torch.float32)
    merge(tmp_path / "mix", [summand(folder, weight) for folder, weight in zip(folders, (1.5, -0.5))])
    mixed = load_system(tmp_path / "mix")
    assert mixed.system == models[0].system
    assert json.loads((tmp_path / "mix" / "system.json").read_text())["training"] == {"merged_from": "a 1.5, b -0.5"}
    wanted = torch_sum([model.state_dict() for model in models], [1.5, -0.5])
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in mixed.state_dict().items())


def test_an_infinite_sum_leaves_nothing(tmp_path: Path, file: Path) -> None:
    large = [summand(file, 1e7), summand(file, 1 - 1e7)]
    before = sorted(path.name for path in tmp_path.iterdir())
    tensors = load_file(file)
    tensors["model.diffusion_model.out.2.bias"][0] = 1e35
    save_file(tensors, file)
    for out in ("x.safetensors", "folder"):
        with pytest.raises(InputError, match=r"the sum of unet\.\S+ holds NaN or infinite values, or does not fit"):
            merge(tmp_path / out, large)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def low_rank(module: str, rank: int, alpha: float, seed: int, system: System | None = None) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    shape = build(system or narrow(NAME), "meta").get_parameter(f"{module}.weight").shape
    up = torch.randn(shape[0], rank, *[1] * (len(shape) - 2), generator=generator)
    return LowRank(torch.randn(rank, *shape[1:], generator=generator) * 0.1, up, scale=alpha / rank)


def lora_file(path: Path, adapters: Mapping[str, Adapter], dtype: torch.dtype = torch.float32) -> Path:
    write_lora(path, adapters, narrow(NAME), {}, dtype)
    return path


def test_the_sum_of_loras_changes_as_much_as_they_together(tmp_path: Path) -> None:
    """Layers of one alone are kept; ranks and alphas differ; keys are kohya's."""
    one = {LINEAR: low_rank(LINEAR, 2, 1, 0), CONVOLUTION: low_rank(CONVOLUTION, 3, 6, 1)}
    other = {LINEAR: low_rank(LINEAR, 4, 3, 2), CONVOLUTION: low_rank(CONVOLUTION, 1, 0.5, 3)}
    alone = "unet.down.0.blocks.0.conv2"
    other[alone] = low_rank(alone, 2, 2, 4)
    files = [lora_file(tmp_path / "one.safetensors", one), lora_file(tmp_path / "other.safetensors", other)]
    out = tmp_path / "mix.safetensors"
    (said,) = merge(out, [summand(files[0], 0.8), summand(files[1], -1.5)])
    assert said.endswith(f"{out} (3 layers of rank 2/4/6)")
    found = read_lora(out, narrow(NAME)).adapters
    assert set(found) == {LINEAR, CONVOLUTION, alone}
    for module, adapter in found.items():
        assert isinstance(adapter, LowRank)
        weight = random_model(NAME).get_parameter(f"{module}.weight")
        parts = [(lora[module], w) for lora, w in ((one, 0.8), (other, -1.5)) if module in lora]
        wanted = torch.stack([part.difference(weight) * w for part, w in parts]).sum(0)
        torch.testing.assert_close(adapter.difference(weight), wanted, rtol=1e-5, atol=1e-5)
        assert adapter.scale == 1
    tensors = load_file(out)
    key = kohya_names(narrow(NAME))[LINEAR]
    assert key == "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    assert tensors[f"{key}.alpha"] == len(tensors[f"{key}.lora_down.weight"]) == 6
    assert open_weights(out).metadata["modelspec.merged_from"] == "one.safetensors 0.8, other.safetensors -1.5"


def test_numbers_of_loras_are_as_in_the_first(tmp_path: Path) -> None:
    adapters = {LINEAR: low_rank(LINEAR, 2, 1, 0)}
    half = lora_file(tmp_path / "half.safetensors", adapters, torch.bfloat16)
    full = lora_file(tmp_path / "full.safetensors", adapters)
    for out, dtype, kind in (("a", None, torch.bfloat16), ("b", torch.float16, torch.float16)):
        merge(tmp_path / f"{out}.safetensors", [summand(half, 1), summand(full, 1)], dtype=dtype)
        assert {t.dtype for t in load_file(tmp_path / f"{out}.safetensors").values()} == {kind}
    with pytest.raises(InputError, match=r"the sum of unet\.\S+ holds NaN or infinite values, or does not fit into"):
        merge(tmp_path / "c.safetensors", [summand(half, 1e15), summand(full, 1)], dtype=torch.float16)
    assert not (tmp_path / "c.safetensors").exists()


@pytest.mark.parametrize("module", [LINEAR, CONVOLUTION])
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_the_cut_is_the_best_there_is(tmp_path: Path, module: str, rank: int) -> None:
    """Eckart and Young: the sum of the largest singular values of the whole matrix."""
    parts = [low_rank(module, 4, 2, 0), low_rank(module, 3, 5, 1)]
    loras = [(Lora(tmp_path, {module: part}, {}), weight) for part, weight in zip(parts, (0.7, -0.4))]
    total = sum_loras(loras, narrow(NAME), rank)
    whole = 0.7 * parts[0].product() * parts[0].scale - 0.4 * parts[1].product() * parts[1].scale
    left, strengths, right = torch.linalg.svd(whole, full_matrices=False)
    best = left[:, :rank] * strengths[:rank] @ right[:rank]
    found = total.adapters[module]
    torch.testing.assert_close(found.product(), best, rtol=1e-5, atol=1e-5)
    assert total.kept == pytest.approx(float(strengths[:rank].square().sum() / strengths.square().sum()), abs=1e-5)
    down, up = found.down.flatten(1), found.up.flatten(1)
    torch.testing.assert_close(up.T @ up, torch.diag(strengths[:rank]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(down @ down.T, torch.diag(strengths[:rank]), rtol=1e-4, atol=1e-4)


@settings(max_examples=20)
@given(
    st.lists(st.floats(-3, 3).filter(lambda w: abs(w) > 0.1), min_size=1, max_size=4).filter(
        lambda weights: abs(1 - sum(weights)) > 0.1
    ),
    st.integers(1, 6),
    st.sampled_from([LINEAR, CONVOLUTION]),
)
def test_copies_whose_weights_sum_to_one_are_the_lora(weights: list[float], rank: int, module: str) -> None:
    part = low_rank(module, rank, 2, rank)
    lora = Lora(Path("x"), {module: part}, {})
    total = sum_loras([(lora, w) for w in (*weights, 1 - math.fsum(weights))], narrow(NAME), rank)
    torch.testing.assert_close(total.adapters[module].product(), part.product() * part.scale, rtol=1e-4, atol=1e-4)
    assert total.kept == pytest.approx(1)
    assert len(total.adapters[module].down) == rank


def test_what_cancels_out_changes_nothing() -> None:
    lora = Lora(Path("x"), {LINEAR: low_rank(LINEAR, 2, 1, 0)}, {})
    total = sum_loras([(lora, 1.0), (lora, -1.0)], narrow(NAME), 2)
    assert total.adapters[LINEAR].product().abs().max() < 1e-6


def test_folders_that_change_a_model(tmp_path: Path) -> None:
    """A base that is told from the folder's own place is found from the new place, too."""
    save_system(random_model(NAME), tmp_path / "base", {}, torch.float32)
    adapters = [{LINEAR: low_rank(LINEAR, 2, 1, seed)} for seed in (0, 1)]
    system = random_model(NAME).system
    save_adapted(adapters[0], replace(system, title="First"), "../base", tmp_path / "a", {}, torch.float32)
    save_adapted(adapters[1], system, str(tmp_path / "base"), tmp_path / "b", {}, torch.float32)
    merge(tmp_path / "deep" / "mix", [summand(tmp_path / "a", 0.5), summand(tmp_path / "b", 2)])
    described = json.loads((tmp_path / "deep" / "mix" / "system.json").read_text())
    assert (described["system"]["title"], described["base"]) == ("First", str((tmp_path / "base").resolve()))
    weight = random_model(NAME).get_parameter(f"{LINEAR}.weight")
    wanted = weight + adapters[0][LINEAR].difference(weight) * 0.5 + adapters[1][LINEAR].difference(weight) * 2
    torch.testing.assert_close(state_of(tmp_path / "deep" / "mix")[f"{LINEAR}.weight"], wanted)
    save_adapted(adapters[1], system, "../b", tmp_path / "c", {})
    with pytest.raises(InputError, match=r"a changes \S+base and \S+c changes \S+b: these do not merge"):
        merge(tmp_path / "x", [summand(tmp_path / "a", 1), summand(tmp_path / "c", 1)])


def test_a_shipped_lora_merged_with_itself_draws_the_same(tmp_path: Path) -> None:
    turbo = locate("picturebook-turbo")
    (said,) = merge(tmp_path / "mix", [summand(turbo, 0.5), summand(turbo, 0.5)], rank=20)
    ranks = {len(t) for k, t in load_file(turbo / "lora.safetensors").items() if k.endswith("lora_down.weight")}
    told = "/".join(map(str, sorted(ranks)))
    assert said.endswith(f"(121 layers of rank {told}, 100.00 % of the change kept)")
    pictures = [
        darkroom.load(path, dtype=torch.float32).draw("a red house by the sea", steps=1, seed=1).pixels.astype(int)
        for path in (turbo, tmp_path / "mix")
    ]
    assert np.abs(pictures[0] - pictures[1]).max() <= 2


def test_the_system_of_loras(tmp_path: Path, file: Path) -> None:
    """A file that does not tell takes the word of the user: a file, or a name of the catalogue."""
    adapters = {CONVOLUTION: low_rank(CONVOLUTION, 2, 1, 0)}
    path = lora_file(tmp_path / "told.safetensors", adapters)
    save_file(load_file(path), tmp_path / "untold.safetensors")
    untold = summand(tmp_path / "untold.safetensors", 1)
    with pytest.raises(InputError, match=r"untold\.safetensors does not tell which model it is for: name one with"):
        merge(tmp_path / "x.safetensors", [untold, untold])
    merge(tmp_path / "x.safetensors", [untold, summand(path, 1)])
    for name in (NAME, str(file)):
        merge(tmp_path / "x.safetensors", [untold, untold], system=system_called(name), force=True)
        assert set(read_lora(tmp_path / "x.safetensors", narrow(NAME)).adapters) == {CONVOLUTION}


def test_embeddings_beside_a_lora_are_left_out_aloud(tmp_path: Path) -> None:
    path = lora_file(tmp_path / "a.safetensors", {LINEAR: low_rank(LINEAR, 2, 1, 0)})
    save_file({**load_file(path), "bundle_emb.x.string_to_param.*": torch.ones(1, 32)}, path)
    _, note = merge(tmp_path / "x.safetensors", [summand(path, 1), summand(path, 1)], system=narrow(NAME))
    assert note == f"note: the embeddings that {path} brings along are left out"


def other_change(kind: str) -> Adapter:
    layer = random_model(NAME).get_submodule(LINEAR)
    plain = low_rank(LINEAR, 2, 1, 0)
    match kind:
        case "a LoHa":
            return Hadamard.fresh(layer, 2)  # type: ignore[arg-type]
        case "a LoKr":
            return Kronecker.fresh(layer, 2)  # type: ignore[arg-type]
        case "a full difference":
            return Full(torch.ones(32, 32))
        case "a DoRA":
            return LowRank(plain.down, plain.up, magnitude=torch.ones(32))
        case "a LoRA with a kernel between its factors":
            return LowRank(torch.ones(2, 32), torch.ones(32, 2), torch.ones(2, 2, 3, 3))
        case _:
            return WithBias(torch.ones(32), plain)


@pytest.mark.parametrize(
    "kind",
    ["a LoHa", "a LoKr", "a full difference", "a DoRA", "a LoRA with a kernel between its factors", "one of a bias"],
)
def test_changes_that_are_not_merged(kind: str) -> None:
    lora = Lora(Path("odd.safetensors"), {LINEAR: other_change(kind)}, {})
    with pytest.raises(InputError, match=rf"^odd\.safetensors: the change of {LINEAR} is {kind}.*; only plain LoRAs"):
        sum_loras([(lora, 1.0)], narrow(NAME))


@pytest.fixture
def shelf(tmp_path: Path, file: Path) -> Path:
    """One of each sort that a merge may meet."""
    save_system(random_model(NAME), tmp_path / "own", {}, torch.float32)
    eps = replace(random_model(NAME).system, prediction=Prediction.V)
    other = build(eps).requires_grad_(False)
    save_system(other, tmp_path / "own-v", {}, torch.float32)
    save_adapted({LINEAR: low_rank(LINEAR, 2, 1, 0)}, random_model(NAME).system, "../own", tmp_path / "few", {})
    lora_file(tmp_path / "lora.safetensors", {LINEAR: low_rank(LINEAR, 2, 1, 0)})
    write_original(Content.of_model(random_model("sd-v2-1-base")), tmp_path / "v2.safetensors")
    v = replace(Content.of_model(random_model("sd-v2-1-768-v")), notes={"modelspec.prediction_type": "v"})
    write_original(v, tmp_path / "v2-v.safetensors")
    return tmp_path


SENTENCES = {
    ("v1-5.safetensors=0.5", "v1-5.safetensors=0.6"): "the weights sum to 1.1, expected is 1: a model of another scale",
    ("own=1", "own=1"): "the weights sum to 2, expected is 1",
    ("v1-5.safetensors=0.5", "own=0.5"): "v1-5.safetensors is a checkpoint and .*own is a folder of this project",
    ("lora.safetensors=1", "few=1"): "is a file of a LoRA and .*few is a folder of this project that changes a model",
    ("v1-5.safetensors=0.5", "v2.safetensors=0.5"): r"\(sd-v1-5\) and .*\(sd-v2.*\) are of different systems: \S+ is ",
    ("v2.safetensors=0.5", "v2-v.safetensors=0.5"): r"do not merge: they predict eps and v",
    ("own=0.5", "own-v=0.5"): "own and .*own-v are of different systems: they differ in prediction",
    ("v1-5.safetensors=0.5", "v1-5.safetensors=0.5", "rank"): "a rank is given for LoRAs; .* is a whole model",
    ("own=0.5", "own=0.5", "system"): "a model is named for files of LoRAs to be read against; .*own is a folder",
    ("own=0.5", "own=0.5", "x.safetensors"): "x.safetensors is to be a folder, as the parts are",
    ("lora.safetensors=1", "lora.safetensors=1", "x"): "x is to be one file; its name must end in .safetensors",
    (
        "lora.safetensors=1",
        "lora.safetensors=1",
        "v2.safetensors",
    ): "v2.safetensors exists already; --force",
    ("own=0.5", "own=0.5", "few"): "few exists already and is not an empty folder",
}


@pytest.mark.parametrize("given_", SENTENCES, ids=" ".join)
def test_what_does_not_merge(shelf: Path, given_: tuple[str, ...]) -> None:
    said = [part.split("=") for part in given_ if "=" in part]
    (option,) = [part for part in given_ if "=" not in part] or ["new"]
    summands = [summand(shelf / name, float(weight)) for name, weight in said]
    before = sorted(shelf.iterdir())
    with pytest.raises(InputError, match=SENTENCES[given_]):
        merge(
            shelf / ("new" if option in ("rank", "system") else option),
            summands,
            rank=3 if option == "rank" else None,
            system=narrow(NAME) if option == "system" else None,
        )
    assert sorted(shelf.iterdir()) == before
