from pathlib import Path

import pytest

from darkroom.errors import InputError
from darkroom.preferences import Preferences, preferences_path, read_preferences


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DARKROOM_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    path = tmp_path / "xdg" / "darkroom" / "config.toml"
    path.parent.mkdir(parents=True)
    return path


def test_the_file_lies_where_others_do(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert preferences_path() == file
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")  # which the specification ignores
    monkeypatch.setenv("HOME", str(tmp_path))
    assert preferences_path() == tmp_path / ".config" / "darkroom" / "config.toml"
    monkeypatch.setenv("DARKROOM_CONFIG", str(tmp_path / "mine.toml"))
    assert preferences_path() == tmp_path / "mine.toml"
    with pytest.raises(InputError, match="there is no file"):  # asked for by name
        read_preferences()


def test_without_a_file_the_defaults_hold(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_preferences() == Preferences()
    monkeypatch.setenv("DARKROOM_CONFIG", "")
    assert read_preferences() == Preferences()


def test_paths_are_seen_from_the_file_and_from_home(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file.write_text('model = "dreams"\nmodels_dirs = ["~/webui", "here", "/data"]\nextra_model_paths = "x.yaml"\n')
    read = read_preferences()
    assert read.model == "dreams"
    assert read.models_dirs == (str(tmp_path / "webui"), str(file.parent / "here"), "/data")
    assert read.extra_model_paths == str(file.parent / "x.yaml")
    assert read.output == "out"  # in the folder where the command runs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modle = 'x'", "modle"),
        ("models_dirs = 3", "models_dirs"),
        ("model = ", "is not valid TOML"),
        ("models_dirs = ['~nobody-here/x']", "is no path"),
    ],
)
def test_mistakes_are_named(text: str, message: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_preferences()
    assert str(file) in str(error.value)
