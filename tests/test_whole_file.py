import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from darkroom.errors import InputError
from darkroom.whole_file import made_folder, new_file, temporary_prefix, whole_file, whole_folder


def test_folders_that_cannot_be_made_are_one_sentence(tmp_path: Path) -> None:
    assert made_folder(made_folder(tmp_path / "a" / "b")).is_dir()
    (tmp_path / "file").touch()
    os.symlink("loop", tmp_path / "loop")
    for name in ("file", "file/x", "loop", "loop/x"):
        with pytest.raises(InputError, match=f"the folder .*{name} cannot be made: "):
            made_folder(tmp_path / name)


def test_it_is_there_when_all_went_well(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with whole_file(path) as file:
        file.write(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    (tmp_path / "plain").write_bytes(b"")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError])
def test_what_was_there_stays_when_it_did_not(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")

    def fail() -> None:
        with whole_file(path) as file:
            file.write(b"new")
            raise error

    with pytest.raises(InputError if error is OSError else error):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_to_itself_is_replaced(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with whole_file(loop) as file:
        file.write(b"new")
    assert loop.read_bytes() == b"new"
    assert not loop.is_symlink()


def test_a_link_and_its_rights_stay(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"old")
    real.chmod(0o640)
    link.symlink_to(real)
    with whole_file(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert real.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", ["", "none/a.txt", "folder"])
def test_what_cannot_be_written_is_said_first(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot be written"), whole_file(tmp_path / name):
        pytest.fail("the work began")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_devices_are_left_alone() -> None:
    with pytest.raises(InputError, match="not a regular file"), whole_file(Path(os.devnull)):
        pass
    assert not Path(os.devnull).is_file()


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "model"

    def write(name: str, *, replace: bool = False, fails: bool = False) -> None:
        with whole_folder(target, replace=replace) as folder:
            (folder / name).write_text("")
            if fails:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        write("a", fails=True)
    assert list(target.parent.iterdir()) == []
    write("a")
    assert [p.name for p in target.parent.iterdir()] == ["model"]
    with pytest.raises(InputError, match="exists already and is not an empty folder"):
        write("b")
    with pytest.raises(RuntimeError):
        write("b", replace=True, fails=True)
    assert [p.name for p in target.iterdir()] == ["a"]
    write("b", replace=True)
    assert [p.name for p in target.iterdir()] == ["b"]
    assert [p.name for p in target.parent.iterdir()] == ["model"]


def test_a_folder_where_none_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="file"), whole_folder(place, replace=True):
            pass


def test_what_a_killed_process_left_is_swept_by_the_next(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from darkroom.whole_file import whole_file, whole_folder
with whole_folder(Path({str(tmp_path)!r}) / "folder") as made, whole_file(Path({str(tmp_path)!r}) / "file.png") as file:
    (made / "inside").touch()
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGKILL
    left = sorted(p.name for p in tmp_path.iterdir())
    assert len(left) == 2
    alive = tmp_path / f"{temporary_prefix()}abc"
    elsewhere = tmp_path / ".darkroom-00000000-1-abc"
    others = [tmp_path / ".file.png.x1", tmp_path / ".darkroom-notes", alive, elsewhere]
    for path in others:
        path.touch()
    with whole_file(tmp_path / "next.png") as file:
        file.write(b"whole")
    assert {p.name for p in tmp_path.iterdir()} == {"next.png", *(p.name for p in others)}


def test_a_new_file_takes_the_first_name_that_is_free(tmp_path: Path) -> None:
    names = [tmp_path / name for name in ("a", "b", "c")]
    names[0].write_bytes(b"mine")
    with new_file(names) as first, new_file(names) as second:  # neither knows of the other before it ends
        first.file.write(b"1")
        second.file.write(b"2")
    assert [first.path, second.path] == [names[2], names[1]]
    assert [path.read_bytes() for path in names] == [b"mine", b"2", b"1"]
    with pytest.raises(InputError, match="a file of that name is there"), new_file(names) as third:
        third.file.write(b"3")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "c"]
