"""Pictures of every kind that people bring, and files that are none."""

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from darkroom.errors import InputError
from darkroom.pictures.reading import opened, read_classes, read_depth, read_mask, read_pixels, read_size
from darkroom.types import Size

RAMP = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
PHOTO = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)


def stored(picture: np.ndarray | Image.Image, form: str, mode: str | None = None, **options: Any) -> BytesIO:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = BytesIO()
    (image if mode is None else image.convert(mode)).save(file, form, **options)
    return BytesIO(file.getvalue())


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_gray_of_16_bits_is_a_ramp(form: str) -> None:
    file = stored(RAMP, form)
    pixels = read_pixels(file)
    assert np.array_equal(pixels, np.rint(RAMP / 257).astype(np.uint8)[..., None].repeat(3, 2))
    assert np.array_equal(read_mask(file), RAMP >= 32_768)
    assert np.array_equal(read_depth(file), RAMP.astype(np.float32))
    assert np.array_equal(read_classes(file), RAMP)
    assert not read_mask(stored(np.full((4, 4), 1000, np.uint16), form)).any()


@pytest.mark.parametrize(
    ("values", "black", "white"),
    [
        (np.linspace(0, 1, 256), 0, 1),
        (np.linspace(0, 0.5, 256), 0, 1),
        (np.linspace(0, 255, 256), 0, 255),
        (np.linspace(0, 40_000, 256), 0, 65_535),
        (np.linspace(-3, 9, 256), -3, 9),
        (np.linspace(5, 1e6, 256), 5, 1e6),
        (np.zeros(256), 0, 1),
        (np.linspace(-0.02, 1.05, 256), 0, 1),  # as sharpening leaves it
        (np.linspace(-5, 270, 256), 0, 255),
        (np.linspace(0, 80_000, 256), 0, 80_000),
        (np.full(256, -7.0), -7, -6),
    ],
)
def test_floating_point_is_scaled_by_what_it_holds(values: np.ndarray, black: float, white: float) -> None:
    values = values.astype(np.float32).reshape(16, 16)
    file = stored(values, "TIFF")
    expected = np.rint((values.astype(np.float64) - black) / (white - black) * 255).clip(0, 255)
    assert np.abs(read_pixels(file)[..., 0].astype(int) - expected).max() <= 1  # float32 rounds at halves
    assert np.array_equal(read_depth(file), values)


@pytest.mark.parametrize(("highest", "white"), [(200, 255), (60_000, 65_535), (2**31 - 1, 2**31 - 1)])
def test_whole_numbers_of_32_bits_too(highest: int, white: int) -> None:
    values = np.linspace(0, highest, 256).astype(np.int32).reshape(16, 16)
    file = stored(values, "TIFF")
    expected = values / white * 255
    assert np.abs(read_pixels(file)[..., 0] - expected).max() < 0.51
    if highest < 2**31 - 1:
        assert np.array_equal(read_classes(file), values)


def tiff(data: bytes, size: tuple[int, int], bits: int, white_is_zero: bool = False) -> BytesIO:
    """Of one channel, without a word on the sign of its numbers: they have none."""
    width, height = size
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, 0 if white_is_zero else 1), (273, 8)]
    tags += [(277, 1), (278, height), (279, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    padded = data + bytes(-len(data) % 4)
    header = b"II*\0" + struct.pack("<I", 8 + len(padded))
    return BytesIO(header + padded + struct.pack("<H", len(tags)) + entries + bytes(4))


def test_gray_of_12_bits_has_white_at_4095() -> None:
    packed = bytes([0xFF, 0xF8, 0x00])  # 4095, 2048
    file = tiff(packed, (2, 1), 12)
    assert read_pixels(file)[0, :, 0].tolist() == [255, 128]
    assert read_classes(file)[0].tolist() == [4095, 2048]


def test_gray_that_counts_from_white_down_is_turned_round() -> None:
    small = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(read_depth(tiff((255 - small).tobytes(), (16, 16), 8, white_is_zero=True)), small)
    file = tiff((65_535 - RAMP).tobytes(), (256, 256), 16, white_is_zero=True)
    assert np.array_equal(read_depth(file), RAMP)
    assert np.array_equal(read_mask(file), RAMP >= 32_768)


def test_numbers_of_32_bits_without_a_sign() -> None:
    values = np.linspace(0, 2**32 - 1, 256).astype(np.uint32).reshape(16, 16)
    file = tiff(values.tobytes(), (16, 16), 32)
    assert np.array_equal(read_pixels(file)[..., 0], np.arange(256).reshape(16, 16))
    with pytest.raises(InputError, match=r"x holds numbers up to 4\.29497e"):
        read_classes(file, "x")


def test_values_that_are_not_finite_are_refused() -> None:
    for bad in (np.nan, np.inf):
        file = stored(np.array([[0, bad]], np.float32), "TIFF")
        for read in (read_pixels, read_mask, read_depth, read_classes):
            with pytest.raises(InputError, match=r"x\.tif holds values that are not finite"):
                read(file, "x.tif")


def test_classes_are_whole_numbers() -> None:
    with pytest.raises(InputError, match="x holds fractions, expected are class numbers"):
        read_classes(stored(np.array([[0.5]], np.float32), "TIFF"), "x")
    with pytest.raises(InputError, match="holds numbers up to 1e"):
        read_classes(stored(np.array([[1e12]], np.float32), "TIFF"), "x")
    assert read_classes(stored(np.array([[7.0]], np.float32), "TIFF")).item() == 7


HALVES = np.zeros((4, 6), np.uint8)
HALVES[:, 3:] = 255  # the right half is to be repainted
EXPECTED = (HALVES > 0).astype(np.uint8)


def palette_mask(transparency: bytes | int) -> BytesIO:
    image = Image.fromarray(EXPECTED, "L").convert("P")
    image.putpalette([0, 0, 0, 9, 9, 9])
    return stored(image, "PNG", transparency=transparency)


def with_alpha(mode: str, color: np.ndarray, alpha: np.ndarray) -> BytesIO:
    image = Image.fromarray(color).convert(mode)
    image.putalpha(Image.fromarray(alpha))
    return stored(image, "PNG")


OPAQUE = np.full_like(HALVES, 255)

MASKS: dict[str, Callable[[], BytesIO]] = {
    "gray": lambda: stored(HALVES, "PNG"),
    "jpeg": lambda: stored(np.repeat(HALVES, 3).reshape(4, 6, 3), "JPEG", quality=95),
    "one bit": lambda: stored(HALVES, "PNG", "1"),
    "one bit tiff": lambda: stored(HALVES, "TIFF", "1", compression="group4"),
    "sixteen bits": lambda: stored(HALVES.astype(np.uint16) * 257, "PNG"),
    "floating point": lambda: stored(EXPECTED.astype(np.float32), "TIFF"),
    "rgb": lambda: stored(HALVES, "PNG", "RGB"),
    "cmyk": lambda: stored(Image.fromarray(HALVES).convert("RGB"), "TIFF", "CMYK"),
    "opaque rgba": lambda: with_alpha("RGB", HALVES, OPAQUE),
    "opaque la": lambda: with_alpha("L", HALVES, OPAQUE),
    "nearly opaque rgba": lambda: with_alpha("RGB", HALVES, OPAQUE - 3),  # as lossy formats leave it
    "transparent rgba": lambda: with_alpha("RGB", HALVES * 0, OPAQUE - HALVES),
    "transparent la": lambda: with_alpha("L", OPAQUE, OPAQUE - HALVES),
    "palette": lambda: stored(Image.fromarray(HALVES).convert("P"), "PNG"),
    "gif": lambda: stored(HALVES, "GIF"),
    "palette with one transparent color": lambda: palette_mask(1),
    "palette with opacities": lambda: palette_mask(bytes([255, 10])),
    "gray with a transparent value": lambda: stored(OPAQUE - HALVES, "PNG", transparency=0),
}


@pytest.mark.parametrize("kind", MASKS)
def test_masks_of_every_kind(kind: str) -> None:
    assert np.array_equal(read_mask(MASKS[kind]()), EXPECTED)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright(form: str, orientation: int) -> None:
    image = np.zeros((24, 48, 3), np.uint8)
    image[:12, :24] = 255  # bright at the top left as stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = stored(image, form, exif=exif)
    pixels, mask = read_pixels(file), read_mask(file)
    assert read_size(file) == Size(*mask.shape) == (Size(48, 24) if orientation > 4 else Size(24, 48))
    corners = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    y, x = corners[orientation]
    assert pixels[y, x].min() > 200
    assert mask[y, x] == 1
    assert mask.mean() == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("mode", ["I;16", "F", "P", "1", "LA"])
def test_pictures_of_every_kind_are_turned(mode: str) -> None:
    image = Image.new("L", (3, 2), 0)
    image.putpixel((0, 0), 255)
    exif = Image.Exif()
    exif[0x0112] = 6  # the top left belongs to the top right
    if mode == "I;16":
        file = stored(np.asarray(image).astype(np.uint16) * 257, "PNG", exif=exif)
    else:
        file = stored(image, "TIFF" if mode == "F" else "PNG", mode, exif=exif)
    mask = read_mask(file)
    assert mask.shape == (3, 2)
    assert np.argwhere(mask).tolist() == [[0, 1]]


def test_transparent_places_show_paper() -> None:
    pixels = np.full((2, 2, 4), 100, np.uint8)
    pixels[0, :, 3], pixels[1, :, 3] = (0, 128), 255
    for form in ("PNG", "TIFF"):
        found = read_pixels(stored(pixels, form))
        assert found[0, 0].tolist() == [255] * 3
        assert found[0, 1, 0] in (177, 178)
        assert found[1, 0].tolist() == [100] * 3
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([200, 0, 0, 0, 200, 0])
    palette.putpixel((1, 0), 1)
    assert read_pixels(stored(palette, "GIF", transparency=0)).tolist() == [[[255, 255, 255], [0, 200, 0]]]


def test_cmyk_and_lab_are_colors() -> None:
    cyan = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    for form in ("JPEG", "TIFF"):
        assert np.abs(read_pixels(stored(cyan, form)).astype(int) - (0, 255, 255)).max() <= 2
    gray = read_pixels(stored(Image.new("LAB", (2, 2), (255 * 50 // 100, 128, 128)), "TIFF"))
    assert np.abs(gray.astype(int) - 119).max() <= 2  # L* of 50 is 118.9 in sRGB


def test_color_profiles_are_applied() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(read_pixels(stored(PHOTO, "PNG", icc_profile=srgb)), PHOTO)
    assert np.array_equal(read_pixels(stored(PHOTO, "PNG", icc_profile=b"junk")), PHOTO)
    # The same profile with its red and blue primaries exchanged: tags are found by their names.
    swapped = srgb.replace(b"rXYZ", b"?XYZ").replace(b"bXYZ", b"rXYZ").replace(b"?XYZ", b"bXYZ")
    found = read_pixels(stored(PHOTO, "PNG", icc_profile=swapped)).astype(int)
    assert np.abs(found - PHOTO[..., ::-1]).max() <= 4
    assert not read_mask(stored(np.full((2, 2, 3), 120, np.uint8), "PNG", icc_profile=swapped)).any()


def test_gray_depth_saved_in_color_is_gray() -> None:
    depth = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    for file in (
        stored(depth, "PNG"),
        stored(depth, "PNG", "RGB"),
        stored(depth, "PNG", "RGBA"),
        stored(depth, "PNG", "P"),
        stored(depth, "WEBP", "RGB", lossless=True),
    ):
        assert np.array_equal(read_depth(file), depth)
    assert np.abs(read_depth(stored(depth, "JPEG", "RGB", quality=95)) - depth).max() <= 8
    with pytest.raises(InputError, match="x is a colored picture, expected is a gray depth map"):
        read_depth(stored(PHOTO, "PNG"), "x")


def test_class_numbers_are_gray_values_or_indices() -> None:
    numbers = np.array([[0, 3], [1, 2]], np.uint8)
    palette = Image.fromarray(numbers).convert("P")
    palette.putpalette([9, 8, 7] * 4)
    for file in (stored(numbers, "PNG"), stored(palette, "PNG"), stored(palette, "GIF"), stored(numbers, "PNG", "RGB")):
        assert np.array_equal(read_classes(file), numbers)
    assert np.array_equal(read_classes(stored(numbers.clip(max=1) * 255, "PNG", "1")), numbers > 0)
    with pytest.raises(InputError, match="colored picture, expected is a map of class numbers"):
        read_classes(stored(PHOTO, "PNG"))


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("ending", ["png", "eps", "jpg"])
def test_postscript_is_never_run(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    path.write_bytes(POSTSCRIPT)
    with pytest.raises(InputError, match="cannot be read as a picture; the formats are PNG, JPEG"):
        read_pixels(path)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(10_000, 10_000), (65_000, 65_000), (2**31 - 1, 2**31 - 1)])
def test_bombs_are_refused_by_their_size(size: tuple[int, int]) -> None:
    for read in (read_pixels, read_size):
        with pytest.raises(InputError, match=r"x claims .*at most 89478485 are read"):
            read(BytesIO(huge_png(*size)), "x")


def test_pixels_that_its_bytes_cannot_hold_are_refused() -> None:
    with pytest.raises(InputError, match=r"x claims 20x4194328 pixels, which its \d+ bytes cannot hold"):
        read_pixels(BytesIO(huge_png(20, 4_194_328)), "x")
    white = Image.new("1", (8000, 8000), 1)  # as densely as a PNG can be packed
    assert read_size(stored(white, "PNG", optimize=True), "x") == Size(8000, 8000)


def test_metadata_has_a_limit() -> None:
    info = PngInfo()
    for i in range(20):
        info.add_text(f"note {i}", "x" * (1 << 20))
    with pytest.raises(InputError, match=r"x holds 2\d{7} bytes of metadata, at most 16777216 are read"):
        read_pixels(stored(PHOTO, "PNG", pnginfo=info), "x")
    small = PngInfo()
    small.add_text("bomb", "x" * (8 << 20), zip=True)  # 8 kB in the file
    with pytest.raises(InputError, match="x cannot be read as a picture: Decompressed data too large"):
        read_pixels(stored(PHOTO, "PNG", pnginfo=small), "x")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no picture .*absent"):
        read_pixels(tmp_path / "absent.png")
    with pytest.raises(InputError, match=r"there is no picture https:/x/y\.png; .* save it to one first"):
        read_pixels(Path("https://x/y.png"))
    for path in (tmp_path, Path("/dev/zero")):
        with pytest.raises(InputError, match="it is no regular file"):
            read_pixels(path)
    with pytest.raises(InputError, match="cannot be read as a picture: File name too long"):
        read_pixels(tmp_path / ("a" * 300))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_cut_files_get_one_sentence(form: str) -> None:
    whole = stored(np.zeros((40, 40, 3), np.uint8) + 77, form).getvalue()
    for length in (0, 1, 8, 20, len(whole) // 2):
        with pytest.raises(InputError, match=r"^x cannot be read as a picture"):
            read_pixels(BytesIO(whole[:length]), "x")


def test_libtiff_and_pillow_print_nothing(tmp_path: Path) -> None:
    whole = stored(PHOTO.repeat(9, 0), "TIFF", compression="tiff_adobe_deflate").getvalue()
    (tmp_path / "a.tif").write_bytes(whole.replace(b"\x78\x9c", b"\x78\x00").replace(b"\x78\x01", b"\x78\x00"))
    code = """
import sys
from pathlib import Path
from darkroom.errors import InputError
from darkroom.pictures.reading import read_pixels
try:
    read_pixels(Path(sys.argv[1]))
except InputError as error:
    print(error, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.tif"], capture_output=True, text=True, check=True)
    assert done.stderr.count("\n") == 1, done.stderr
    assert "a.tif cannot be read as a picture" in done.stderr


def test_a_broken_orientation_leaves_the_pixels() -> None:
    file = stored(PHOTO, "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert np.array_equal(read_pixels(file), PHOTO)
    with opened(file) as image:
        assert image.size == (4, 6)
