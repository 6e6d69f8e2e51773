"""Whole pictures under control networks, from their files: as Diffusers draws them, and the same in any company.

Float32, DDIM with leading steps, guidance, one seed for all noise; the tolerance is 1e-4 of the largest value of the
latent.
"""

import copy
import functools
import inspect
import shutil
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from narrow_checkpoints import narrow, random_model, randomise, write_vocabulary
from PIL import Image
from safetensors.torch import save_file

from darkroom.checkpoints.convert import Content, write_diffusers, write_original
from darkroom.checkpoints.identify import identify
from darkroom.checkpoints.load import load_checkpoint
from darkroom.checkpoints.source import open_source
from darkroom.engine.engine import Engine
from darkroom.engine.pipeline import Picture, Pipeline
from darkroom.errors import InputError
from darkroom.models import vocabulary
from darkroom.types import ControlUnit, Guidance, HighResolution, Request

STEPS, SEED, PROMPT = 4, 11, "a red cat house"
HINT = np.kron(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))


@pytest.fixture(autouse=True)
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "CLIP_PACKAGES", ())
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    warnings.simplefilter("ignore")


@functools.cache
def folder_of(name: str) -> Path:
    """A narrow system with random weights as a folder of Diffusers."""
    root = Path(tempfile.mkdtemp())
    write_vocabulary(root)
    write_original(Content.of_model(random_model(name)), root / f"{name}.safetensors")
    source = open_source(root / f"{name}.safetensors")
    write_diffusers(Content.of_source(source, identify(source, system=narrow(name))), root / name)
    return root / name


@functools.cache
def pipeline_of(name: str) -> Pipeline:
    return Pipeline(load_checkpoint(folder_of(name), system=narrow(name)).model)


@functools.cache
def components_of(name: str) -> dict[str, Any]:
    kind: Any = diffusers.StableDiffusionXLPipeline if name == "sdxl-base" else diffusers.StableDiffusionPipeline
    return kind.from_pretrained(folder_of(name)).components


def peer_of(kind: Any, name: str, **more: Any) -> Any:
    components = {**components_of(name), **more}
    known = inspect.signature(kind.__init__).parameters
    peer = kind(**{k: v for k, v in components.items() if k in known})
    config = {**peer.scheduler.config, "timestep_spacing": "leading", "steps_offset": 1}
    peer.scheduler = diffusers.DDIMScheduler.from_config(config, clip_sample=False)
    peer.set_progress_bar_config(disable=True)
    return peer


def peer_controlnet(folder: Path, name: str, seed: int = 5) -> Any:
    unet = components_of(name)["unet"]
    net: Any = diffusers.ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8, 16, 16))
    randomise(net, seed)
    net.save_pretrained(folder)
    return net


def request(*controls: ControlUnit, **fields: Any) -> Request:
    plain = {"width": 64, "height": 64, "steps": STEPS, "seed": SEED, "guidance_scale": 5.0, "sampler": "DDIM"}
    return Request(PROMPT, **{**plain, "schedule": "leading", "seed_mode": "diffusers", **fields}, controls=controls)


def ours(name: str, *controls: ControlUnit, **fields: Any) -> Picture:
    return pipeline_of(name).generate([request(*controls, **fields)])[0]


def theirs(peer: Any, **arguments: Any) -> torch.Tensor:
    plain = {"prompt": PROMPT, "num_inference_steps": STEPS, "guidance_scale": 5.0, "height": 64, "width": 64}
    generator = torch.Generator().manual_seed(SEED)
    return peer(**{**plain, **arguments}, generator=generator, output_type="latent").images


def assert_close(latent: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(latent, expected[0], rtol=0, atol=1e-4 * float(expected.abs().max()))


CONTROLNET = {
    "sd-v1-5": diffusers.StableDiffusionControlNetPipeline,
    "sd-v2-1-base": diffusers.StableDiffusionControlNetPipeline,
    "sdxl-base": diffusers.StableDiffusionXLControlNetPipeline,
}


@pytest.mark.parametrize(
    ("name", "unit", "arguments"),
    [
        ("sd-v1-5", {}, {}),
        ("sd-v1-5", {"guess": True}, {"guess_mode": True}),
        (
            "sd-v1-5",
            {"weight": 0.6, "start": 0.25, "end": 0.75},
            {"controlnet_conditioning_scale": 0.6, "control_guidance_start": 0.25, "control_guidance_end": 0.75},
        ),
        ("sd-v2-1-base", {}, {}),
        ("sdxl-base", {"weight": 0.8}, {"controlnet_conditioning_scale": 0.8}),
    ],
)
def test_a_controlnet_as_the_peer_has_it(
    tmp_path: Path, name: str, unit: dict[str, Any], arguments: dict[str, Any]
) -> None:
    peer = peer_of(CONTROLNET[name], name, controlnet=peer_controlnet(tmp_path, name))
    expected = theirs(peer, image=Image.fromarray(HINT), negative_prompt="dog", **arguments)
    drawn = ours(name, ControlUnit(str(tmp_path), HINT, **unit), negative_prompt="dog")
    assert_close(drawn.latent, expected)
    plain = ours(name, negative_prompt="dog")
    assert not torch.allclose(plain.latent, drawn.latent, atol=0.05)


def test_several_controlnets_of_one_picture(tmp_path: Path) -> None:
    nets = [peer_controlnet(tmp_path / str(i), "sd-v1-5", seed=i) for i in range(2)]
    peer = peer_of(CONTROLNET["sd-v1-5"], "sd-v1-5", controlnet=nets)
    other = HINT[::-1].copy()
    expected = theirs(peer, image=[Image.fromarray(p) for p in (HINT, other)], controlnet_conditioning_scale=[0.5, 0.9])
    units = [ControlUnit(str(tmp_path / str(i)), p, w) for i, (p, w) in enumerate([(HINT, 0.5), (other, 0.9)])]
    assert_close(ours("sd-v1-5", *units).latent, expected)


@pytest.mark.parametrize(
    ("name", "kind", "channels"),
    [
        ("sd-v1-5", "full_adapter", [32, 64, 128, 128]),
        ("sd-v1-5", "light_adapter", [32, 64, 128]),
        ("sdxl-base", "full_adapter_xl", [32, 64, 128, 128]),
    ],
)
def test_a_t2i_adapter_as_the_peer_has_it(tmp_path: Path, name: str, kind: str, channels: list[int]) -> None:
    adapter: Any = diffusers.T2IAdapter(3, channels, 2, 16 if kind.endswith("xl") else 8, adapter_type=kind)
    randomise(adapter, 3)
    adapter.save_pretrained(tmp_path)
    kinds = {"sdxl-base": diffusers.StableDiffusionXLAdapterPipeline}
    peer = peer_of(kinds.get(name, diffusers.StableDiffusionAdapterPipeline), name, adapter=adapter)
    more = {"adapter_conditioning_factor": 0.75} if name == "sdxl-base" else {}
    expected = theirs(peer, image=Image.fromarray(HINT), adapter_conditioning_scale=0.7, **more)
    unit = ControlUnit(str(tmp_path), HINT, 0.7, end=0.75 if more else 1.0)
    assert_close(ours(name, unit).latent, expected)


def ip_adapter_state(unet: Any, image: int, *, plus: bool) -> dict[str, dict[str, torch.Tensor]]:
    """Random tensors by the names of the released files."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * (0.3 if len(shape) == 1 else shape[-1] ** -0.5)

    dim, width, tokens = unet.config.cross_attention_dim, 64, 4
    projection = {
        "proj.weight": random(tokens * dim, image),
        "proj.bias": random(tokens * dim),
        "norm.weight": random(dim),
        "norm.bias": random(dim),
    }
    if plus:
        projection = {"latents": random(1, tokens, width)}
        for layer, shape in {"proj_in": (width, image), "proj_out": (dim, width), "norm_out": (dim,)}.items():
            projection |= {f"{layer}.weight": random(*shape), f"{layer}.bias": random(shape[0])}
        for i in range(4):
            norms = ("0.norm1", "0.norm2", "1.0")
            projection |= {f"layers.{i}.{n}.{leaf}": random(width) for n in norms for leaf in ("weight", "bias")}
            shapes = {"0.to_q": (128, width), "0.to_kv": (256, width), "0.to_out": (width, 128)}
            shapes |= {"1.1": (4 * width, width), "1.3": (width, 4 * width)}
            projection |= {f"layers.{i}.{name}.weight": random(*shape) for name, shape in shapes.items()}
    attentions = {}
    for number, name in enumerate(unet.attn_processors):
        if "attn2" in name:
            layer = unet.get_submodule(name.removesuffix(".processor"))
            attentions |= {f"{number}.to_{x}_ip.weight": random(layer.to_k.out_features, dim) for x in "kv"}
    return {"image_proj": projection, "ip_adapter": attentions}


def image_encoder(folder: Path) -> Any:
    config = transformers.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=80,
        projection_dim=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=28,
        patch_size=14,
        hidden_act="gelu",
    )
    encoder: Any = transformers.CLIPVisionModelWithProjection(config)
    randomise(encoder, 4)
    encoder.save_pretrained(folder)
    return encoder


@pytest.mark.parametrize(
    ("name", "plus"), [("sd-v1-5", False), ("sd-v1-5", True), ("sdxl-base", False), ("sdxl-base", True)]
)
def test_an_ip_adapter_as_the_peer_has_it(tmp_path: Path, name: str, plus: bool) -> None:
    encoder = image_encoder(tmp_path / "image_encoder")
    kind = diffusers.StableDiffusionXLPipeline if name == "sdxl-base" else diffusers.StableDiffusionPipeline
    extractor = transformers.CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    peer = peer_of(kind, name, image_encoder=encoder, feature_extractor=extractor)
    state = ip_adapter_state(peer.unet, 32 if plus else 24, plus=plus)
    peer.unet = copy.deepcopy(peer.unet)  # the others' stays as it is
    peer.load_ip_adapter(state, subfolder="", weight_name="", image_encoder_folder=None, low_cpu_mem_usage=False)
    peer.set_ip_adapter_scale(0.6)
    if plus:
        torch.save(state, tmp_path / "adapter.bin")
    else:
        flat = {f"{part}.{key}": t for part, table in state.items() for key, t in table.items()}
        save_file(flat, tmp_path / "adapter.bin")
    picture = HINT[:, :48].copy()
    expected = theirs(peer, ip_adapter_image=Image.fromarray(picture), negative_prompt="dog")
    drawn = ours(name, ControlUnit(str(tmp_path / "adapter.bin"), picture, 0.6), negative_prompt="dog")
    assert_close(drawn.latent, expected)


# Pictures under controls, in any company


@functools.cache
def units() -> dict[str, ControlUnit]:
    """A unit of each kind, from files with random weights."""
    folder = Path(tempfile.mkdtemp())
    model = pipeline_of("sd-v1-5").model
    peer_controlnet(folder / "net", "sd-v1-5", seed=1)
    adapter: Any = diffusers.T2IAdapter(3, [32, 64, 128, 128], 1, 8, adapter_type="full_adapter")
    randomise(adapter, 2)
    adapter.save_pretrained(folder / "adapter")
    encoder = image_encoder(folder / "image_encoder")
    state = ip_adapter_state(components_of("sd-v1-5")["unet"], encoder.config.projection_dim, plus=False)
    torch.save(state, folder / "ip.bin")
    assert model.system.unet.context_dim is not None
    return {
        "net": ControlUnit(str(folder / "net"), HINT, 0.5),
        "part": ControlUnit(str(folder / "net"), HINT[::-1].copy(), 0.8, start=0.3, end=0.8),
        "guess": ControlUnit(str(folder / "net"), HINT, guess=True, preprocessor="canny"),
        "adapter": ControlUnit(str(folder / "adapter"), HINT, 0.5, preprocessor="blur"),
        "ip": ControlUnit(str(folder / "ip.bin"), HINT, 0.7),
    }


def of_units(*names: str, **fields: Any) -> Request:
    plain = {"width": 64, "height": 64, "steps": 3, "sampler": "Euler", "prompt": "a red cat"}
    return Request(**{**plain, **fields}, controls=tuple(units()[n] for n in names))


@st.composite
def mixes(draw: st.DrawFn) -> Request:
    changes = [
        {},
        {"guidance_scale": 1.0},
        {"image": HINT, "strength": 0.7},
        {"image": HINT, "mask": (HINT[..., 0] > 100).astype(np.uint8)},
        {"hires": HighResolution(1.5, 0.6)},
        {"prompt": "x AND a cat :0.7"},
        {"guidance": Guidance(pag_scale=1.0)},
        {"deepcache_interval": 2},
    ]
    names = draw(st.lists(st.sampled_from(["net", "part", "guess", "adapter", "ip"]), max_size=2, unique=True))
    return of_units(*names, **draw(st.sampled_from(changes)), seed=draw(st.integers(0, 9)))


@settings(
    deadline=None, derandomize=True, max_examples=3, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
@given(mix=st.lists(mixes(), min_size=2, max_size=4))
def test_a_controlled_picture_is_the_same_in_any_company(mix: list[Request]) -> None:
    pipeline = pipeline_of("sd-v1-5")
    together = pipeline.generate(mix)
    for request, picture in zip(mix, together):
        alone = pipeline.generate([request])[0]
        assert np.abs(alone.pixels.astype(int) - picture.pixels).max() <= 1


def test_unlike_controls_share_calls_and_leave_no_trace() -> None:
    pipeline = pipeline_of("sd-v1-5")
    mix = [of_units(), of_units("net"), of_units("ip", "guess"), of_units("adapter", "part", seed=1)]
    before = pipeline.generate([mix[0]])[0].pixels
    with Engine() as engine:
        tickets = [pipeline.submit(engine, r) for r in mix]
        pictures = [t.result().pixels for t in tickets]
        assert engine.batcher.calls == [8, 8, 8]
    assert all(np.abs(before.astype(int) - p).max() > 1 for p in pictures[1:])
    assert np.array_equal(pipeline.generate([mix[0]])[0].pixels, before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in pipeline.model.unet.modules())


def test_a_model_of_nine_channels_takes_the_networks_of_its_family() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 32:] = 1
    requests = [of_units(*names, image=HINT, mask=mask) for names in ((), ("net",), ("adapter",))]
    plain, *controlled = (p.pixels for p in pipeline_of("sd-v1-5-inpainting").generate(requests))
    for pixels in controlled:
        assert np.array_equal(pixels[:, :32], HINT[:, :32])
        assert np.abs(pixels.astype(int) - plain).max() > 1


def test_a_picture_of_another_shape_is_cut_and_said() -> None:
    unit = units()["net"]
    wide = replace(unit, image=np.concatenate([HINT[:, :8], HINT, HINT[:, :8]], axis=1))
    pictures = [pipeline_of("sd-v1-5").generate([replace(of_units(), controls=(u,))])[0] for u in (unit, wide)]
    assert np.array_equal(pictures[0].pixels, pictures[1].pixels)
    assert pictures[0].plan.remarks == ()
    (said,) = pictures[1].plan.remarks
    assert said.endswith("is 80x64, the drawing 64x64: a hint is scaled to cover that, and what sticks out is cut")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": 0.0}, "has weight 0: its picture changes nothing"),
        ({"start": 0.9}, "no whole step of 3 lies between"),
    ],
)
def test_a_control_that_changes_nothing_is_said(change: dict[str, float], message: str) -> None:
    request = of_units()
    idle = replace(request, controls=(replace(units()["net"], **change),))
    plain, made = pipeline_of("sd-v1-5").generate([request, idle])
    assert np.array_equal(plain.pixels, made.pixels)
    assert message in made.plan.remarks[0]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("net", {"model": "absent"}, "the control network 'absent' is no file, and no folder of control networks"),
        ("net", {"model": ""}, "a control names no model"),
        ("net", {"image": np.zeros((4, 4))}, r"the picture of control .* has shape \[4, 4\]"),
        ("net", {"weight": float("nan")}, "the weight of the control .* is nan, expected is -100 to 100"),
        ("net", {"start": 0.5, "end": 0.5}, r"acts from 0\.5 to 0\.5 of the steps"),
        ("net", {"preprocessor": "cany"}, "unknown hint 'cany'; known are: canny"),
        ("net", {"encoder": "x"}, "an image encoder is named for .*, which is no IP-Adapter"),
        ("adapter", {"guess": True}, "is no ControlNet; guess mode is for those alone"),
        ("ip", {"preprocessor": "canny"}, "looks at the picture itself: a preprocessor has no place"),
        ("ip", {"encoder": "absent"}, "the control network 'absent' is no file"),
    ],
)
def test_wrong_units_are_refused(name: str, change: dict[str, Any], message: str) -> None:
    request = replace(of_units(), controls=(replace(units()[name], **change),))
    with pytest.raises(InputError, match=message):
        pipeline_of("sd-v1-5").generate([request])


def test_an_ip_adapter_without_its_encoder(tmp_path: Path) -> None:
    ip = units()["ip"]
    shutil.copy(ip.model, tmp_path / "ip.bin")
    alone = replace(of_units(), controls=(replace(ip, model=str(tmp_path / "ip.bin")),))
    with pytest.raises(InputError, match=r"needs an image encoder: none is named, nor is there .*image_encoder"):
        pipeline_of("sd-v1-5").generate([alone])
    beside = Path(ip.model).parent / "image_encoder"
    found = replace(alone, controls=(replace(alone.controls[0], encoder=str(beside)),))
    assert np.array_equal(pipeline_of("sd-v1-5").generate([found])[0].pixels,
                          pipeline_of("sd-v1-5").generate([of_units("ip")])[0].pixels)  # fmt: skip


def test_networks_are_found_by_name_and_read_once() -> None:
    pipeline = Pipeline(pipeline_of("sd-v1-5").model, control_folders=[Path(units()["net"].model).parent])
    first, second = (pipeline.controls.of([replace(units()["net"], model="net")], pipeline.model) for _ in range(2))
    assert first[0].network is second[0].network
    with pytest.raises(InputError, match=r"unknown control network 'nets' in .*; known are: net, "):
        pipeline.controls.of([replace(units()["net"], model="nets")], pipeline.model)
