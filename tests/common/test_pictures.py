"""Pictures that people look at: files in RGB, contact sheets, labels."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from apps.common.images import read_image
from apps.common.pictures import put_label, write_contact_sheet, write_picture


def test_a_picture_is_written_in_rgb(tmp_path):
    picture = np.zeros((16, 24, 3), np.uint8)
    picture[:] = 200, 100, 20
    for name in ("new/a.png", "new/a.JPG"):
        write_picture(tmp_path / name, picture)
        assert np.abs(read_image(tmp_path / name).astype(int) - picture).max() <= (0 if name.endswith("png") else 3)


def test_a_picture_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_picture(path, np.zeros((4, 4, 3), np.uint8))
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        with open(self, "wb") as file:
            file.write(data[:10])
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="the disk is full"):
        write_picture(path, np.ones((9, 9, 3), np.uint8))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_contact_sheet(tmp_path: Path) -> None:
    """Rows of whole pictures, centred, in white; no more rows than asked for."""
    pictures = [np.full((20, side, 3), 40 + side, np.uint8) for side in (30, 30, 50, 30, 30)]
    path = tmp_path / "new folder" / "sheet.png"
    write_contact_sheet(path, pictures, width=100, num_rows=2)
    sheet = cv2.imread(str(path))
    assert sheet is not None and sheet.shape == (40, 100, 3)
    assert sheet[10, [0, 21, 22, 47, 48, 51, 52, 77, 78], 0].tolist() == [255, 255, 70, 70, 255, 255, 70, 70, 255]
    assert sheet[30, [11, 12, 57, 58, 61, 62, 87, 88], 0].tolist() == [255, 90, 90, 255, 255, 70, 70, 255]
    assert (sheet[[0, 1, 18, 19, 20, 39]] == 255).all() and (sheet[2, 22:48] == 70).all()


def test_contact_sheet_of_no_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no picture format has the suffix '\.doc'; use \.png or \.jpg"):
        write_contact_sheet(tmp_path / "sheet.doc", [np.zeros((20, 20, 3), np.uint8)])


def test_label_stays_in_the_picture() -> None:
    high, low = np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60, 3), np.uint8)
    put_label(high, "crab", 5, 0)
    put_label(low, "crab", 5, 40)
    assert high[0].any() and not high[20:].any()
    assert not low[:20].any() and (high[:14] == low[-14:]).mean() > 0.6
