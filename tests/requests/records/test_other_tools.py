"""Records of tools that write tables or texts of their own, written here by hand."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from darkroom.errors import InputError
from darkroom.requests.records import comfy, draw_things, fooocus, invoke, novelai, read_picture, swarm
from darkroom.requests.records.a1111 import parse_parameters
from darkroom.requests.records.reading import table
from darkroom.types import HighResolution, Request

IMAGE = Image.fromarray(np.zeros((8, 8, 3), np.uint8))


def png(folder: Path, texts: dict[str, str]) -> Path:
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    IMAGE.save(folder / "picture.png", pnginfo=info)
    return folder / "picture.png"


SETTINGS = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 64x96"


@pytest.mark.parametrize(
    "behind",
    ["Template: a {b|c} cat, d: e, f: g\nNegative Template: fog", "Civitai resources: [], Civitai metadata: {}", "x"],
)
def test_lines_behind_the_settings_do_not_hide_them(behind: str) -> None:
    found = parse_parameters(f"a cat\nNegative prompt: fog\n{SETTINGS}\n{behind}")
    assert found.request == Request("a cat", "fog", 64, 96, 5, 20, 7.0, "Euler a", seed_mode="a1111")
    assert found.unmapped == tuple(behind.split("\n"))


def test_a_line_of_the_prompt_is_no_setting() -> None:
    found = parse_parameters(f"a: b, c: d, e: f\nSteps: small, one: two, three: four\n{SETTINGS}")
    assert found.request.prompt == "a: b, c: d, e: f\nSteps: small, one: two, three: four"
    assert parse_parameters("a: b, c: d, e: f\na cat").request.prompt == "a: b, c: d, e: f\na cat"


@pytest.mark.parametrize(
    ("more", "unmapped"),
    [
        ('TI hashes: "bad: 12, worse: 34"', ()),
        ("Refiner: r [12], Refiner switch at: 0.8", ("Refiner: r [12]", "Refiner switch at: 0.8")),
        ("Denoising strength: 0.5, Mask blur: 4", ("the picture that was drawn over", "the mask")),
        ("Denoising strength: 0.5, Hires upscale: 2, Hires upscaler: Latent, Hires prompt: x", ("Hires prompt: x",)),
        ("App: SD.Next, Operations: txt2img", ("App: SD.Next", "Operations: txt2img")),
        ("ENSD: 31337, Schedule rho: 5, Unheard: 3", ("Unheard: 3",)),
        ('Lora hashes: "x: 12"', ()),
    ],
)
def test_what_a1111_and_its_kin_say_and_this_project_cannot(more: str, unmapped: tuple[str, ...]) -> None:
    assert parse_parameters(f"a cat\n{SETTINGS}, {more}").unmapped == unmapped


def test_a_second_pass_to_a_size() -> None:
    found = parse_parameters(f"x\n{SETTINGS}, Denoising strength: 0.5, Hires resize: 128x192, Hires upscaler: Lanczos")
    assert found.request.hires == HighResolution(2.0, 0.5, None, "picture")
    assert found.unmapped == ()


def test_a_size_that_is_none_is_said() -> None:
    assert parse_parameters("x\nSteps: 1, Seed: 1, Size: large").unmapped == ("size: large",)


def test_draw_things(tmp_path: Path) -> None:
    said = {"c": "a cat", "uc": "fog", "steps": 20, "scale": 7.5, "seed": 3, "size": "512x768", "sampler": "Euler A"}
    said |= {"lora": [{"model": "ink.ckpt", "weight": 0.6}], "model": "sd_v1.5.ckpt", "strength": 1, "shift": 3}
    xmp = "<x:xmpmeta><exif:UserComment><rdf:Alt><rdf:li xml:lang='x-default'>{}</rdf:li></rdf:Alt></exif:UserComment>"
    packet = xmp.format(json.dumps(said).replace('"', "&quot;"))
    found = read_picture(png(tmp_path, {"XML:com.adobe.xmp": packet}))
    assert found.request == Request("a cat<lora:ink:0.6>", "fog", 512, 768, 3, 20, 7.5, "Euler a")
    assert (found.dialect, found.model, found.unmapped) == ("Draw Things", "sd_v1.5.ckpt", ("shift: 3",))
    text = "a cat\nSteps: 20, Sampler: Euler A, Guidance Scale: 7.5, Seed: 3, Size: 64x64, Strength: 1.0"
    assert parse_parameters(text).request.guidance_scale == 7.5
    assert parse_parameters(text).unmapped == ()


def test_novelai(tmp_path: Path) -> None:
    said = {"prompt": "{a cat}", "uc": "fog", "steps": 28, "width": 832, "height": 1216, "scale": 5, "seed": 9}
    said |= {"sampler": "k_euler_ancestral", "noise_schedule": "karras", "cfg_rescale": 0.2, "sm": True, "n_samples": 1}
    texts = {"Software": "NovelAI", "Source": "NovelAI Diffusion V3", "Comment": json.dumps(said)}
    found = read_picture(png(tmp_path, texts))
    assert found.request == Request("(a cat:1.05)", "fog", 832, 1216, 9, 28, 5.0, "Euler a", "karras")
    assert (found.dialect, found.model) == ("NovelAI", "NovelAI Diffusion V3")
    assert found.unmapped == ("cfg_rescale: 0.2", "sm: True")


def test_swarmui(tmp_path: Path) -> None:
    said = {"prompt": "a [cat] <random:a|b>", "negativeprompt": "fog", "model": "base", "seed": 9, "steps": 20}
    said |= {"cfgscale": 7, "width": 64, "height": 96, "sampler": "dpmpp_2m", "scheduler": "karras", "loras": ["ink"]}
    said |= {"loraweights": ["0.5"], "vae": "other"}
    found = read_picture(png(tmp_path, {"parameters": json.dumps({"sui_image_params": said})}))
    assert found.request == Request(
        r"a \[cat\]<lora:ink:0.5>", "fog", 64, 96, 9, 20, 7.0, "DPM++ 2M", "karras", seed_mode="comfy", emphasis="comfy"
    )
    assert (found.dialect, found.unmapped) == ("SwarmUI", ("<random:a|b> in the prompt", "vae: other"))


GRAPH = {
    "1": {"class_type": "KSampler", "inputs": {"seed": 4, "steps": 2, "positive": ["2", 0], "negative": ["2", 0]}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat"}},
}


def test_graphs_of_comfyui_in_other_places(tmp_path: Path) -> None:
    assert read_picture(png(tmp_path, {"parameters": json.dumps(GRAPH)})).request.seed == 4
    assert read_picture(png(tmp_path, {"parameters": json.dumps({"prompt": GRAPH, "workflow": {}})})).request.seed == 4
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "workflow:{}", "prompt:" + json.dumps(GRAPH)
    IMAGE.save(tmp_path / "a.webp", exif=exif)
    found = read_picture(tmp_path / "a.webp")
    assert (found.dialect, found.request.prompt) == ("ComfyUI", "a cat")


def test_a_workflow_alone(tmp_path: Path) -> None:
    nodes = [
        {"id": 1, "type": "KSampler", "inputs": [{"name": "positive", "link": 7}], "widgets_values": [4, "fixed", 2]},
        {"id": 2, "type": "CLIPTextEncode", "widgets_values": ["a cat"]},
    ]
    workflow = {"nodes": nodes, "links": [[7, 2, 0, 1, 1, "CONDITIONING"]]}
    found = read_picture(png(tmp_path, {"workflow": json.dumps(workflow)}))
    assert (found.request.prompt, found.request.seed, found.request.steps) == ("a cat", 4, 2)


def test_comments_of_gif_files(tmp_path: Path) -> None:
    IMAGE.save(tmp_path / "a.gif", comment=f"a cat\n{SETTINGS}".encode())
    assert read_picture(tmp_path / "a.gif").request.seed == 5
    IMAGE.save(tmp_path / "b.gif", comment=b"made by hand")
    with pytest.raises(InputError, match="its texts are: comment"):
        read_picture(tmp_path / "b.gif")


def test_tables_that_no_tool_writes_are_no_prompts(tmp_path: Path) -> None:
    for text in ('{"a": 1}', '{"prompt": 3}', '{"sui_image_params": []}', '{"prompt": {"1": 2}}'):
        with pytest.raises(InputError, match="does not say how it was made; its texts are: parameters"):
            read_picture(png(tmp_path, {"parameters": text}))


def test_names_of_texts_cannot_steer_the_terminal(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_picture(png(tmp_path, {"a\x1b[2Jb": "x"}))
    assert "\x1b" not in str(caught.value)


def test_broken_exif_does_not_hide_other_texts(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("parameters", f"a cat\n{SETTINGS}")
    IMAGE.save(tmp_path / "a.png", pnginfo=info, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert read_picture(tmp_path / "a.png").request.seed == 5


@pytest.mark.parametrize("text", ["", "3", "[1]", "{", '{"a": ' * 200 + "1" + "}" * 200, "[" * 100_000, '{"a": 1e5'])
def test_what_is_no_table(text: str) -> None:
    assert table(text) is None


def test_tables_are_nested_to_a_depth() -> None:
    assert table('{"a": ' * 99 + "1" + "}" * 99) is not None
    assert table('{"a": [{}, 3, "x"]}') == {"a": [{}, 3, "x"]}


keys = st.sampled_from(
    [
        *(
            "class_type",
            "inputs",
            "loras",
            "lora",
            "weight",
            "model",
            "prompt",
            "1",
            "2",
            "nodes",
            "links",
            "type",
            "id",
        ),
        *(
            "positive",
            "negative",
            "text",
            "steps",
            "widgets_values",
            "mode",
            "name",
            "link",
            "seed",
            "sampler",
            "c",
            "uc",
        ),
        *("scale", "strength", "size", "resolution", "sui_image_params", "loraweights", "KSampler", "CLIPTextEncode"),
    ]
)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | keys | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=14,
)


@settings(deadline=None)
@given(
    junk,
    keys,
    st.sampled_from([comfy.read, comfy.read_workflow, invoke.read, fooocus.read, swarm.read, draw_things.read]),
)
def test_any_table_is_read_or_refused(value: object, key: str, reader: Any) -> None:
    """Nothing but InputError may come out of it."""
    whole = {"prompt": value, "positive_prompt": value, "sampler": value, "c": "x", "scale": 1, key: value}
    graph = json.loads(json.dumps(GRAPH))
    graph["1"]["inputs"][key] = graph["2"]["inputs"][key] = value
    tables: list[Any] = [
        value,
        whole,
        graph,
        {"sui_image_params": whole},
        {"nodes": [value, {"type": "KSampler", **whole}]},
    ]
    for each in tables:
        if isinstance(each, dict):
            with contextlib.suppress(InputError):
                reader(each)
            with contextlib.suppress(InputError):
                novelai.read(each, value)
