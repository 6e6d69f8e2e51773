"""Pictures that clients send: looked at within limits, kept by the hash of their bytes, named by it alone.

A request names them by the paths of its settings; the picture of its control unit number N is `controls.N.image`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from darkroom.errors import InputError, require
from darkroom.requests.change import changed
from darkroom.requests.settings import find_setting
from darkroom.serve.disk import keeping
from darkroom.types import Request, Size
from darkroom.whole_file import whole_file

__all__ = ["PICTURES", "Uploads", "control_picture", "picture_setting", "with_pictures"]

PICTURES = ("picture", "mask", "classes", "depth")  # kinds of settings that an upload can be
_ID = re.compile(r"[0-9a-f]{32}")
_CONTROL = re.compile(r"controls\.(\d{1,3})\.image")


def picture_setting(name: str) -> str:
    """The path of the setting that `name` means, `init` and `image` alike; `InputError` if it takes no picture."""
    if _CONTROL.fullmatch(name):
        return name
    setting = find_setting("image" if name == "init" else name)
    if setting.kind not in PICTURES:
        raise InputError(f"the setting {name!r} takes no picture")
    return setting.path


def control_picture(number: int) -> str:
    """The path of the picture of a request's control unit."""
    return f"controls.{number}.image"


def with_pictures(settings: Mapping[str, Any], pictures: Mapping[str, Any]) -> Request:
    """The request of `settings` with `pictures`, by their paths, in their places.

    `InputError` for a control unit without a picture, and for a picture of a unit that there is not.
    """
    units = {path: picture for path, picture in pictures.items() if _CONTROL.fullmatch(path)}
    controls = settings.get("controls") or ()
    known = [control_picture(number) for number in range(len(controls))]
    if left := [path for path in known if path not in units]:
        raise InputError(f"{left[0]} is not given: each control unit has its picture")
    if more := [path for path in units if path not in known]:
        raise InputError(f"{more[0]} is given, but there is no such control unit: there are {len(known)}")
    values = {path: picture for path, picture in pictures.items() if path not in units}
    if controls:
        settings = {**settings, "controls": [{**c, "image": units[path]} for c, path in zip(controls, known)]}
    return changed(changed(Request(), values), settings)


class Uploads:
    """The pictures in `folder`, of at most `max_pixels` each."""

    def __init__(self, folder: Path, max_pixels: int) -> None:
        self.folder, self.max_pixels = folder, max_pixels

    def add(self, content: bytes) -> tuple[str, Size]:
        """(Id, size) of a picture's file; the same bytes have the same id. `InputError` if it is no sound picture,
        `Unkept` where the disk does not take it."""
        from darkroom.pictures.reading import opened, read_size

        size = read_size(BytesIO(content), "the upload")
        require(size.height * size.width <= self.max_pixels, "the upload", size, f"at most {self.max_pixels} pixels")
        with opened(BytesIO(content), "the upload"):
            pass  # decodes it whole
        id = hashlib.sha256(content).hexdigest()[:32]
        if not self._path(id).exists():
            with keeping("the upload"), whole_file(self._path(id)) as file:
                file.write(content)
        return id, size

    def check(self, images: Mapping[str, str]) -> dict[str, str]:
        """`images` by the paths of their settings; `InputError` for a setting or an upload that there is not."""
        found: dict[str, str] = {}
        for name, id in images.items():
            path = picture_setting(name)
            require(path not in found, f"the picture {path}", "given twice", "once")
            if self.path(str(id)) is None:
                raise InputError(f"there is no upload {id!r}; send the picture to /v1/uploads first")
            found[path] = id
        return found

    def request(self, settings: Mapping[str, Any], images: Mapping[str, str]) -> Request:
        """The request that `settings` describe, with the uploads `images` in their places."""
        from darkroom.pictures import reading

        readers = {
            "picture": reading.read_pixels,
            "mask": reading.read_mask,
            "classes": reading.read_classes,
            "depth": reading.read_depth,
        }
        values: dict[str, Any] = {}
        for path, id in images.items():
            with self._path(id).open("rb") as file:
                kind = "picture" if _CONTROL.fullmatch(path) else find_setting(path).kind
                values[path] = readers[kind](file, f"the picture {path}")
        return with_pictures(settings, values)

    def path(self, id: str) -> Path | None:
        """The file of an upload that there is."""
        return self._path(id) if _ID.fullmatch(id) and self._path(id).exists() else None

    def forget(self, kept: Collection[str], before: float) -> int:
        """Remove those that are not among `kept` and were sent before that time; how many there were."""
        gone = [p for p in self.folder.iterdir() if p.name not in kept and p.stat().st_mtime < before]
        for path in gone:
            path.unlink(missing_ok=True)
        return len(gone)

    def _path(self, id: str) -> Path:
        return self.folder / id
