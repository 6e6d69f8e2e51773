"""Tables of other tools: numbers may be whole, text or null, and what merely lies beside a file may be anything."""

import time
from pathlib import Path

import pytest
from public_manifests import fake_weights, manifests

from darkroom.checkpoints.diffusers_names import modern_name
from darkroom.checkpoints.identify import Identity, identify
from darkroom.checkpoints.prediction import tell_prediction
from darkroom.checkpoints.source import Source
from darkroom.errors import InputError
from darkroom.json_file import parse_table, real, whole


def with_configs(**configs: dict[str, object]) -> Identity:
    facts = manifests()["diffusers"]["sdxl-base"]
    names = {f"{c}/{n}": shape for c, tensors in facts["tensors"].items() for n, shape in tensors.items()}
    tensors = fake_weights({modern_name(n): s for n, s in names.items()})
    return identify(Source(Path("x"), "diffusers", tensors, {}, configs))


@pytest.mark.parametrize(
    ("stated", "scale"), [(1, 1.0), (0.25, 0.25), ("0.5", 0.5), (None, 0.13025), ("1e-1", 0.1), (2**60, 2.0**60)]
)
def test_latent_scales(stated: object, scale: float) -> None:
    assert with_configs(vae={"scaling_factor": stated}).system.latent_scale == scale


@pytest.mark.parametrize("stated", [0, -1, "nan", float("inf"), 10**400, [0.18], {}, True, "a\x1b[2J"])
def test_latent_scales_that_are_none(stated: object) -> None:
    with pytest.raises(InputError, match=r"scaling_factor is .* expected is a number above 0") as caught:
        with_configs(vae={"scaling_factor": stated})
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("stated", [["epsilon"], {}, 3, "eps\x1b[2J", "wrong"])
def test_predictions_that_are_none(stated: object) -> None:
    with pytest.raises(InputError, match=r"prediction_type is .* accepted are: epsilon"):
        with_configs(scheduler={"prediction_type": stated})


def test_a_prediction_of_null_is_the_default() -> None:
    assert with_configs(scheduler={"prediction_type": None}).system.prediction == with_configs().system.prediction


BESIDE = {
    "empty": b"",
    "list": b"[1, 2]",
    "Latin-1": '{"prediction_type": "v_prediction", "note": "é"}'.encode("latin-1"),
    "huge": b'{"prediction_type": "v_prediction", "x": "' + b"x" * (2 << 20) + b'"}',
    "deep": b"[" * 200_000,
    "long number": b'{"prediction_type": ' + b"9" * 10_000 + b"}",
    "a list inside": b'{"prediction_type": ["v_prediction"]}',
}


@pytest.mark.parametrize("what", BESIDE)
def test_what_cannot_be_read_beside_a_checkpoint_says_nothing(tmp_path: Path, what: str) -> None:
    (tmp_path / "model.json").write_bytes(BESIDE[what])
    assert tell_prediction(Source(tmp_path / "model.safetensors", "original", {}, {})) is None


def test_a_folder_or_an_endless_configuration_beside_a_checkpoint(tmp_path: Path) -> None:
    source = Source(tmp_path / "model.safetensors", "original", {}, {})
    (tmp_path / "model.json").mkdir()
    (tmp_path / "model.yaml").mkdir()
    assert tell_prediction(source) is None
    started = time.process_time()
    (tmp_path / "model.yml").write_text("\n" * 500_000 + "parameterization: v")
    found = tell_prediction(source)
    assert found is not None
    assert found.prediction == "v"
    (tmp_path / "model.json").rmdir()
    (tmp_path / "model.yml").unlink()
    (tmp_path / "model.json").write_text('\ufeff{"prediction_type": "v_prediction"}', "utf-8")  # as editors save it
    found = tell_prediction(source)
    assert found is not None
    assert (found.prediction, found.by) == ("v", "model.json beside it")
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "where is not valid JSON: expecting value in line 1, column 1"),
        (b"[]", "where is not a table but a list"),
        (b"null", "where is not a table but null"),
        (b"\xff", r"where is not valid JSON: it is not UTF-8 text \(byte 0\)"),
        (b'{"a":' * 100_000, "where is not valid JSON: it is nested too deeply"),
        (b'{"a": ' + b"1" * 5000 + b"}", "where is not valid JSON: a number has too many digits"),
        ('{"a\x1b": ', "where is not valid JSON"),
    ],
)
def test_tables_that_are_none(text: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_table(text, "where")
    assert str(caught.value).isprintable()


def test_numbers() -> None:
    assert [real(v) for v in (1, 0.5, "2", " 3e1 ")] == [1.0, 0.5, 2.0, 30.0]
    assert all(real(v) is None for v in (None, True, "x", "nan", float("inf"), 10**400, "1" * 5000, [1], b"1"))
    assert [whole(v) for v in (4, 4.0, "4", 4.5, "x")] == [4, 4, 4, None, None]
