"""Studies from their pictures to their report, without a browser."""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from darkroom.cli.app import app
from darkroom.cli.compare import prompt_items
from darkroom.data.picturebook.prompts import sample_prompts, write_prompts
from darkroom.errors import InputError
from darkroom.evaluation.study.collection import Collection, candidate
from darkroom.evaluation.study.design import DAMAGED, Design, Item, load_design
from darkroom.evaluation.study.page import static_page, take_votes
from darkroom.evaluation.study.report import arena_lines, report
from darkroom.evaluation.study.server import StudyServer
from darkroom.evaluation.study.trials import next_trial, right_answer
from darkroom.evaluation.study.votes import Trial, Vote, Votes
from darkroom.pictures.picture_file import write_picture
from darkroom.pictures.reading import read_pixels

RECORD = "a cat\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 24x24, Model: secret-model"


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Three candidates: dark, gray and bright pictures, 4 of them by the same names, in files of two formats."""
    made = []
    for name, level, ending in (("dark", 40, "png"), ("gray", 120, "jpg"), ("bright", 220, "png")):
        folder = tmp_path / name
        (folder / "in").mkdir(parents=True)
        for i in range(4):
            pixels = np.full((24, 24, 3), level + i, dtype=np.uint8)
            pixels[:12, :12, 0] = 7 * i  # tiles differ, so that a picture can be taken apart
            write_picture(folder / "in" / f"{i}.{ending}", pixels, RECORD)
        made.append(folder)
    write_picture(made[0] / "alone.png", np.zeros((24, 24, 3), np.uint8), RECORD)
    return made


@pytest.fixture
def study(folders: list[Path], tmp_path: Path) -> Path:
    run("compare", *folders, "-o", tmp_path / "study", "--report")
    return tmp_path / "study"


def design_of(candidates: int = 3, items: int = 10, secret: str = "s", **more: float) -> Design:
    names = tuple("ABCDEF"[:candidates])
    return Design(
        names, tuple(Item(str(i), f"thing {i}") for i in range(items)), ("quality", "prompt"), secret=secret, **more
    )


def answered(design: Design, rater: str, count: int, votes: list[Vote], choose) -> list[Vote]:
    """`count` more trials of `rater`, answered by `choose`."""
    mine: list[Vote] = []
    for _ in range(count):
        trial = next_trial(design, rater, mine, votes)
        if trial is None:
            break
        mine.append(Vote(len(votes), trial, rater, "person", choose(trial), 1.0, 0.0))
        votes.append(mine[-1])
    return mine


def prefers_lower(trial: Trial) -> str:
    if trial.kind == "attention":
        return right_answer(trial)
    return "left" if trial.left < trial.right else "right"


def test_pairs_and_sides_are_balanced_at_every_moment() -> None:
    design, votes = design_of(), []
    for rater in ("one", "two", "three"):
        answered(design, rater, 33, votes, prefers_lower)
        regular = [v.trial for v in votes if v.trial.kind == "vote"]
        met = Counter((t.question, t.pair) for t in regular)
        assert len(met) == 6
        assert max(met.values()) - min(met.values()) <= 1
        for place in met:
            lefts = Counter(t.left for t in regular if (t.question, t.pair) == place)
            assert abs(lefts[place[1][0]] - lefts[place[1][1]]) <= 1
        shown = Counter((t.question, t.pair, t.item) for t in regular)
        assert max(shown.values()) == -(-max(met.values()) // 10)  # no item again before all were shown


def test_a_voter_sees_everything_once_and_tests_and_repeats_between() -> None:
    design, votes = design_of(items=20, attention=0.1, repeats=0.05), []
    mine = answered(design, "one", 1000, votes, prefers_lower)
    kinds = Counter(v.trial.kind for v in mine)
    assert kinds["vote"] == 2 * 20 * 3
    assert len({(v.trial.question, v.trial.item, v.trial.pair) for v in mine if v.trial.kind == "vote"}) == 120
    assert abs(kinds["attention"] - len(mine) / 10) <= 1
    assert 5 <= kinds["repeat"] <= 8
    for n, v in enumerate(mine):
        if v.trial.kind == "attention":
            assert DAMAGED in (v.trial.left, v.trial.right)
        if v.trial.kind == "repeat":
            before = [w.trial for w in mine[:n]]
            swapped = Trial("vote", v.trial.question, v.trial.item, v.trial.right, v.trial.left)
            assert swapped in before
    assert next_trial(design, "one", mine, votes) is None


def test_labels_tell_nothing_and_are_those_of_one_study() -> None:
    one, other = design_of(), design_of(secret="t")
    labels = one.exhibits()
    assert len(labels) == 3 * 10 * 2
    assert not labels.keys() & other.exhibits().keys()


def test_a_report_leaves_out_who_does_not_look(study: Path) -> None:
    design, votes = design_of(items=12, attention=0.2), []
    answered(design, "good", 100, votes, prefers_lower)
    careless = answered(design, "careless", 100, votes, lambda t: "left")
    found = report(design, votes)
    assert found.left_out == ["careless"]
    assert found.voters == 1
    assert found.repeated[0] == found.repeated[1] > 0
    quality = found.sections[0]
    assert [r.candidate for r in quality.ranking] == ["A", "B", "C"]
    assert [r.share for r in quality.ranking] == [1, 0.5, 0]
    assert quality.missing is not None  # who won every time has no bound
    assert quality.duels[0].decision.verdict == "better"
    assert found.elo["A"] > 1000 > found.elo["C"]
    lines = [json.loads(line) for line in arena_lines(design, careless)]
    assert len(lines) == sum(v.trial.kind == "vote" for v in careless)
    assert {line["winner"] for line in lines} == {"model_a"}
    assert lines[0]["judge"] == "careless"


def test_folders_are_paired_by_name_and_kept_without_a_word_of_their_makers(folders: list[Path], study: Path) -> None:
    design = load_design(study)
    assert [i.name for i in design.items] == ["in/0", "in/1", "in/2", "in/3"]
    assert [i.prompt for i in design.items] == ["a cat"] * 4
    assert design.questions == ("quality", "prompt")
    collection = Collection(study)
    kept = collection.path(0, 2)
    np.testing.assert_array_equal(read_pixels(kept), read_pixels(folders[0] / "in" / "2.png"))
    assert b"secret-model" not in kept.read_bytes()
    with Image.open(kept) as image:
        assert not image.info
    (exhibit,) = (e for e in design.exhibits().values() if e == (0, 2, True))
    assert collection.png(exhibit) != kept.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dark"], "number of candidates is 1, expected is at least 2"),
        (["dark", "dark"], "a candidate is named twice"),
        ([], "new holds no study"),
        (["dark", "nosuch"], "nosuch is no folder of pictures; what a model is to draw"),
        (["dark", "empty"], "no picture has the same name"),
        (["dark", "gray", "--questions", "beauty"], "unknown question 'beauty'"),
        (["dark", "gray", "--attention", "0.9"], "the share of attention is 0.9, expected is 0 to 0.5"),
        (["dark", "gray", "--prompts", "two"], "there are 2 prompts for 4 pictures"),
        (["dark", "gray", "--prompts", "absent"], "there is no file 'absent'"),
        (["picturebook,steps", "picturebook", "--prompts", "two"], "there is no model 'picturebook,steps'"),
        (["picturebook,steps=4,x", "picturebook", "--prompts", "two"], "'x' is no setting"),
        (["picturebook,stps=4", "picturebook", "--prompts", "two"], "unknown setting 'stps'"),
    ],
)
def test_studies_that_cannot_be_made(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "two").write_text("a cat\na dog\n")
    with pytest.raises(InputError, match=message):
        run("compare", *arguments, "-o", "new", "--report")
    assert not (tmp_path / "new").exists() or not list((tmp_path / "new").rglob("*"))


def test_another_study_does_not_take_the_folder_of_the_first(folders: list[Path], study: Path) -> None:
    with pytest.raises(InputError, match="is a study of"):
        run("compare", *folders[:2], "-o", study, "--report")


def test_models_draw_what_is_missing_and_the_judge_votes(tiny_folder: Path, tmp_path: Path) -> None:
    with (tmp_path / "prompts").open("wb") as file:
        write_prompts(file, sample_prompts(0, 3, (1, 1)))
    both = (tiny_folder, f"{tiny_folder},steps=2,seed=9")
    out = tmp_path / "study"
    said = run("compare", *both, "--prompts", tmp_path / "prompts", "-o", out, "--voter", "judge")
    assert "by the machine judge" in said
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.png")}
    assert len(before) == 6
    lost = next(iter(before))
    lost.unlink()
    run("compare", "-o", out, "--voter", "judge", "--export", tmp_path / "votes.jsonl")
    assert {p for p in before if p.stat().st_mtime_ns != before[p]} == {lost}
    with Votes(out / "votes.sqlite") as votes:
        assert len(votes.all()) == 3  # not again
    lines = [json.loads(line) for line in (tmp_path / "votes.jsonl").read_text().splitlines()]
    assert {line["judge"] for line in lines} == {"judge"}
    assert json.loads((out / "report.json").read_text())["voters"] == 0
    assert candidate(both[1]).settings == {"steps": 2, "seed": 9}


@pytest.fixture
def server(study: Path) -> Iterator[StudyServer]:
    with Votes(study / "votes.sqlite") as votes:
        server = StudyServer(load_design(study), Collection(study), votes)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
        server.server_close()


def ask(server: StudyServer, method: str, path: str, body: object = None, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=240)  # type: ignore[arg-type]
    headers = {"Cookie": f"study={server.token}", **headers}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    reply = connection.getresponse()
    return reply.status, reply.read()


def test_the_server_takes_votes_of_those_who_may(server: StudyServer) -> None:
    status, body = ask(server, "POST", "/next", {"rater": "abc"})
    first = json.loads(body)
    assert status == 200
    assert json.loads(ask(server, "POST", "/next", {"rater": "abc"})[1]) == first  # until it is answered
    assert ask(server, "GET", f"/picture/{first['left']}")[1][:4] == b"\x89PNG"
    said = {"rater": "abc", "id": first["id"], "answer": "tie", "seconds": 2.5}
    second = json.loads(ask(server, "POST", "/answer", said)[1])
    assert second["id"] != first["id"]
    assert second["done"] == 1
    again = json.loads(ask(server, "POST", "/again", {"rater": "abc"})[1])
    assert (again["id"], again["left"], again["done"]) == (first["id"], first["left"], 0)
    ask(server, "POST", "/answer", {**said, "answer": "left"})
    (vote,) = server.votes.all()
    assert (vote.answer, vote.seconds) == ("left", 2.5)
    assert b"<main>" in ask(server, "GET", "/")[1]


REFUSED: list[tuple[str, str, object, dict[str, str], int, str]] = [
    ("GET", "/", None, {"Cookie": ""}, 401, "open the address"),
    ("GET", "/?token=guess", None, {"Cookie": "study=guess"}, 401, "open the address"),
    ("POST", "/next", {"rater": "abc"}, {"Cookie": ""}, 401, "open the address"),
    ("GET", "/", None, {"Host": "evil.example"}, 403, "not served"),
    ("POST", "/next", {"rater": "abc"}, {"Origin": "http://evil.example"}, 403, "not served"),
    ("GET", "/picture/../votes.sqlite", None, {}, 404, "nothing here"),
    ("GET", "/study.json", None, {}, 404, "nothing here"),
    ("POST", "/next", {}, {}, 400, "rater is missing"),
    ("POST", "/next", {"rater": "machine:judge"}, {}, 400, "rater is missing"),
    ("POST", "/next", [1], {}, 400, "no JSON object"),
    ("POST", "/next", {"rater": "a" * 9000}, {}, 400, "accepted are at most 4096"),
    ("POST", "/answer", {"rater": "abc", "id": 77, "answer": "left"}, {}, 400, "was not shown to this voter"),
    ("POST", "/answer", {"rater": "abc", "id": 1 << 70, "answer": "left"}, {}, 400, "was not shown to this voter"),
    ("GET", "/", None, {"Host": "["}, 400, "the address cannot be read"),
    ("GET", "/", None, {"Cookie": "study}=x"}, 401, "open the address"),
    ("POST", "/answer", {"rater": "abc", "id": 1, "answer": "both"}, {}, 400, "unknown answer 'both'"),
    ("POST", "/elsewhere", {"rater": "abc"}, {}, 400, "expected is /next"),
]


def test_the_server_refuses(server: StudyServer) -> None:
    for method, path, body, headers, status, message in REFUSED:
        found, answer = ask(server, method, path, body, **headers)
        assert (found, message in answer.decode()) == (status, True), (method, path, answer)
    assert server.votes.all() == []


def test_votes_of_a_page_are_taken_once_and_only_whole(study: Path) -> None:
    design = load_design(study)
    text = static_page(design, Collection(study), most=10)
    assert not any(name in text for name in (*design.candidates, design.secret, "in/0"))
    data = json.loads(text.split('id="study">')[1].split("</script>")[0])
    rows = [
        {**{k: t[k] for k in ("question", "left", "right")}, "answer": "right", "seconds": 1} for t in data["trials"]
    ]
    saved = {"study": data["key"], "rater": "v", "votes": rows}
    with Votes(study / "votes.sqlite") as votes:
        for wrong, message in (
            ({**saved, "study": "other"}, "no votes of this study"),
            ({**saved, "votes": None}, "holds no list of votes"),
            ({**saved, "votes": [*rows, {**rows[0], "left": "x"}]}, "vote .* is none of this study"),
            ({**saved, "votes": [{**rows[0], "left": rows[0]["right"]}]}, "does not compare"),
            ({**saved, "votes": [{**rows[0], "question": "beauty"}]}, "unknown question 'beauty'"),
        ):
            with pytest.raises(InputError, match=message):
                take_votes(design, votes, wrong, "file")
        assert not votes.all()
        assert take_votes(design, votes, {**saved, "votes": rows[:4]}, "file") == 4
        assert take_votes(design, votes, saved, "file") == len(rows) - 4
        assert take_votes(design, votes, saved, "file") == 0
        assert len(votes.all()) == len(rows)
        kinds = Counter(v.trial.kind for v in votes.all())
        assert kinds["vote"] == 10


def test_lines_of_prompts_keep_their_facts(tmp_path: Path) -> None:
    r"""Also behind a line with a character that ends lines elsewhere, and one that only looks like JSON."""
    promised = sample_prompts(1, 1, (1, 2))
    with (tmp_path / "facts.jsonl").open("wb") as file:
        write_prompts(file, promised)
    told = (tmp_path / "facts.jsonl").read_text()
    (tmp_path / "prompts.txt").write_text(f'a cat\u2028and a dog\n{{a|b}} with "facts"\n{told}', encoding="utf-8")
    items = prompt_items(tmp_path / "prompts.txt")
    assert [item.facts is not None for item in items] == [False, False, True]
    assert items[2].facts == promised[0].facts
