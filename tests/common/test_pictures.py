"""Pictures that people look at: files in RGB, contact sheets, labels."""

import os
import sys
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from apps.common import pictures
from apps.common.evaluation.plots import new_figure, with_letters
from apps.common.images import read_image
from apps.common.pictures import drawable, put_label, put_text, text_size, write_contact_sheet, write_picture


def test_a_picture_is_written_in_rgb(tmp_path):
    picture = np.zeros((16, 24, 3), np.uint8)
    picture[:] = 200, 100, 20
    for name in ("new/a.png", "new/a.JPG"):
        write_picture(tmp_path / name, picture)
        assert np.abs(read_image(tmp_path / name).astype(int) - picture).max() <= (0 if name.endswith("png") else 3)


@pytest.mark.skipif(sys.platform == "darwin", reason="its names are UTF-8")
def test_a_name_that_is_not_utf_8_is_written(tmp_path):
    """OpenCV ends the process at such a name."""
    path = tmp_path / os.fsdecode(b"\xff.png")
    write_picture(path, np.full((4, 4, 3), 9, np.uint8))
    assert read_image(path).mean() == 9
    with pytest.raises(ValueError, match="no picture format has the suffix"):
        write_picture(tmp_path / os.fsdecode(b"a.\xff"), np.zeros((4, 4, 3), np.uint8))


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


def drawn(text: str, size: float = 20.0) -> np.ndarray:
    picture = np.full((40, 400, 3), 255, np.uint8)
    put_text(picture, text, 3, 5, size, (0, 0, 0))
    return picture


def font(name: str) -> str:
    return str(Path(matplotlib.get_data_path(), "fonts/ttf", name))


def test_letters_are_drawn_as_the_font_has_them() -> None:
    """Latin, Greek, Cyrillic: against Pillow's own drawing with matplotlib's DejaVu Sans."""
    for text in ("crab 0.93", "été ñ ø", "Ωμέγα", "Жук"):
        expected = Image.new("L", (400, 40), 255)
        face = ImageFont.truetype(font("DejaVuSans.ttf"), 20)
        ImageDraw.Draw(expected).text((3, 5 + 20), text, fill=0, font=face, anchor="ls")
        assert np.abs(drawn(text)[..., 0].astype(int) - np.asarray(expected)).max() <= 1, text


def test_letters_that_no_font_has_still_tell_names_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_fonts", lambda: [(font("DejaVuSans.ttf"), 0)])
    pictures._font_of.cache_clear(), pictures._letters.cache_clear()
    names = ["猫", "狗", "猫狗", "\U0010fffe", "猫狗鳥魚馬牛", "猫狗鳥魚馬羊"]
    assert drawable("a 猫 b") == "a <732B> b" and drawable("猫狗") == "<732B 72D7>"
    assert len({drawn(name).tobytes() for name in [*names, "?", "??"]}) == len(names) + 2
    assert len({drawable(name) for name in names}) == len(names)
    pictures._font_of.cache_clear(), pictures._letters.cache_clear()


def test_a_font_of_the_system_is_used_where_it_has_the_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here TeX's font, without Cyrillic, stands for the usual one, and DejaVu for the system's."""
    monkeypatch.setattr(pictures, "_fonts", lambda: [(font("cmr10.ttf"), 0), (font("DejaVuSans.ttf"), 0)])
    pictures._font_of.cache_clear(), pictures._letters.cache_clear()
    try:
        assert drawable("Жук") == "Жук" and pictures.fonts_of("xЖ") == {font("DejaVuSans.ttf")}
        expected = Image.new("L", (400, 40), 255)
        face = ImageFont.truetype(font("DejaVuSans.ttf"), 20)
        ImageDraw.Draw(expected).text((3, 25), "Жук", fill=0, font=face, anchor="ls")
        assert np.abs(drawn("Жук")[..., 0].astype(int) - np.asarray(expected)).max() <= 1
    finally:
        pictures._font_of.cache_clear(), pictures._letters.cache_clear()


def test_text_steers_nothing_and_stays_in_the_picture() -> None:
    assert drawable("a\x1b[31m\nb\u202ec") == r"a\x1b[31m\x0ab\x202ec"
    for left, top in ((-30, -8), (390, 30), (1000, 5), (0, -500)):
        put_text(np.zeros((40, 400, 3), np.uint8), "crab", left, top, 20, (1, 2, 3))
    assert text_size("", 20)[0] >= 1


def test_matplotlib_draws_the_names_of_classes(recwarn: pytest.WarningsRecorder) -> None:
    """Without its warning about missing glyphs, which become boxes, all alike."""
    names = with_letters(["猫", "狗", "Жук"])
    figure = new_figure(2, 2)
    figure.subplots().set_yticks(range(3), names, parse_math=False)
    figure.canvas.draw()
    assert not [w for w in recwarn if "missing from" in str(w.message)] and len(set(names)) == 3


@pytest.mark.parametrize(("suffix", "most"), [(".jpg", 65_500), (".webp", 16_383), (".png", 70_000)])
def test_pictures_too_large_for_their_format_are_made_smaller(tmp_path: Path, suffix: str, most: int) -> None:
    """JPEG holds 65,500 pixels a side; a strip of a satellite may have more."""
    strip = np.zeros((4, 70_000, 3), np.uint8)
    strip[:, 35_000:] = 250
    write_picture(tmp_path / f"a{suffix}", strip)
    read = read_image(tmp_path / f"a{suffix}")
    assert read.shape[1] == most and read.shape[0] == max(1, 4 * most // 70_000)
    assert read[:, : most // 2 - 9].max() < 9 and read[:, most // 2 + 9 :].min() > 240
