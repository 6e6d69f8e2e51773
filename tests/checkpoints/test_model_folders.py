"""Trees of models as people have them, used where they lie."""

from pathlib import Path

import pytest

from darkroom.checkpoints.folders import CHECKPOINTS, find_file, named_files
from darkroom.checkpoints.locate import locate
from darkroom.checkpoints.model_folders import ModelFolders, read_extra_model_paths, tree_folders
from darkroom.errors import InputError


def made(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
    return root


def test_the_trees_of_other_tools(tmp_path: Path) -> None:
    a1111 = made(tmp_path / "webui", "models/Stable-diffusion", "models/Lora", "embeddings", "models/VAE")
    comfy = made(tmp_path / "comfy", "models/checkpoints", "models/loras", "models/embeddings", "models/controlnet")
    found = tree_folders(a1111) + tree_folders(comfy)
    assert found.checkpoints == (a1111 / "models/Stable-diffusion", comfy / "models/checkpoints")
    assert found.loras == (a1111 / "models/Lora", comfy / "models/loras")
    assert found.embeddings == (a1111 / "embeddings", comfy / "models/embeddings")
    assert tree_folders(comfy / "models").checkpoints == (comfy / "models/checkpoints",)
    assert found + found == found
    with pytest.raises(InputError, match=r"holds no models: expected is a folder with models/Stable-diffusion"):
        tree_folders(tmp_path)


def test_models_are_found_by_the_names_of_their_files(tmp_path: Path) -> None:
    root = made(tmp_path / "webui", "models/Stable-diffusion/xl")
    file = root / "models/Stable-diffusion/xl/dreams_v2.1.safetensors"
    file.write_bytes(b"x")
    folders = tree_folders(root).checkpoints
    for name in ("dreams_v2.1", "dreams_v2.1.safetensors", "xl/dreams_v2.1", "xl/dreams_v2.1.safetensors"):
        assert locate(name, folders) == find_file(CHECKPOINTS, name, folders) == file
    assert locate("picturebook", folders).name == "picturebook"
    with pytest.raises(InputError, match=r"there is no model 'dreams'; .* such as dreams_v2\.1"):
        locate("dreams", folders)


@pytest.mark.parametrize("mark", ["model_index.json", "system.json"])
def test_a_folder_that_is_one_model_has_its_name(mark: str, tmp_path: Path) -> None:
    """One of Diffusers or of this project; what is in it has no names."""
    root = made(tmp_path / "webui", "models/Stable-diffusion/xl/mine")
    folder = root / "models/Stable-diffusion/xl/mine"
    for name in (mark, "unet.safetensors"):
        (folder / name).touch()
    folders = tree_folders(root).checkpoints
    assert locate("mine", folders) == locate("xl/mine", folders) == folder
    assert set(named_files(CHECKPOINTS, folders)) == {"mine", "xl/mine"}


YAML = """
a111:
    base_path: webui/
    checkpoints: models/Stable-diffusion
    loras: |
        models/Lora
        models/LyCORIS
    hypernetworks: models/hypernetworks
comfyui:
    base_path: comfy
    is_default: true
    checkpoints: models/checkpoints/
nothing:
"""


def test_the_file_of_extra_paths(tmp_path: Path) -> None:
    made(
        tmp_path,
        "webui/models/Stable-diffusion",
        "webui/models/Lora",
        "webui/models/LyCORIS",
        "comfy/models/checkpoints",
    )
    path = tmp_path / "extra_model_paths.yaml"
    path.write_text(YAML)
    assert read_extra_model_paths(path) == ModelFolders(
        checkpoints=(tmp_path / "comfy/models/checkpoints", tmp_path / "webui/models/Stable-diffusion"),
        loras=(tmp_path / "webui/models/Lora", tmp_path / "webui/models/LyCORIS"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a: [", "cannot be read"),
        (b"\xff", r"is not UTF-8 text \(byte 0\)"),
        (b"- 1", "is not a table of programs"),
        (b"a: 1", "a is 1, expected is a table of folders"),
        (b"a: {checkpoints: [x]}", "a.checkpoints is .* expected is a path on each line"),
        (b"a: !!python/object/apply:os.system ['true']", "cannot be read"),
        (b"[" * 5000, "cannot be read"),
        (b'"\\e[2J": 1', r"\\x1b\[2J is 1"),
    ],
)
def test_files_of_paths_that_are_none(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "extra_model_paths.yaml"
    path.write_bytes(text)
    with pytest.raises(InputError, match=message) as caught:
        read_extra_model_paths(path)
    assert "extra_model_paths.yaml" in str(caught.value)
    assert str(caught.value).isprintable()
