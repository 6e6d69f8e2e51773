"""The LoRAs that a prompt names, put on the model for as long as its pictures are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from darkroom.checkpoints.lora import apply_loras, read_lora
from darkroom.errors import InputError
from darkroom.prompts.grammar import LoraTag
from darkroom.registry import nearest
from darkroom.systems.build import LatentDiffusion

__all__ = ["find_lora", "prompt_loras"]

ENDINGS = (".safetensors", ".pt", ".ckpt", ".bin")
# As Diffusers and PEFT name the file in a folder of its own; the folder's name then is the LoRA's.
FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors", "adapter_model.bin")


def find_lora(name: str, folders: Sequence[Path]) -> Path:
    """The file that `name` means: a path, or the stem of a file in or below one of `folders`.

    A folder that holds one LoRA, as Diffusers and PEFT write them, stands for it.
    """
    path = Path(name)
    for candidate in (path, *(path / file for file in FILES)):
        if candidate.is_file():
            return candidate
    known: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix in ENDINGS and path.is_file():
                known.setdefault(path.parent.name if path.name in FILES else path.stem, path)
    if name in known:
        return known[name]
    if not folders:
        raise InputError(f"the LoRA {name!r} is no file, and no folder of LoRAs is given")
    where = ", ".join(map(str, folders))
    listed = ", ".join(nearest(name, list(known))[:10]) or "none"
    raise InputError(f"unknown LoRA {name!r} in {where}; known are: {listed}")


@contextmanager
def prompt_loras(model: LatentDiffusion, tags: Sequence[LoraTag], folders: Sequence[Path]) -> Iterator[None]:
    """`tags` on `model` while this is open, live or in the weights of a compiled one; afterwards it is bit for bit what
    it was.
    """
    if not tags:
        yield
        return
    loras = [
        (read_lora(find_lora(tag.name, folders), model.system, model.dtype, model.device), tag.unet, tag.text)
        for tag in tags
    ]
    applied = apply_loras(model, loras, merged=model.compiled)
    try:
        yield
    finally:
        applied.remove()
