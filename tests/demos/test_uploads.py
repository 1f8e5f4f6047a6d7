"""Files that are made to take long, or much memory, or to break what reads them."""

import io
import random
import struct
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from apps.common.headers import MAX_SCANS
from demos.uploads import count_photos, decode_frame, has_more_pictures, open_photos, read_photo
from demos.videos import annotate
from tests.common.media_files import RATE, write_uneven_video


def packed(kind: int, **members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.jpg", data)
    return file.getvalue()


def problems(path: Path) -> list[str]:
    """What a table would say of the files of one archive."""
    room = path.parent / "room"
    room.mkdir(exist_ok=True)
    count_photos([path])
    return [sent.problem for sent in open_photos([path], room)]


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_archives_are_named_and_stop_nothing_else(tmp_path, kind):
    draw = random.Random(kind)
    whole, path = packed(kind, a=draw.randbytes(300), b=b"x" * 500), tmp_path / "a.zip"
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 6)):
            data[draw.randrange(len(data))] = draw.choice([0, 255, draw.randrange(256)])
        path.write_bytes(data)
        try:
            assert all(problems(path))
        except ValueError as error:
            assert str(error).startswith("0 files were sent")


def test_a_damaged_jpeg_writes_nothing_to_the_console(tmp_path, capfd):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = bytearray(cv2.imencode(".jpg", cv2.GaussianBlur(noise, (7, 7), 2))[1].tobytes())
    data[-2:-2] = b"\x12" * 30
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    shown = read_photo(path), decode_frame(bytes(data))
    assert capfd.readouterr() == ("", "")
    expected = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert "Corrupt JPEG" in capfd.readouterr().err, "this one does not show the difference"
    for image in shown:
        assert np.array_equal(image, expected)


def test_a_video_of_uneven_times_keeps_them_and_its_damage_is_silent(tmp_path, capfd):
    shown = [round(1000 * i / RATE) for i in (0, 1, 2, 9, 10)]
    path = write_uneven_video(tmp_path / "sent.mkv", shown)
    data = bytearray(path.read_bytes())
    at = data.rindex(b"\xff\xda")
    data[at + 14 : at + 40] = bytes(26)
    path.write_bytes(data)
    assert annotate(path, tmp_path / "out.webm", lambda picture: picture)[0] == 5
    err = capfd.readouterr().err.splitlines()
    assert [line for line in err if "tag 0x30385056/'VP80'" not in line] == []  # OpenCV's own, of each WebM it writes
    video = cv2.VideoCapture(str(tmp_path / "out.webm"))
    grays = []
    while (read := video.read())[0]:
        grays.append(round(float(read[1].mean()) / 20 - 0.5))
    assert grays[:10] == [0, 1, 2, 2, 2, 2, 2, 2, 2, 3] and len(grays) == 11


def test_a_video_whose_frames_are_hours_apart_is_short(tmp_path):
    path = write_uneven_video(tmp_path / "sent.mkv", [0, 12_000, 24_000, 24_100])
    annotate(path, tmp_path / "out.webm", lambda picture: picture)
    seconds = cv2.VideoCapture(str(tmp_path / "out.webm")).get(cv2.CAP_PROP_FRAME_COUNT) / RATE
    assert 20 <= seconds < 21, "10 of each gap of 12"


def test_pictures_in_a_file_are_not_counted(tmp_path, monkeypatch):
    """A TIFF of 28 MB has 280,000, which Pillow counts for hours."""
    frames = [Image.fromarray(np.full((8, 8), 80 * i, np.uint8)) for i in range(3)]
    for kind in ("TIFF", "GIF", "WEBP", "PNG"):
        one, many = (tmp_path / f"{name}.{kind.lower()}" for name in ("one", "many"))
        frames[0].save(one, kind)
        frames[0].save(many, kind, save_all=True, append_images=frames[1:])
        for plugin in ("TiffImagePlugin.TiffImageFile", "GifImagePlugin.GifImageFile"):
            monkeypatch.setattr(
                f"PIL.{plugin}.n_frames", property(lambda file: file._n_frames or pytest.fail("counted"))
            )
        assert not has_more_pictures(one)
        assert has_more_pictures(many), kind
        monkeypatch.undo()
    frames[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=frames[1:])
    assert not has_more_pictures(tmp_path / "a.jpg"), "of stereo cameras"


def test_a_jpeg_of_many_scans_is_refused(tmp_path):
    """A decoder goes over all pixels in each: 25 MB of them take hours."""
    file = io.BytesIO()
    Image.new("RGB", (640, 480)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    for num_more, wanted in ((20, True), (MAX_SCANS, False)):
        path = tmp_path / "a.jpg"
        path.write_bytes(
            data[:-2] + last * num_more + b"\xff\xd9" + b"\xff\xda" * 500
        )  # what follows the end is no scan
        if wanted:
            assert read_photo(path).shape == (480, 640, 3)
        else:
            with pytest.raises(ValueError, match=f"more than {MAX_SCANS} scans"):
                read_photo(path)
            with pytest.raises(ValueError, match=f"more than {MAX_SCANS} scans"):
                decode_frame(path.read_bytes())


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_of_two_sizes_is_refused(tmp_path, order):
    """Pillow believes the last, by which pages bound the memory; OpenCV makes a picture of the first."""
    rows = zlib.compress(bytes(3000))
    for sizes in ([(10, 10)], [(3000, 3000), (10, 10)], [(10, 10), (3000, 3000)]):
        sides = [(tag, 4, 1, side) for width, height in sizes for tag, side in ((256, width), (257, height))]
        tags = [(258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8), (278, 4, 1, 10), (279, 4, 1, len(rows))]
        listed = b"".join(
            struct.pack(order + ("HHLHH" if kind == 3 else "HHLL"), tag, kind, num, value, *([0] if kind == 3 else []))
            for tag, kind, num, value in sides + tags
        )
        start = b"II*\0" if order == "<" else b"MM\0*"
        path = tmp_path / "a.tif"
        path.write_bytes(
            start + struct.pack(order + "L", 8 + len(rows)) + rows
            + struct.pack(order + "H", len(sides + tags)) + listed + bytes(4)
        )  # fmt: skip
        if len(sizes) == 1:
            assert read_photo(path).shape == (10, 10, 3)
        else:
            with pytest.raises(ValueError, match="says its size twice"):
                read_photo(path)
