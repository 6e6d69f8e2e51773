"""`python -m benchmarks`, in this process, on tiny systems."""

import sys

import pytest
from narrow_checkpoints import narrow

from benchmarks import __main__ as command
from benchmarks.one_network import decode
from benchmarks.work import Settings, Work
from benchmarks.works import WORKS
from darkroom.errors import InputError
from darkroom.registry import Registry


def _refuse(settings: Settings) -> None:
    raise InputError("it is Sunday")


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    works: Registry[Work] = Registry("work")
    works.add("decode-32", decode(narrow("sd-v1-5"), 32))
    works.add("never", Work("never done", _refuse))  # type: ignore[arg-type]
    monkeypatch.setattr(command, "WORKS", works)
    monkeypatch.setattr(command, "peak_speed", lambda *_: 1e9)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    with pytest.raises(SystemExit) as end:
        command.main()
    return end.value.code


def test_a_table_comes_out(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "decode-32", "--rounds", "2", "--dtype", "bf16") == 0
    first, empty, head, rule, *rows = capsys.readouterr().out.splitlines()
    assert "bf16, 2 rounds" in first
    assert empty == ""
    assert all(line.count("|") == head.count("|") == rule.count("|") for line in rows)
    assert rows[0].startswith("| decode, 32 px | darkroom | ")
    assert rows[1].startswith("| decode, 32 px | diffusers | ")
    assert all(0 < float(row.split("|")[-2]) < 0.2 for row in rows)


def test_what_cannot_be_done_is_told_and_the_rest_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "never", "decode-32", "--rounds", "1") == 2
    out, err = capsys.readouterr()
    assert "never is left out: it is Sunday" in err
    assert "| decode, 32 px | darkroom | " in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["decode-31"], "unknown work 'decode-31'; known are: decode-32, never"),
        (["--rounds", "0"], "--rounds 0: accepted are whole numbers from 1"),
        (["--device", "toaster"], "there is no device 'toaster' here"),
    ],
)
def test_bad_arguments(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(monkeypatch, *arguments) == 2
    assert message in capsys.readouterr().err


def test_help_tells_all_works(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "WORKS", WORKS)
    assert run(monkeypatch, "--help") == 0
    told = capsys.readouterr().out
    assert all(f"  {name} " in told and work.title in told for name, work in WORKS.items())
