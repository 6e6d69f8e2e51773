"""Pictures of other tools, written here by hand, and of this one."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from darkroom.errors import InputError
from darkroom.pictures.picture_file import write_picture
from darkroom.requests.plan import plan
from darkroom.requests.records import invoke, read_picture
from darkroom.requests.records.a1111 import parameters_text
from darkroom.systems.picturebook import PICTUREBOOK
from darkroom.types import Request

PIXELS = np.zeros((8, 8, 3), np.uint8)


def png(folder: Path, **texts: str) -> Path:
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    Image.fromarray(PIXELS).save(folder / "picture.png", pnginfo=info)
    return folder / "picture.png"


@pytest.mark.parametrize("ending", ["png", "jpg", "jpeg", "webp"])
def test_every_format_carries_the_request(tmp_path: Path, ending: str) -> None:
    request = Request("ein Häuschen, 猫 (x:1.2)\nline two", "fog", seed=5, width=64, height=64)
    path = tmp_path / f"a.{ending}"
    write_picture(path, PIXELS, parameters_text(plan(request, PICTUREBOOK), "m", "h", "v"))
    found = read_picture(path)
    assert (found.request.prompt, found.request.negative_prompt, found.request.seed) == (request.prompt, "fog", 5)
    assert Image.open(path).size == (8, 8)
    assert list(tmp_path.iterdir()) == [path]


def test_an_unknown_ending_and_an_unwritable_place_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown format 'gif'"):
        write_picture(tmp_path / "a.gif", PIXELS, "")
    with pytest.raises(InputError, match="cannot be written"):
        write_picture(tmp_path / "no" / "a.png", PIXELS, "")
    assert list(tmp_path.iterdir()) == []


def test_comments_of_either_byte_order_are_read(tmp_path: Path) -> None:
    text = "a cat\nSteps: 20, Sampler: Euler, Seed: 1, Size: 64x64"
    written = [b"UNICODE\0" + text.encode(code) for code in ("utf-16-le", "utf-16-be", "utf-16")]
    for comment in (*written, b"ASCII\0\0\0" + text.encode(), bytes(8) + text.encode(), text.encode()):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9286] = comment
        Image.fromarray(PIXELS).save(tmp_path / "a.jpg", exif=exif)
        request = read_picture(tmp_path / "a.jpg").request
        assert (request.prompt, request.steps) == ("a cat", 20)


def test_invokeai(tmp_path: Path) -> None:
    said = {
        "positive_prompt": "a castle", "negative_prompt": "fog", "width": 512, "height": 768, "seed": 9, "steps": 25,
        "cfg_scale": 7, "scheduler": "dpmpp_2m_k", "clip_skip": 1, "model": {"name": "dream", "hash": "blake3:ab"},
        "loras": [{"model": {"name": "ink"}, "weight": 0.75}], "controlnets": [{"x": 1}], "app_version": "5",
    }  # fmt: skip
    found = read_picture(png(tmp_path, invokeai_metadata=json.dumps(said)))
    assert found.request == Request(
        "a castle<lora:ink:0.75>", "fog", 512, 768, 9, 25, 7.0, "DPM++ 2M", "karras", clip_skip=2, emphasis="compel"
    )
    assert (found.model, found.model_hash) == ("dream", "blake3:ab")
    assert [u.partition(":")[0] for u in found.unmapped] == ["controlnets"]


@pytest.mark.parametrize("key", ["sd-metadata", "Dream"])
def test_invokeai_before_3(tmp_path: Path, key: str) -> None:
    image = {
        "prompt": [{"prompt": "a cat++ [fog]", "weight": 1.0}], "steps": 30, "cfg_scale": 7.5, "height": 512,
        "width": 640, "seed": 99, "seamless": False, "perlin": 0, "type": "txt2img", "sampler": "k_euler_a",
    }  # fmt: skip
    line = '"a cat++ [fog]" -s 30 -S 99 -W 640 -H 512 -C7.5 -A k_euler_a'
    text = {"sd-metadata": json.dumps({"app_id": "invoke-ai/InvokeAI", "image": image}), "Dream": line}[key]
    found = read_picture(png(tmp_path, **{key: text}))
    assert found.request == Request("a (cat:1.21)", "fog", 640, 512, 99, 30, 7.5, "Euler a", emphasis="compel")
    assert (found.dialect, found.unmapped) == ("InvokeAI", ())


def test_numbers_are_taken_as_they_are_written_or_said(tmp_path: Path) -> None:
    text = "a\nSteps: 20.0, Sampler: Euler, CFG scale: 7, Seed: 1e3, Size: 64x64, Clip skip: 1.5"
    found = read_picture(png(tmp_path, parameters=text))
    assert (found.request.steps, found.request.seed, found.unmapped) == (20, 0, ("Seed: 1e3", "Clip skip: 1.5"))


def test_prompts_of_single_figures_are_said(tmp_path: Path) -> None:
    figures = {"caption": {"base_caption": "a cat", "char_captions": [{"char_caption": "girl"}]}}
    said = {"prompt": "a cat", "uc": "fog", "scale": 5.0, "steps": 28, "v4_prompt": figures}
    found = read_picture(png(tmp_path, Software="NovelAI", Comment=json.dumps(said)))
    assert found.unmapped == ("v4_prompt of a figure: girl",)


def test_fooocus(tmp_path: Path) -> None:
    said = {
        "prompt": "a castle", "negative_prompt": "", "steps": 30, "guidance_scale": 4.0, "seed": "77", "clip_skip": 2,
        "sampler": "dpmpp_2m_sde", "scheduler": "karras", "resolution": "(1152, 896)", "base_model": "juggernaut",
        "loras": [["ink.safetensors", 0.5, "ab"]], "performance": "Speed", "version": "2.5",
    }  # fmt: skip
    found = read_picture(png(tmp_path, parameters=json.dumps(said), fooocus_scheme="fooocus"))
    assert found.request == Request(
        "a castle<lora:ink:0.5>", "", 1152, 896, 77, 30, 4.0, "DPM++ 2M SDE", "karras", clip_skip=2, seed_mode="comfy"
    )
    assert found.unmapped == ("performance: Speed",)


def test_easy_diffusion_writes_each_value_as_a_text(tmp_path: Path) -> None:
    said = {
        "prompt": "a castle++", "negative_prompt": "fog", "seed": "9", "num_inference_steps": "25",
        "guidance_scale": "7.5", "width": "512", "height": "768", "sampler_name": "dpmpp_2s_a", "clip_skip": "True",
        "use_stable_diffusion_model": "dream", "use_lora_model": "['ink']", "lora_alpha": "[0.5]", "tiling": "None",
        "use_vae_model": "kl-f8",
    }  # fmt: skip
    found = read_picture(png(tmp_path, **said))
    assert found.request == Request(
        "a (castle:1.21)<lora:ink:0.5>",
        "fog", 512, 768, 9, 25, 7.5, "DPM++ 2S a", clip_skip=2, seed_mode="diffusers", emphasis="compel",
    )  # fmt: skip
    assert (found.dialect, found.model, found.unmapped) == ("Easy Diffusion", "dream", ("use_vae_model: kl-f8",))


@pytest.mark.parametrize(
    ("configuration", "sampler", "schedule"),
    [
        ("EulerAncestralDiscreteScheduler", "Euler a", None),
        ({"_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": True}, "DPM++ 2M", "karras"),
        ({"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++"}, "DPM++ 2M SDE", None),
        ({"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}, "Euler", "trailing"),
    ],
)
def test_schedulers_of_diffusers(tmp_path: Path, configuration: object, sampler: str, schedule: str | None) -> None:
    said = {"prompt": "a (castle)", "num_inference_steps": 20, "guidance_scale": 5, "scheduler": configuration}
    request = read_picture(png(tmp_path, parameters=json.dumps(said))).request
    assert request == Request(
        "a (castle)", steps=20, guidance_scale=5.0, sampler=sampler, schedule=schedule, seed_mode="diffusers",
        prompt_syntax="plain",
    )  # fmt: skip


def test_a_scheduler_of_diffusers_in_the_words_of_a1111(tmp_path: Path) -> None:
    text = "a\nSteps: 9, Sampler: DPMSolverMultistepScheduler, use_karras_sigmas: True, Seed: 7, Size: 64x64"
    found = read_picture(png(tmp_path, parameters=text))
    assert (found.request.sampler, found.request.schedule, found.unmapped) == ("DPM++ 2M", "karras", ())


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff\xe0" + b"\0" * 40])
def test_files_that_are_no_pictures(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as a picture"):
        read_picture(path)
    with pytest.raises(InputError, match="there is no picture"):
        read_picture(tmp_path / "absent.png")


def test_a_picture_that_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not say how it was made; its texts are: Comment"):
        read_picture(png(tmp_path, Comment="hello"))


def test_texts_without_end_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"characters, read are at most|cannot be read"):
        read_picture(png(tmp_path, parameters="x" * (5 << 20)))


@pytest.mark.parametrize(
    ("theirs", "sampler", "schedule"),
    [
        ("kdpm_2", "DPM2", None),
        ("kdpm_2_a_k", "DPM2 a", "karras"),
        ("euler_a", "Euler a", None),
        ("pndm", "PLMS", None),
    ],
)
def test_samplers_of_invokeai(theirs: str, sampler: str, schedule: str | None) -> None:
    request = invoke.read({"scheduler": theirs}).request
    assert (request.sampler, request.schedule) == (sampler, schedule)


def test_fooocus_in_the_words_of_a1111(tmp_path: Path) -> None:
    text = "a [castle]\nSteps: 30, Sampler: DPM++ 2M SDE Karras, Seed: 7, Size: 64x64"
    found = read_picture(png(tmp_path, parameters=text, fooocus_scheme="a1111"))
    assert (found.dialect, found.request.seed_mode, found.request.seed) == ("Fooocus", "comfy", 7)
    assert (found.request.prompt_syntax, found.request.emphasis) == ("comfy", "a1111")


def test_jpeg_refuses_more_text_than_it_holds(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot hold the 40000 characters"):
        write_picture(tmp_path / "a.jpg", PIXELS, "x" * 40_000)
    assert list(tmp_path.iterdir()) == []
    write_picture(tmp_path / "a.jpg", PIXELS, "x" * 32_000)
    assert read_picture(tmp_path / "a.jpg").request.prompt == "x" * 32_000


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_lone_surrogates_do_not_lose_the_picture(tmp_path: Path, ending: str) -> None:
    write_picture(tmp_path / f"a.{ending}", PIXELS, "a\udcffb")
    assert read_picture(tmp_path / f"a.{ending}").request.prompt == "a?b"
