"""Tasks of composition: GenEval's rules on made-up findings, its files, its folders; true scenes fulfil their tasks."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from darkroom.cli.evaluate import app
from darkroom.data.picturebook import render, sample_scene
from darkroom.data.picturebook.scene import WORDS, Sign, sign_boxes
from darkroom.errors import InputError
from darkroom.evaluation.composing import ceiling, overall
from darkroom.evaluation.composition import TAGS, Group, Task, read_tasks, relative_position, verdict, world_tasks
from darkroom.evaluation.judging import load_judge
from darkroom.evaluation.signs import read_sign
from darkroom.models.judge import Detection


def thing(kind: str, color: str, box: tuple[float, float, float, float], parts: tuple[str, ...] = ()) -> Detection:
    return Detection(kind, 0.9, color, parts, "left", box)


LEFT, RIGHT = (40.0, 10.0, 60.0, 30.0), (40.0, 80.0, 60.0, 100.0)  # top, left, bottom, right


def test_verdicts_are_genevals() -> None:
    cat, dog = thing("cat", "red", LEFT), thing("dog", "blue", RIGHT)
    both = (Group("cat", color="red"), Group("dog", color="blue"))
    assert verdict(Task("color_attr", "", both), [cat, dog]) == (True, "")
    swapped = [thing("cat", "blue", LEFT), thing("dog", "red", RIGHT)]
    right, why = verdict(Task("color_attr", "", both), swapped)
    assert not right
    assert why == "expected red cat, found blue\nexpected blue dog, found red"
    beside = (Group("cat"), Group("dog", position=("right of", 0)))
    assert verdict(Task("position", "", beside), [cat, dog])[0]
    assert verdict(Task("position", "", beside), [thing("cat", "red", RIGHT), thing("dog", "red", LEFT)]) == (
        False,
        "expected dog right of target, found left of target",
    )
    assert verdict(Task("position", "", beside), [dog])[1].endswith("no target for dog to be right of")
    two = Task("counting", "", (Group("cat", 2),), (Group("cat", 3),))
    assert [verdict(two, [cat] * n)[0] for n in (1, 2, 3)] == [False, True, False]
    sign = Task("signs", "", (Group("cat"),), sign="zoo")
    assert verdict(sign, [cat], "zoo") == (True, "")
    assert verdict(sign, [cat], "go") == (False, "expected a sign that says zoo, found go")
    assert verdict(sign, [cat])[1] == "expected a sign that says zoo, found none that can be read"
    roof = Task("parts", "", (Group("house", parts={"roof": "green"}),))
    assert [verdict(roof, [thing("house", "red", LEFT, (c,))])[0] for c in ("green", "red")] == [True, False]


def test_positions_need_a_margin() -> None:
    assert relative_position(LEFT, RIGHT) == {"left of"}
    assert relative_position(RIGHT, LEFT) == {"right of"}
    assert relative_position(LEFT, LEFT) == set()
    assert relative_position((0, 0, 10, 10), (40, 38, 50, 48)) == {"above", "left of"}
    assert relative_position((0, 0, 10, 10), (0, 1, 10, 11)) == set()


def test_tasks_are_made_of_scenes_that_fulfil_them() -> None:
    """The judge, right in 99 of 100 things, finds nearly all of what was really drawn."""
    tasks = world_tasks(3)
    assert Counter(t.tag for t, _ in tasks) == dict.fromkeys(TAGS, 3)
    assert world_tasks(3) == tasks
    assert all(t.can_be_judged for t, _ in tasks)
    shares, mean = overall(ceiling(load_judge(), tasks, 128, 128))
    assert mean > 0.85
    assert shares["single_object"].value == shares["signs"].value == 1


def test_every_word_is_read_wherever_a_sign_stands() -> None:
    """At each of both places, moved by two pixels as models do; scenes without a sign and boards without a word say
    nothing."""
    scene = sample_scene(np.random.default_rng(0), things=1)
    plain = render(replace(scene, sign=None), 96, 96)
    assert read_sign(plain) is None
    for word in WORDS:
        for box in sign_boxes(word, 1.0):
            pixels = render(replace(scene, sign=Sign(word, box)), 96, 96)
            assert read_sign(pixels) == word
            assert read_sign(np.roll(pixels, (-2, 2), axis=(0, 1))) == word
    assert read_sign(np.full((96, 96, 3), 200, np.uint8)) is None


def test_files_of_both_benchmarks_are_read(tmp_path: Path) -> None:
    task = Task("position", "a dog right of a cat", (Group("cat"), Group("dog", position=("right of", 0))))
    path = tmp_path / "evaluation_metadata.jsonl"
    path.write_text(json.dumps(task.metadata()) + "\n")
    assert read_tasks(path) == [task]
    path.write_text('{"tag": "counting", "include": [{"class": "bench", "count": 2}], "prompt": "two benches"}\n')
    assert read_tasks(path)[0] == Task("counting", "two benches", (Group("bench", 2),))
    assert not read_tasks(path)[0].can_be_judged
    sign = next(t for t, _ in world_tasks(1) if t.sign is not None)
    path.write_text(json.dumps(sign.metadata()) + "\n")
    assert read_tasks(path) == [sign]
    assert sign.can_be_judged
    for bad, message in (
        ('{"tag": "x"}', "line 1 is no task of GenEval"),
        ('{"tag": "x", "prompt": "y", "include": [{"class": "a", "position": ["near", 0]}]}', "position"),
        ("", "holds no prompts"),
    ):
        path.write_text(bad)
        with pytest.raises(InputError, match=message):
            read_tasks(path)
    (tmp_path / "color_val.txt").write_text("a red cat and a blue dog\n\na green bench\n")
    tasks = read_tasks(tmp_path / "color_val.txt")
    assert [(t.tag, t.prompt) for t in tasks] == [
        ("color_val", "a red cat and a blue dog"),
        ("color_val", "a green bench"),
    ]


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["composition", "--steps", "1", "--threads", "1", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_pictures_are_drawn_judged_and_kept_in_the_benchmarks_layout(tmp_path: Path) -> None:
    prompts, folder, results = tmp_path / "tasks.jsonl", tmp_path / "pictures", tmp_path / "results.jsonl"
    prompts.write_text("".join(json.dumps(t.metadata()) + "\n" for t, _ in world_tasks(1)[:2]))
    options = ("--prompts", prompts, "--samples", 2, "--pictures", folder, "-o", results, "--width", 64, "--height", 64)
    text = run(*options)
    assert "single_object" in text
    assert "overall" in text
    paths = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.png"))
    assert paths == [f"0000{i}/samples/000{s}.png" for i in (0, 1) for s in (0, 1)]
    assert json.loads((folder / "00000" / "metadata.jsonl").read_text()) == world_tasks(1)[0][0].metadata()
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert [line["filename"] for line in lines] == paths
    assert set(lines[0]) == {"filename", "tag", "prompt", "correct", "reason", "metadata"}
    assert json.loads(lines[0]["metadata"]) == world_tasks(1)[0][0].metadata()
    times = {p: p.stat().st_mtime_ns for p in folder.rglob("*.png")}
    (folder / paths[3]).unlink()  # an interrupted run goes on
    run(*options)
    assert [p.stat().st_mtime_ns == times[p] for p in sorted(times)] == [True, True, True, False]
    with pytest.raises(InputError, match=r"drawn otherwise \(settings\)"):
        run(*options, "--cfg-scale", 2)
    prompts.write_text("".join(reversed(prompts.read_text().splitlines(keepends=True))))
    with pytest.raises(InputError, match="its pictures are of other prompts"):
        run(*options)


def test_prompts_that_the_judge_does_not_know_are_only_drawn(tmp_path: Path) -> None:
    prompts = tmp_path / "color.txt"
    prompts.write_text("a green bench\n")
    size = ("--width", 64, "--height", 64)
    with pytest.raises(InputError, match="give --pictures FOLDER"):
        run("--prompts", prompts, *size)
    with pytest.raises(InputError, match="verdicts, and the judge does not know all things"):
        run("--prompts", prompts, "--pictures", tmp_path / "out", "-o", tmp_path / "verdicts.jsonl", *size)
    run("--prompts", prompts, "--samples", 2, "--pictures", tmp_path / "out", *size)
    names = sorted(p.name for p in (tmp_path / "out" / "samples").iterdir())
    assert names == ["a green bench_000000.png", "a green bench_000001.png"]
    with Image.open(tmp_path / "out" / "samples" / names[0]) as picture:
        assert picture.size == (64, 64)
