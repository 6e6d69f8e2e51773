import contextlib
import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from PIL import Image

from darkroom.errors import InputError
from darkroom.prompts.grammar import parse
from darkroom.prompts.tree import LoraTag
from darkroom.requests.plan import plan
from darkroom.requests.records.a1111 import parameters_text, parse_parameters
from darkroom.requests.records.controls import recalled
from darkroom.requests.records.found import Found
from darkroom.systems.picturebook import PICTUREBOOK
from darkroom.types import ControlUnit, Guidance, HighResolution, Region, Request

texts = st.text(st.characters(blacklist_categories=("Cs",)), max_size=60) | st.sampled_from(
    ["a\nNegative prompt: b", "x\nSteps: 3, Seed: 1, Size: 8x8", '"', "a: b, c", " padded ", "a <lora:x:0.5> (b:1.2)"]
)
small = st.floats(0, 1).map(lambda x: float(f"{x:.3g}"))


def loras_of(text: str) -> tuple[LoraTag, ...] | None:
    """None for what is no prompt at all."""
    try:
        return parse(text).loras
    except InputError:
        return None


def no_loras(text: str) -> bool:
    return loras_of(text) == ()


@st.composite
def requests(draw: st.DrawFn) -> Request:
    return Request(
        prompt=draw(texts.filter(lambda t: loras_of(t) is not None)),
        negative_prompt=draw(texts.filter(no_loras)),
        width=draw(st.sampled_from([64, 128])),
        height=draw(st.sampled_from([None, 128])),
        seed=draw(st.integers(0, 2**63 - 1)),
        steps=draw(st.integers(1, 1000)),
        guidance_scale=draw(st.floats(0, 30)),
        sampler=draw(st.sampled_from([None, "Euler a", "DPM++ 2M SDE", "DDIM"])),
        schedule=draw(st.sampled_from([None, "karras", "linspace"])),
        hires=draw(st.sampled_from([None, HighResolution(1.5), HighResolution(2.0, 0.3, 7, "picture")])),
        guidance=draw(st.sampled_from([Guidance(), Guidance(rescale=0.7, interval=(0.1, 0.9)), Guidance(apg=True)])),
        regions=draw(st.sampled_from([(), (Region("a cat", (0.0, 0.0, 0.5, 1.0)),)])),
        deepcache_interval=draw(st.integers(1, 3)),
        tome_ratio=draw(st.sampled_from([0.0, 0.5])),
        emphasis=draw(st.sampled_from(["a1111", "no_norm", "comfy", "compel"])),
        seed_mode=draw(st.sampled_from(["darkroom", "a1111", "comfy", "diffusers"])),
        variation_seed=draw(st.none() | st.integers(0, 99)),
        variation_strength=draw(small),
        sigmas=draw(st.sampled_from([None, (9.0, 1 / 3, 0.0)])),
        clip_skip=draw(st.none() | st.integers(1, 3)),
        mask_blur=draw(small),
        mask_padding=draw(st.none() | st.integers(0, 64)),
        denoising_start=draw(st.sampled_from([0.0, 0.25])),
        target_strength=draw(small),
        strength=draw(st.none() | small),
        inputs=draw(st.sampled_from([{}, {"crop": [0, 8]}])),
    )


@settings(deadline=None)
@given(requests())
def test_every_request_survives_its_text(request: Request) -> None:
    try:
        made = plan(request, PICTUREBOOK)
    except InputError:  # no step is left of so short a schedule
        reject()
    found = parse_parameters(parameters_text(made, "my, model: 2", "0123456789", "darkroom 1"))
    assert found.request == replace(
        request,
        width=made.width,
        height=made.height,
        steps=made.steps,
        guidance_scale=made.guidance_scale,
        guidance=replace(request.guidance, interval=made.guidance_interval),
        sampler=made.sampler,
        schedule=made.schedule,
        sampler_options=dict(made.sampler_options),
    )
    assert torch.equal(plan(found.request, PICTUREBOOK).sigmas, made.sigmas)
    assert (found.model, found.model_hash, found.unmapped) == ("my, model: 2", "0123456789", ())


def test_plain_requests_need_no_setting_of_our_own() -> None:
    text = parameters_text(
        plan(Request("a cat", "a dog", seed=7), PICTUREBOOK), "picturebook", "0123456789", "darkroom 1"
    )
    assert text == (
        "a cat\nNegative prompt: a dog\nSteps: 8, Sampler: DPM++ 2M, Schedule type: Trailing, CFG scale: 3, Seed: 7, "
        "Size: 128x128, Model hash: 0123456789, Model: picturebook, RNG: CPU, "
        "Guidance interval: 0.12-0.8, Version: darkroom 1"
    )


def test_settings_stand_in_the_order_of_a1111() -> None:
    request = Request("x", clip_skip=2, variation_seed=3, variation_strength=0.5, hires=HighResolution(2.0, 0.4))
    files = {"VAE hash": "00", "VAE": "v.pt", "Lora hashes": "a: 1, b: 2"}
    text = parameters_text(plan(request, PICTUREBOOK), "m", "h", "darkroom 1", files)
    keys = [pair.partition(":")[0] for pair in text.split("\n")[-1].split(", ")]
    assert keys[:8] == ["Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Model hash", "Model"]
    assert keys[8:15] == [
        *("VAE hash", "VAE", "Variation seed", "Variation seed strength", "Denoising strength", "Clip skip", "RNG")
    ]
    assert keys[15:] == ["Guidance interval", "Hires upscale", "Hires upscaler", "Lora hashes", "b", "Version"]
    assert 'Lora hashes: "a: 1, b: 2"' in text
    found = parse_parameters(text)
    assert found.request.hires == request.hires
    assert found.unmapped == ("VAE: v.pt",)
    assert "Clip skip" not in parameters_text(plan(Request("x", clip_skip=1), PICTUREBOOK), "m", "h", "darkroom 1")


def test_emphasis_without_norm_is_a_setting_of_a1111() -> None:
    text = parameters_text(plan(Request("x", emphasis="no_norm"), PICTUREBOOK), "m", "h", "darkroom 1")
    assert "Emphasis: No norm, " in text
    assert "Darkroom" not in text
    assert parse_parameters(text).request.emphasis == "no_norm"


def test_lists_and_tables_in_settings_and_the_line_ends_of_windows() -> None:
    listed = '[{"type":"checkpoint","id":1},{"type":"lora","id":2}]'
    text = "a cat\r\nNegative prompt: a dog\r\nSteps: 2, Sampler: Euler, Seed: 1, Size: 8x8, "
    found = parse_parameters(
        f'{text}Hashes: {{"model": "ab", "lora:x": "cd"}}, Civitai resources: {listed}, Version: v1.7'
    )
    assert (found.request.prompt, found.request.negative_prompt) == ("a cat", "a dog")
    assert found.unmapped == (f"Civitai resources: {listed}",)


def test_noise_of_the_cpu_is_that_of_the_tool_that_says_so() -> None:
    settings = "x\nSteps: 1, Seed: 1, Size: 8x8, RNG: CPU, Version: "
    assert parse_parameters(settings + "v1.10.1").request.seed_mode == "a1111_cpu"
    assert parse_parameters(settings + "darkroom 0.1.0").request.seed_mode == "darkroom"


def test_pictures_are_named_by_their_hashes() -> None:
    image = np.zeros((128, 128, 3), np.uint8)
    mask = np.ones((128, 128), np.uint8)
    request = Request("a cat", image=image, mask=mask, strength=0.5, mask_blur=2.0, mask_padding=32)
    text = parameters_text(plan(request, PICTUREBOOK), "m", "h", "v")
    assert "Mask blur: 2, Inpaint area: Only masked, Masked area padding: 32" in text
    assert "Denoising strength: 0.5, Init image hash: " in text
    found = parse_parameters(text)
    assert found.request.image is None
    assert found.request.strength == 0.5
    assert found.request.mask_padding == 32
    assert [u.partition(":")[0] for u in found.unmapped] == ["image", "mask"]


def test_control_units_are_read_again_with_their_pictures(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "hint.png")
    kept = ControlUnit("a.safetensors", pixels, 0.5, end=0.75, guess=True, image_path=str(tmp_path / "hint.png"))
    made_here = ControlUnit("folder/b.pth", pixels, preprocessor="canny")
    text = parameters_text(plan(Request("a cat", controls=(kept, made_here)), PICTUREBOOK), "m", "h", "darkroom 1")
    assert (
        'ControlNet 0: "Module: none, Model: a, Weight: 0.5, Resize Mode: Crop and Resize, Guidance Start: 0, ' in text
    )
    assert "Module: canny, Model: b, Weight: 1, " in text
    found = parse_parameters(text)
    assert (found.request.controls, found.unmapped) == ((), ())  # nothing is opened by reading
    after = recalled(found)
    (unit,) = after.request.controls
    assert np.array_equal(unit.image, pixels)
    assert replace(unit, image=None) == replace(kept, image=None)
    assert after.unmapped == ("the control folder/b.pth: its picture was no file",)
    Image.fromarray(pixels[::-1]).save(tmp_path / "hint.png")
    (said,) = [s for s in recalled(found).unmapped if "a.safetensors" in s]  # a long path is shortened
    assert said.startswith("the control a.safetensors: its picture ")
    assert said.endswith(" has changed")
    (tmp_path / "hint.png").unlink()
    assert "there is no picture" in recalled(found).unmapped[0]


@pytest.mark.parametrize("said", ['{"controls":[3]}', '{"controls":3}', '{"controls":[{"image":{"sha256":"0"}}]}'])
def test_controls_that_no_record_has_are_refused(said: str) -> None:
    with pytest.raises(InputError, match="'Darkroom' cannot be read"):
        parse_parameters(f"x\nSteps: 1, Seed: 1, Size: 8x8, Darkroom: {json.dumps(said)}, Version: darkroom 1")


def test_as_other_tools_write_it() -> None:
    text = (
        "a castle,\non a hill\nNegative prompt: fog,\nrain\n"
        'Steps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 965400086, Size: 512x768, Model: "a, b", Clip skip: 2'
    )
    found = parse_parameters(text)
    request = found.request
    assert request.prompt == "a castle,\non a hill"
    assert request.negative_prompt == "fog,\nrain"
    assert (request.width, request.height, request.steps, request.guidance_scale) == (512, 768, 20, 7.5)
    assert request.sampler == "Euler a"
    assert request.clip_skip == 2
    assert request.seed_mode == "a1111"  # no word about the noise: it was the GPU's
    assert found.model == "a, b"


def test_old_names_foreign_extras_and_unknown_settings() -> None:
    found = parse_parameters(
        "x\nSteps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 1, Size: 64x64, Hires upscale: 2, "
        "Hires upscaler: 4x-UltraSharp, Denoising strength: 0.4, ControlNet 0: canny, RNG: NV"
    )
    assert (found.request.sampler, found.request.schedule) == ("DPM++ 2M", "karras")
    assert found.request.hires == HighResolution(2.0, 0.4, None, "picture")
    assert found.unmapped == ("Hires upscaler: 4x-UltraSharp", "ControlNet 0: canny")


def test_a_text_without_settings_is_a_prompt() -> None:
    assert parse_parameters("a cat\nwith a hat").request.prompt == "a cat\nwith a hat"


def test_a_setting_that_is_no_number_is_said() -> None:
    found = parse_parameters("x\nSteps: many, Seed: 1, Size: 8x8")
    assert (found.request.steps, found.request.seed, found.unmapped) == (None, 1, ("Steps: many",))


@given(st.text())
def test_any_text_parses_or_is_refused(text: str) -> None:
    """Nothing but InputError may come out of it."""
    with contextlib.suppress(InputError):
        assert isinstance(parse_parameters(text), Found)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_setting_of_our_own_is_read_or_refused(value: object) -> None:
    for said in (value, {"guidance": value}, {"inputs": value}, {"regions": value}, {"sigmas": value}):
        quoted = json.dumps(json.dumps(said))
        with contextlib.suppress(InputError):
            parse_parameters(f"x\nSteps: 1, Seed: 1, Darkroom: {quoted}")


@contextlib.contextmanager
def ends() -> Iterator[None]:
    """A bound against hanging only: what is tested takes a thousandth of it."""

    def stop(*_: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("text", ["x" * 500_000, "a" + " " * 500_000 + "b", 'aa:"b' * 100_000, 'a:"\\"' * 100_000])
def test_long_lines_do_not_hang(text: str) -> None:
    with ends():
        assert parse_parameters(text).dialect == "A1111"


@pytest.mark.parametrize(
    "said",
    [
        *({"seed": "x"}, {"seed": 1.5}, {"prompt": 5}, {"sampler": 7}, {"width": "8"}, {"guidance_scale": [1]}),
        *({"denoising_start": [1]}, {"guidance": None}, {"hires": {"scale": "x"}}, {"inputs": [1]}, {"seed_mode": 3}),
        *({"image": 5}, {"latent": "x"}, {"unheard": 1}, [], "x"),
    ],
)
def test_settings_of_wrong_types_are_refused(said: object) -> None:
    with pytest.raises(InputError, match="'Darkroom' cannot be read"):
        parse_parameters(f"x\nSteps: 1, Seed: 1, Darkroom: {json.dumps(json.dumps(said))}")


def test_a_setting_nested_without_end_is_refused() -> None:
    with pytest.raises(InputError, match="'Darkroom' cannot be read"):
        parse_parameters("x\nSteps: 1, Seed: 1, Darkroom: " + json.dumps("[" * 100_000))


@pytest.mark.parametrize(
    ("schedule", "label"),
    [("sgm_uniform", "SGM Uniform"), ("linspace", "Uniform"), ("beta", "Beta")],
)
def test_schedules_are_spelled_as_a1111_knows_them(schedule: str, label: str) -> None:
    text = parameters_text(plan(Request("x", sampler="Euler", schedule=schedule), PICTUREBOOK), "m", "h", "darkroom 1")
    assert f"Schedule type: {label}, " in text
    assert "Darkroom:" not in text
    assert parse_parameters(text).request.schedule == schedule


def test_what_is_shown_of_a_file_cannot_steer_the_terminal() -> None:
    found = parse_parameters("x\nSteps: 1, Seed: 1, Emphasis: Ignore, Strange: a\x1b[31mb")
    assert found.unmapped == ("Emphasis: Ignore", "Strange: a\\x1b[31mb")


def test_options_of_samplers_and_schedules_are_taken_over() -> None:
    text = "a cow\nSteps: 20, Sampler: DPM2 a, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x512, Eta: 0.5, "
    text += "ENSD: 31337, Schedule max sigma: 10, Schedule min sigma: 0.1, Schedule rho: 5, "
    found = parse_parameters(text + "Discard penultimate sigma: True, Version: v1.10.0")
    assert found.unmapped == ()
    assert found.request.sampler_options == {"eta": 0.5}
    assert found.request.schedule_options == {
        "sigma_max": 10.0,
        "sigma_min": 0.1,
        "rho": 5.0,
        "discard_penultimate": True,
    }
    assert found.request.eta_noise_seed_delta == 31337
    again = parameters_text(plan(found.request, PICTUREBOOK), "m", "0" * 10, "v1.10.0")
    assert "ENSD: 31337" in again
    assert "Discard penultimate sigma: True" in again
    assert parse_parameters(again).request.schedule_options == found.request.schedule_options
    ddim = parse_parameters("a cow\nSteps: 20, Sampler: DDIM, CFG scale: 7, Seed: 1, Size: 512x512, Eta DDIM: 0.3")
    assert ddim.request.sampler_options == {"eta": 0.3}
    euler = parse_parameters("a cow\nSteps: 20, Sampler: Euler, Seed: 1, Sigma churn: 3, Sigma tmin: 0.2, Size: 64x64")
    assert euler.request.sampler_options == {"s_churn": 3.0, "s_tmin": 0.2}
