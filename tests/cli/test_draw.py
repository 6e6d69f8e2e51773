"""What a picture says of the files that it was made with."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from darkroom.checkpoints.fingerprint import model_hash
from darkroom.checkpoints.model import LoadedModel
from darkroom.checkpoints.model_folders import ModelFolders
from darkroom.cli.draw import Job, files_of
from darkroom.cli.models import Additions, Models
from darkroom.cli.output import Output
from darkroom.systems.build import LatentDiffusion


def test_files_are_named_as_a1111_names_them(tiny_model: LatentDiffusion, tmp_path: Path) -> None:
    vae = tmp_path / "stage.safetensors"
    save_file({"w": torch.ones(1)}, vae)
    models = Models("m", str(vae), quantize="int8")
    job = Job(models, Additions(refiner="r"), ModelFolders(), Output(tmp_path))
    assert files_of(job, LoadedModel(tiny_model, "refiner_1.0", vae)) == {
        "VAE hash": model_hash(vae),
        "VAE": "stage.safetensors",
        "Refiner": f"refiner_1.0 [{model_hash(vae)}]",
        "Refiner switch at": "0.8",
        "Quantization": "int8",
    }
    plain = Job(Models("m"), Additions(), ModelFolders(), Output(tmp_path))
    assert files_of(plain, None) == {}
