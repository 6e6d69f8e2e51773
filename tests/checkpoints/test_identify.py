"""Which system a checkpoint is and what it predicts, for every public one by names and shapes alone."""

import json
from pathlib import Path

import pytest
import torch
from public_manifests import fake_weights, manifests
from safetensors.torch import save_file
from test_manifests import FOLDERS

from darkroom.checkpoints.diffusers_config import component_configs, scheduler_configs
from darkroom.checkpoints.diffusers_names import modern_name
from darkroom.checkpoints.identify import Identity, identify
from darkroom.checkpoints.open_file import open_weights
from darkroom.checkpoints.original_names import modern_name as mended
from darkroom.checkpoints.source import Source, open_source
from darkroom.errors import InputError
from darkroom.systems import SYSTEMS


def single(layout: str, name: str, *, extra: tuple[str, ...] = (), **metadata: str) -> Source:
    """A file called `name` with the tensors of a public one."""
    tensors = dict(manifests()["original"][layout]["tensors"]) | {key: [1] for key in extra}
    return Source(Path(name), "original", fake_weights(tensors), metadata)


# Layout, file name as people have it → system, prediction.
FILES = [
    ("sd-v1-emaonly", "v1-5-pruned-emaonly.safetensors", "sd-v1-5", "eps"),
    ("sd-v1-emaonly", "sd-v1-4.ckpt", "sd-v1-4", "eps"),
    ("sd-v1-emaonly", "dreamshaper_8.safetensors", "sd-v1-5", "eps"),
    ("sd-v1-full-ema", "sd-v1-1-full-ema.ckpt", "sd-v1-1", "eps"),
    ("sd-v1-5-inpainting", "sd-v1-5-inpainting.ckpt", "sd-v1-5-inpainting", "eps"),
    ("sd-v2-base", "512-base-ema.ckpt", "sd-v2-1-base", "eps"),
    ("sd-v2-base", "v2-1_512-ema-pruned.safetensors", "sd-v2-1-base", "eps"),
    ("sd-v2-768-v", "768-v-ema.ckpt", "sd-v2-1-768-v", "v"),
    ("sd-v2-768-v", "v2-1_768-ema-pruned.safetensors", "sd-v2-1-768-v", "v"),
    ("sd-v2-inpainting", "512-inpainting-ema.ckpt", "sd-v2-inpainting", "eps"),
    ("sd-v2-depth", "512-depth-ema.ckpt", "sd-v2-depth", "eps"),
    ("sd-x4-upscaler", "x4-upscaler-ema.ckpt", "sd-x4-upscaler", "v"),
    ("sd-v2-1-unclip-l", "sd21-unclip-l.ckpt", "sd-v2-1-unclip-l", "v"),
    ("sd-v2-1-unclip-h", "sd21-unclip-h.ckpt", "sd-v2-1-unclip-h", "v"),
    ("sd-turbo", "sd_turbo.safetensors", "sd-turbo", "eps"),
    ("sdxl-base", "sd_xl_base_1.0.safetensors", "sdxl-base", "eps"),
    ("sdxl-base", "sd_xl_base_0.9.safetensors", "sdxl-0-9-base", "eps"),
    ("sdxl-base", "someones_finetune.safetensors", "sdxl-base", "eps"),
    ("sdxl-base", "noobaiXL_vPred10.safetensors", "sdxl-base", "v"),
    ("sdxl-turbo", "sd_xl_turbo_1.0_fp16.safetensors", "sdxl-turbo", "eps"),
    ("sdxl-refiner", "sd_xl_refiner_1.0.safetensors", "sdxl-refiner", "eps"),
    ("ldm_celeba256", "celeba256/model.ckpt", "ldm_celeba256", "eps"),
    ("ldm_ffhq256", "ffhq256.ckpt", "ldm_ffhq256", "eps"),
    ("ldm_lsun_beds256", "lsun_beds256.ckpt", "ldm_lsun_beds256", "eps"),
    *(
        (layout, "model.ckpt", layout, "eps")
        for layout in (
            *("ldm_lsun_churches256", "ldm_cin256", "ldm_cin256-v2", "ldm_text2img256", "ldm_text2img-large"),
            *("ldm_layout2img-openimages256", "ldm_semantic_synthesis256", "ldm_bsr_sr", "ldm_inpainting_big"),
            "ldm_rdm768x768",
        )
    ),
]


@pytest.mark.parametrize(("layout", "name", "system", "prediction"), FILES)
def test_single_files(layout: str, name: str, system: str, prediction: str) -> None:
    source = single(layout, name)
    tensors = {k: t for k, t in source.tensors.items() if k != "scale_factor"}  # its value could not be read here
    found = identify(Source(source.path, "original", tensors, {}))
    assert (found.system.name, found.system.prediction) == (system, prediction)


@pytest.mark.parametrize("repository", FOLDERS)
def test_folders(repository: str) -> None:
    facts = manifests()["diffusers"][repository]
    names = {f"{c}/{n}": shape for c, tensors in facts["tensors"].items() for n, shape in tensors.items()}
    configs = {"model_index": {"_class_name": "X"}, "scheduler": facts["scheduler"]["scheduler"], **facts["config"]}
    tensors = fake_weights({modern_name(n): s for n, s in names.items()})
    found = identify(Source(Path(repository), "diffusers", tensors, {}, configs))
    wanted = SYSTEMS[FOLDERS[repository]]
    assert found.system.name == wanted.name
    assert (found.system.prediction, found.system.latent_scale) == (wanted.prediction, wanted.latent_scale)
    assert found.prediction_told_by == "scheduler_config.json"


def told(layout: str, name: str, **options: object) -> Identity:
    extra = tuple(options.pop("extra", ()))  # type: ignore[call-overload]
    metadata = options.pop("metadata", {})
    return identify(single(layout, name, extra=extra, **metadata), **options)  # type: ignore[arg-type]


def test_what_tells_the_prediction(tmp_path: Path) -> None:
    found = told("sd-v2-base", "x.ckpt", prediction="v")
    assert (found.system.name, found.prediction_told_by) == ("sd-v2-1-768-v", "the user's choice")
    found = told("sd-v2-base", "x.ckpt", metadata={"modelspec.prediction_type": "v"})
    assert (found.system.prediction, "modelspec" in found.prediction_told_by) == ("v", True)
    found = told("sdxl-base", "x.safetensors", extra=("v_pred", "ztsnr"))
    assert (found.system.prediction, found.prediction_told_by) == ("v", "the key v_pred in the file")
    assert found.system.schedule.zero_terminal_snr
    (tmp_path / "tuned.yaml").write_text('model:\n  params:\n    parameterization: "v"\n')
    found = told("sd-v2-base", str(tmp_path / "tuned.ckpt"))
    assert (found.system.name, found.prediction_told_by) == ("sd-v2-1-768-v", "tuned.yaml beside it")
    (tmp_path / "tuned.yaml").write_text("model:\n  params:\n    timesteps: 1000\n")
    assert told("sd-v2-base", str(tmp_path / "tuned.ckpt")).system.prediction == "eps"
    found = told("sd-v2-base", "x.ckpt")
    assert (found.system.name, "habit" in found.prediction_told_by) == ("sd-v2-1-base", True)
    assert "sd-v2-1-768-v" in found.alternatives


def test_the_running_average() -> None:
    found = told("sd-v1-full-ema", "x.ckpt")
    assert found.ema
    assert sum(rule.theirs[0].startswith("model_ema.") for rule in found.rules) == 686
    assert not told("sd-v1-full-ema", "x.ckpt", ema="no").ema
    assert not told("sd-v1-emaonly", "x.ckpt").ema
    with pytest.raises(InputError, match="686 of 686 tensors are missing"):
        told("sd-v1-emaonly", "x.ckpt", ema="yes")
    with pytest.raises(InputError, match="accepted are: auto, yes, no"):
        told("sd-v1-emaonly", "x.ckpt", ema="maybe")


def test_a_broken_file_is_compared_with_the_nearest_system() -> None:
    source = single("sd-v1-emaonly", "broken.ckpt")
    tensors = dict(source.tensors)
    del tensors["model.diffusion_model.middle_block.1.norm.weight"]
    tensors["model.diffusion_model.extra.weight"] = tensors["betas"]
    with pytest.raises(InputError, match=r"broken\.ckpt does not fit sd-v1-5.*1 tensors are missing \(model.*unknown"):
        identify(Source(source.path, "original", tensors, {}))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["lora_unet_x.lora_up.weight"], "it is a LoRA"),
        (["encoder.conv_in.weight"], "autoencoder alone"),
        (["control_model.input_hint_block.0.weight"], "it is a ControlNet"),
        (["emb_params"], "embedding"),
        (["input_blocks.0.0.weight"], "UNet alone"),
        (["a", "b"], "not those of a denoiser"),
    ],
)
def test_other_files_are_called_by_their_name(names: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        identify(Source(Path("x"), "original", fake_weights({n: [2, 2] for n in names}), {}))


def test_finetunes_that_dropped_parts_of_names(tmp_path: Path) -> None:
    """`text_model.` gone, position_ids as float or missing: mended at the door."""
    public = manifests()["original"]["sd-v1-emaonly"]["tensors"]
    short = {n.replace("transformer.text_model.", "transformer."): shape for n, shape in public.items()}
    without = {n: shape for n, shape in short.items() if "position_ids" not in n}
    for names in (short, without):
        assert not set(names) & {n for n in public if "text_model" in n}
        tensors = fake_weights({mended(n): shape for n, shape in names.items()})
        assert identify(Source(tmp_path / "x", "original", tensors, {})).system.name == "sd-v1-5"


@pytest.mark.parametrize("repository", FOLDERS)
def test_configurations_equal_the_published_ones(repository: str) -> None:
    """Whatever shapes the network; defaults that Diffusers fills in by itself may be left out."""
    system = SYSTEMS[FOLDERS[repository]]
    configs = component_configs(system)
    facts = manifests()["diffusers"][repository]
    free = {"_class_name", "dropout", "sample_size", "auxiliary_loss_weight", "backbone_config", "head_in_index"}
    free |= {"num_channels", "semantic_classifier_dropout", "use_auxiliary_head"}
    for component, published in facts["config"].items():
        for key, value in published.items():
            if key not in free and value not in (False, None):
                assert configs[component][key] == value, (component, key)
    schedulers = scheduler_configs(system)
    for component, published in facts["scheduler"].items():
        for key in ("beta_start", "beta_end", "beta_schedule", "num_train_timesteps", "prediction_type"):
            if key in published:
                assert schedulers[component][key] == published[key], (component, key)


def test_folders_that_lack_something(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no model_index\.json"):
        open_source(tmp_path)
    (tmp_path / "v1-5.ckpt").write_bytes(b"x")
    with pytest.raises(InputError, match=r"name it: v1-5\.ckpt"):
        open_source(tmp_path)
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(InputError, match="none of the components"):
        open_source(tmp_path)
    (tmp_path / "unet").mkdir()
    with pytest.raises(InputError, match="holds no weights"):
        open_source(tmp_path)
    save_file({"x": torch.ones(2)}, tmp_path / "unet" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(InputError, match="no system of the catalogue"):
        identify(open_source(tmp_path))
    (tmp_path / "model_index.json").write_text("[1")
    with pytest.raises(InputError, match="not valid JSON"):
        open_source(tmp_path)
    (tmp_path / "model_index.json").write_text(json.dumps([1]))
    with pytest.raises(InputError, match="not a table"):
        open_source(tmp_path)


def test_a_folder_of_an_unknown_system_is_compared_with_those_that_folders_hold(tmp_path: Path) -> None:
    """Systems with classes or boxes have no folder and must not be tried."""
    names = {"unet/conv_in.weight": [24, 4, 3, 3], "unet/conv_out.weight": [4, 24, 3, 3]}
    names["unet/attentions.0.attn2.to_k.weight"] = [24, 32]
    with pytest.raises(InputError, match=r"tiny does not fit .* nearest system of the catalogue"):
        identify(Source(tmp_path / "tiny", "diffusers", fake_weights(names), {}))
    names = {"model.diffusion_model.input_blocks.0.0.weight": [96, 8, 3, 3], "model.diffusion_model.out.2.weight": [8]}
    with pytest.raises(InputError, match="no system of the catalogue"):  # eight channels: only the one that ships
        identify(Source(tmp_path / "x", "original", fake_weights(names), {}))


@pytest.mark.parametrize("value", [[0.2, 0.3], [float("nan")], [0.0], [-1.0], []])
def test_a_scale_in_the_file_must_be_one_number(tmp_path: Path, value: list[float]) -> None:
    tensors = dict(single("ldm_lsun_churches256", "model.ckpt").tensors)
    save_file({"scale_factor": torch.tensor(value)}, tmp_path / "scale")
    tensors["scale_factor"] = open_weights(tmp_path / "scale")["scale_factor"]
    with pytest.raises(InputError, match=r"model\.ckpt: scale_factor is not one positive number"):
        identify(Source(Path("model.ckpt"), "original", tensors, {}))


def test_a_folder_says_whether_its_first_stage_bears_half_precision() -> None:
    facts = manifests()["diffusers"]["sdxl-base"]
    names = {f"{c}/{n}": shape for c, tensors in facts["tensors"].items() for n, shape in tensors.items()}
    tensors = fake_weights({modern_name(n): s for n, s in names.items()})
    for vae, overflows in (({}, True), ({"force_upcast": True}, True), ({"force_upcast": False}, False)):
        found = identify(Source(Path("x"), "diffusers", tensors, {}, {"vae": vae}))
        assert found.system.force_upcast == overflows


def test_first_stages_with_names_left_by_converters() -> None:
    public = manifests()["original"]["sd-v1-emaonly"]["tensors"]
    theirs = {"q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0", "norm": "group_norm"}
    changed = {}
    for name, shape in public.items():
        head, middle, rest = name.partition(".mid.attn_1.")
        changed[head + middle + (theirs[rest.split(".")[0]] + "." + rest.split(".")[1] if middle else rest)] = shape
    assert len(set(changed) - set(public)) == 20
    tensors = fake_weights({mended(n): [k for k in s if k != 1] for n, s in changed.items()})
    assert identify(Source(Path("x"), "original", tensors, {})).system.name == "sd-v1-5"


MERGED = {  # what merges and early finetunes carry beside the weights
    "sd-v1-emaonly": [
        "embedding_manager.embedder.transformer.text_model.embeddings.position_ids",
        "cond_stage_model.transformer.text_projection.weight",
        "cond_stage_model.logit_scale",
        "lvlb_weights",
        "edm_mean",
    ],
    "sd-v2-base": ["cond_stage_model.model.attn_mask", "cond_stage_model.model.text_projection.weight"],
    "sdxl-base": ["conditioner.embedders.0.transformer.text_projection.weight", "first_stage_model.model_ema.decay"],
}


@pytest.mark.parametrize("layout", MERGED)
def test_merges_with_more_than_the_weights(layout: str) -> None:
    found = identify(single(layout, "merge.safetensors", extra=tuple(MERGED[layout])))
    assert layout in SYSTEMS[found.system.name].layouts
    assert set(MERGED[layout]) <= set(found.fit.unused)
