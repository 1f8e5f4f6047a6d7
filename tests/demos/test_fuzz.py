"""Damaged uploads: photos, videos and archives that a visitor sends are shown, or refused in a sentence."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from demos.uploads import MAX_PHOTOS, count_photos, decode_frame, open_photos, read_photo
from demos.videos import annotate
from tests import damage_binary as damage
from tests.common.test_fuzz import FORMATS as PICTURES
from tests.fuzzing import Format, fuzz


def archive() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, kind in (("a/photo.jpg", "jpeg"), ("b.png", "png"), ("notes.txt", "pnm"), ("c.bmp", "bmp")):
            opened.writestr(name, PICTURES[kind].samples()[0])
    return out.getvalue()


def read_archive(data: bytes, folder: Path) -> None:
    """All that comes is a photo or a sentence; nothing is left, and nothing was written elsewhere."""
    sent, room = folder / "sent.zip", folder / "room"
    sent.write_bytes(data)
    room.mkdir()
    if not 0 < count_photos([sent]) <= MAX_PHOTOS:
        raise AssertionError("as many are not allowed")
    for one in open_photos([sent], room):
        assert isinstance(one.name, str) and (one.image is None) == bool(one.problem), one
        assert one.image is None or (one.image.dtype == np.uint8 and one.image.shape[2] == 3)
        assert str(folder) not in one.problem, one.problem
    assert sorted(path.name for path in folder.rglob("*")) == ["room", "sent.zip"]


def read_upload(data: bytes, folder: Path) -> None:
    """A photo as it is uploaded; and as the camera's picture, of the kinds that browsers send."""
    (folder / "photo.jpg").write_bytes(data)
    image = read_photo(folder / "photo.jpg")
    assert image.dtype == np.uint8 and image.ndim == 3
    assert decode_frame(data).shape[2] == 3


def read_video(data: bytes, folder: Path) -> None:
    (folder / "sent.webm").write_bytes(data)
    done, total = annotate(folder / "sent.webm", folder / "out.webm", lambda picture: picture)
    assert 0 < done <= 1800 and total >= 0 and (folder / "out.webm").stat().st_size


FORMATS = {
    "zip": Format(lambda: [archive()], read_archive, damage=damage.in_zip, runs=80),
    "uploaded jpeg": Format(PICTURES["jpeg"].samples, read_upload, damage=damage.in_jpeg, runs=50),
    "uploaded png": Format(PICTURES["png"].samples, read_upload, damage=damage.in_png, runs=40),
    "uploaded webp": Format(PICTURES["webp"].samples, read_upload, damage=damage.in_riff, runs=50),
    "uploaded mp4": Format(PICTURES["video mp4"].samples, read_video, damage=damage.in_boxes, runs=30),
    "uploaded webm": Format(PICTURES["video webm"].samples, read_video, damage=damage.in_header, runs=30),
}


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_kinds_of_compression_are_told(tmp_path, method):
    """LZMA takes as much memory as the file asks for."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as opened:
        opened.writestr("a.jpg", PICTURES["jpeg"].samples()[0])
        opened.writestr("b.jpg", PICTURES["jpeg"].samples()[0], zipfile.ZIP_DEFLATED)
    odd, sound = open_photos([tmp_path / "a.zip"], tmp_path)
    assert odd.image is None
    assert "a.jpg has an unsupported compression" in odd.problem
    assert sound.image is not None


def test_an_archive_with_an_offset_before_its_beginning_is_one_sentence(tmp_path):
    data = bytearray(archive())
    at = data.rindex(b"PK\x05\x06") + 16
    data[at : at + 4] = (int.from_bytes(data[at : at + 4], "little") + 500).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(data)
    (only,) = open_photos([tmp_path / "a.zip"], tmp_path)
    assert "a.zip: the archive cannot be read any further" in only.problem


def test_damaged_uploads(request):
    fuzz(__name__, request.config)
