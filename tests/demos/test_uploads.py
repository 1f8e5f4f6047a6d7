"""Files that are made to take long, or much memory, or to break what reads them."""

import io
import random
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from apps.common.headers import MAX_SCANS
from demos.uploads import count_photos, decode_frame, has_more_pictures, open_photos, read_photo


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
