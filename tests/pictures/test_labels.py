from pathlib import Path

import numpy as np

from darkroom.pictures import labels
from darkroom.pictures.labels import labeled_sheet
from darkroom.pictures.picture_file import write_picture


def test_a_sheet_fits_into_files_of_every_format(tmp_path: Path) -> None:
    cells = [np.full((40, 512, 3), 40 + 5 * i, np.uint8) for i in range(36)]
    sheet = labeled_sheet(cells, [f"column {i}" for i in range(36)], ["row"], [""])
    assert sheet.shape[1] <= labels.LONGEST_SIDE == 16_383
    assert sheet.shape[1] > 0.9 * labels.LONGEST_SIDE
    middle = sheet[sheet.shape[0] - 20]  # through the pictures, which stand in their order
    assert [value for value in range(40, 220, 5) if (middle[:, 0] == value).sum() > 200] == list(range(40, 220, 5))
    write_picture(tmp_path / "a.webp", sheet, "")


def test_a_small_sheet_keeps_its_pixels() -> None:
    cells = [np.full((20, 30, 3), 40, np.uint8), np.full((10, 30, 3), 90, np.uint8)]
    sheet = labeled_sheet(cells, ["", ""], [""], [""])
    assert (sheet == 40).all(axis=2).sum() == 600
    assert (sheet == 90).all(axis=2).sum() == 300
