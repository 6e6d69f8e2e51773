"""Processes of their own: what a user types and sees."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from darkroom_process import darkroom
from PIL import Image

from darkroom.cli import main
from darkroom.pictures.picture_file import write_picture
from darkroom.requests.records import read_picture
from darkroom.requests.records.a1111 import parse_parameters
from darkroom.types import Guidance, HighResolution


def test_sentences_become_pictures_that_say_how(tiny_folder: Path, tmp_path: Path) -> None:
    done = darkroom(
        "generate", "a red house", "a cat, at night", "-m", tiny_folder, "-o", "pictures", "--seed", 7, "-b", 2,
        "--sampler", "k_euler_a", "--guidance-scale", 3, "-n", "a dog", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    files = sorted((tmp_path / "pictures").iterdir())
    assert [f.name for f in files] == ["00000-7.png", "00001-8.png", "00002-7.png", "00003-8.png"]
    assert done.stdout.split() == [str(Path("pictures") / f.name) for f in files]  # nothing else: for pipes
    assert "4 pictures in" in done.stderr
    picture = Image.open(files[3])
    assert picture.size == (32, 32)
    request = parse_parameters(picture.info["parameters"]).request
    assert (request.prompt, request.negative_prompt, request.seed) == ("a cat, at night", "a dog", 8)
    assert (request.sampler, request.guidance_scale) == ("Euler a", 3.0)
    again = darkroom("generate", "a cat", "-m", tiny_folder, "-o", "pictures", cwd=tmp_path)
    assert "00004-0.png" in again.stdout  # nothing is overwritten


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "a", "--sampler", "eulr"], "unknown sampler 'eulr'; known are: Euler"),
        (["generate", "a", "-W", "100"], "width is 100; tiny makes sides of 16 to 8192 in multiples of 16"),
        (["generate", "a", "--steps", "-2"], "the number of steps is -2, expected is 1 to 1000"),
        (["generate", "a", "-b", "0"], "the batch count is 0, expected is 1 to 100000"),
        (["generate", "a", "--dtype", "fp7"], "unknown dtype 'fp7'; known are: auto, bf16, fp16, fp32"),
        (["generate", "a", "-m", "nosuch"], "there is no model 'nosuch'; expected is a file, a folder, a hub id"),
        (["generate"], "no prompt is given; tiny wants one"),
        (["generate", "a", "-o", "/proc/none"], "the output folder /proc/none cannot be made"),
        (["train", "absent.toml"], "there is no file 'absent.toml'"),
        (["train", "broken.toml"], "broken.toml line 4: unknown key loop.stepz; known are: steps"),
        (["train", "unkind.toml"], "unknown kind of recipe 'difusion'; known are: diffusion"),
        (["evaluate", "picturebook", "--prompts", "empty.jsonl"], "holds no prompts"),
        (["data", "prompts", "--seed", "1", "--count", "3", "-o", "no/such/p.jsonl"], "cannot be written"),
        (["data", "prompts", "--seed", "1", "--count", "3", "--things", "x", "-o", "p"], "number of things is 'x'"),
        (["data", "preview", "--size", "12"], "the size is '12', expected is WIDTHxHEIGHT"),
    ],
)
def test_bad_input_gets_one_sentence_and_status_2(
    arguments: list[str], message: str, tiny_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.toml").write_text(
        'kind = "judge"\nwidth = 8\n[loop]\nstepz = 3\nbatch_size = 1\nlr = 0.1\n[data]\nsize = 64\ncount = 9\n'
    )
    (tmp_path / "unkind.toml").write_text('kind = "difusion"\n')
    (tmp_path / "empty.jsonl").write_text("\n")
    before = sorted(p.name for p in tmp_path.iterdir())
    if arguments[0] == "generate":
        arguments = [*arguments, *([] if "-m" in arguments else ["-m", str(tiny_folder)])]
    done = darkroom(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
    left = [p for p in tmp_path.rglob("*") if p.is_file() and p.name not in before]
    assert left == []


def test_prompts_and_preview_are_written(tmp_path: Path) -> None:
    done = darkroom("data", "prompts", "--seed", 1, "--count", 5, "--things", 2, "-o", "p.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "p.jsonl").read_text().splitlines()) == 5
    done = darkroom("data", "preview", "--count", 2, "--size", "96x64", "-o", "sheet.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "sheet.png").width > 96 * 5


def test_systems_are_listed(tmp_path: Path) -> None:
    done = darkroom("systems", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "picturebook" in done.stdout


def run(tiny_folder: Path, cwd: Path, *arguments: object) -> list[Path]:
    """The files that `darkroom generate` with the tiny model wrote."""
    before = set(cwd.glob("out/*"))
    done = darkroom("generate", *arguments, "-m", tiny_folder, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return sorted(set(cwd.glob("out/*")) - before)


def test_a_picture_is_repeated_changed_repainted_and_extended(tiny_folder: Path, tmp_path: Path) -> None:
    (first,) = run(tiny_folder, tmp_path, "a (red:1.2) cat", "-s", 5, "--pag-scale", 1, "--region", "0,0,.5,1:a dog")
    (again,) = run(tiny_folder, tmp_path, "--like", first)
    assert again.read_bytes() == first.read_bytes()
    assert [f.name[-6:] for f in run(tiny_folder, tmp_path, "--like", first, "--seed", 0)] == ["-0.png"]
    (other,) = run(tiny_folder, tmp_path, "--like", first, "--format", "webp", "--steps", 2)
    assert Image.open(other).format == "WEBP"
    (wide,) = run(tiny_folder, tmp_path, "a cat", "-i", first, "--outpaint", "0,0,16,0")
    assert Image.open(wide).size == (48, 32)
    assert np.array_equal(np.asarray(Image.open(wide))[:, :32], np.asarray(Image.open(first)))
    mask = np.zeros((32, 32), np.uint8)
    mask[8:16] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    (painted,) = run(tiny_folder, tmp_path, "a dog", "-i", first, "--mask", "mask.png", "--strength", 0.8)
    same = np.asarray(Image.open(painted)) == np.asarray(Image.open(first))
    assert same[mask == 0].all()
    assert not same[mask == 255].all()


def test_options_rule_over_the_picture_that_is_repeated(tiny_folder: Path, tmp_path: Path) -> None:
    """Also where they say the default, and one by one where a setting has several."""
    (first,) = run(
        tiny_folder,
        *(tmp_path, "a cat", "--seed-mode", "a1111", "--hires", 2, "--hires-strength", 0.5, "--steps", 3),
        *("--guidance-rescale", 0.5, "--dynamic-threshold", 0.9, "--sampler", "DDIM", "--sampler-option", "eta=1"),
    )
    options = ("--seed-mode", "darkroom", "--hires-strength", 0.7, "--rescale", 0, "--sampler", "Euler a")
    (other,) = run(tiny_folder, tmp_path, "--like", first, *options)
    request = read_picture(other).request
    assert request.seed_mode == "darkroom"
    assert request.hires == HighResolution(2.0, 0.7)
    assert request.guidance == Guidance(dynamic_threshold=0.9)
    assert (request.steps, request.sampler, request.sampler_options) == (3, "Euler a", {})


def test_a_picture_of_another_model_says_so(tiny_folder: Path, tmp_path: Path) -> None:
    text = "a cat\nSteps: 2, Seed: 1, Size: 32x32, Model hash: 0123456789, Model: v1-5, VAE: v.pt, RNG: CPU"
    write_picture(tmp_path / "told.jpg", np.zeros((32, 32, 3), np.uint8), text)
    done = darkroom("generate", "--like", "told.jpg", "-m", tiny_folder, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "not taken over: VAE: v.pt\n" in done.stderr
    assert "not taken over: the model v1-5 [0123456789]; this is " in done.stderr


def test_grids_frames_passes_and_previews(tiny_folder: Path, tmp_path: Path) -> None:
    (grid,) = run(tiny_folder, tmp_path, "a red cat", "-x", "steps=2,3", "-y", "prompt s/r=red,blue")
    assert Image.open(grid).size[0] > 64
    frames = run(tiny_folder, tmp_path, "a cat", "a dog", "--frames", 3, "--to-seed", 8)
    assert [f.name[5:] for f in frames] == ["-0.png"] * 3
    (large,) = run(tiny_folder, tmp_path, "a cat", "--hires", 2, "--preview_path", "look.jpg")
    assert Image.open(large).size == (64, 64)
    assert max(Image.open(tmp_path / "look.jpg").size) == 512


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-i", "absent.png"), "there is no picture absent.png"),
        (("-i", "text.png"), "text.png cannot be read as a picture"),
        (("--mask", "white.png"), "a mask is given without the image"),
        (("-i", "white.png", "--strength", 2), "the strength is 2.0, expected is 0 to 1"),
        (("-i", "white.png", "--mask", "black.png"), "the mask is empty"),
        (("-i", "white.png", "--outpaint", "1,2"), "--outpaint: '1,2' is wrong, expected 4 numbers"),
        (("--like", "white.png"), "white.png does not say how it was made"),
        (("--region", "0,0,1:x"), "the region '0,0,1:x' is wrong"),
        (("--sampler-option", "eta"), "the sampler option 'eta' is wrong"),
        (("--sampler", "DDIM", "--sampler-option", "etta=1"), "unknown key etta"),
        (("-x", "stepz=1"), "unknown setting 'stepz'"),
        (("-y", "steps=1"), "in the order -x, -y, -z"),
        (("--frames", 1), "the number of frames is 1"),
        (("--format", "gif"), "unknown format 'gif'; known are: png, jpg, jpeg, webp"),
        (("--vae", "nosuch"), "there is no model 'nosuch'"),
        (("--prediction", "gold"), "unknown prediction 'gold'; known are: "),
        (("--lora", "nosuch:0.5", "--lora-dir", "."), "unknown LoRA 'nosuch' in .; known are: none"),
        (("--boxes", "text.png"), "text.png is not valid JSON: "),
        (("--seed-mode", "dice"), "unknown seed mode 'dice'; known are: diffusers, "),
        (("--strength", 0.5), "--strength says nothing without --init-image"),
        (("--hires-steps", 5), "--hires-steps says nothing without --hires"),
        (("--like", "told.png", "--hires-strength", 0.5), "--hires-strength says nothing without --hires"),
        (("--to-seed", 5), "--to-seed says nothing without --frames"),
        (("--steps", 3, "--num-inference-steps", 4), "--steps is given twice"),
        (("--cfg-scale", "much"), "--cfg-scale: 'much' is wrong, expected a number (or none)"),
        (("--format", "jpg", "-o", "one.png"), "--format jpg is another format than that of one.png"),
        (("-o", "one.bmp"), "unknown format 'bmp'; known are: png, jpg, jpeg, webp"),
        (("-o", "one.gif"), "unknown format 'gif'; known are: png, jpg, jpeg, webp"),
        (("--prompts", "absent.txt"), "there is no file 'absent.txt'"),
        (("--prompts", "~no-such-user/x.txt"), "there is no file '~no-such-user/x.txt'"),
        (("-i", "~no-such-user/x.png"), "there is no picture ~no-such-user/x.png"),
        (("-o", f"{'n' * 300}.png"), "File name too long"),
        (("--prompts", "bad.jsonl"), "unknown setting 'stepz'; known are: steps"),
        (("--list", "smaplers"), "unknown list 'smaplers'; known are: samplers, schedules, systems"),
        (("--class", 5), "the input 'class' is given, which tiny does not read"),
        (("--device", "abacus"), "unknown device 'abacus'; known are: cpu, cuda"),
        (("--ema", "perhaps"), "unknown choice of averaged weights 'perhaps'; known are: auto, yes, no"),
        (("--memory", "high"), "unknown memory 'high'; known are: auto, low"),
        (("--memory", "low", "--compile"), "take either --compile or --memory low"),
        (("--threads", 0), "the number of threads is 0"),
        (("--threads", 10**9), "the number of threads is 1000000000, expected is 1 to 1024"),
        (("--pag-scale", "nan"), "--pag-scale: 'nan' is wrong, expected a number"),
        (("--region", "0,0,2,1:a dog"), "the region (0.0, 0.0, 2.0, 1.0) is wrong"),
        (("-p", "a" * 100_000), "the prompt has 100000 characters"),
    ],
)
def test_bad_tasks_get_one_sentence(
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[object, ...],
    message: str,
) -> None:
    """In this process, for speed; real ones end the same way above."""
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a cat", "stepz": 3}')
    for name, value in (("white", 255), ("black", 0)):
        Image.fromarray(np.full((32, 32), value, np.uint8)).convert("RGB").save(tmp_path / f"{name}.png")
    write_picture(tmp_path / "told.png", np.zeros((32, 32, 3), np.uint8), "a cat\nSteps: 2, Seed: 1, Size: 32x32")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["darkroom", "generate", "a cat", "-m", str(tiny_folder), *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert message in said
    assert said.count("\n") == 1
    assert list(tmp_path.glob("out/*")) == []
