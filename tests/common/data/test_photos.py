"""Facts about photos, against files that Pillow and OpenCV wrote."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from apps.common.data.copies import find_duplicates
from apps.common.data.findings import file_findings
from apps.common.data.photos import (
    IMAGE_SUFFIXES,
    Glance,
    evenly_spaced,
    find_photos,
    glance_at_photo,
    glance_at_photos,
    inspect_photo,
    inspect_photos,
)
from apps.common.images import read_image

NOISE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)


def save(path: Path, mode: str = "RGB", **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(NOISE).convert(mode).save(path, **options)
    return path


def test_photos_are_found_in_order_and_hidden_files_are_not(tmp_path):
    for name in ("b c.JPG", "ä.jpeg", "a.png", ".hidden.jpg", "._a.png", "notes.txt", "deep/d.webp", ".trash/e.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.jpg").mkdir()
    found = [str(path.relative_to(tmp_path)) for path in find_photos(tmp_path)]
    assert found == ["a.png", "b c.JPG", "deep/d.webp", "ä.jpeg"]
    assert find_photos(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
    with pytest.raises(ValueError, match=r"no photos in it \(read are \.avif, \.bmp"):
        find_photos(tmp_path / "folder.jpg")
    with pytest.raises(ValueError, match="there is no such file or folder"):
        find_photos(tmp_path / "nowhere")


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES - {".dib", ".jpe", ".jfif"}))
def test_every_suffix_is_one_that_training_reads(tmp_path, suffix):
    facts = inspect_photo(save(tmp_path / f"x{suffix.upper()}"))
    assert facts.problem is None
    assert not facts.suffix_is_wrong
    assert (facts.width, facts.height) == (60, 40)


@pytest.mark.parametrize(
    ("name", "mode", "options", "channels", "bits", "format"),
    [
        ("a.jpg", "RGB", {}, "RGB", 8, "JPEG"),
        ("a.jpg", "L", {}, "gray", 8, "JPEG"),
        ("a.jpg", "CMYK", {}, "CMYK", 8, "JPEG"),
        ("a.jpg", "RGB", {"format": "MPO"}, "RGB", 8, "JPEG"),
        ("a.png", "RGBA", {}, "RGBA", 8, "PNG"),
        ("a.png", "LA", {}, "gray+alpha", 8, "PNG"),
        ("a.png", "P", {}, "palette", 8, "PNG"),
        ("a.png", "1", {}, "gray", 1, "PNG"),
        ("a.tif", "RGBA", {}, "RGBA", 8, "TIFF"),
    ],
)
def test_kinds_of_pixels(tmp_path, name, mode, options, channels, bits, format):
    facts = inspect_photo(save(tmp_path / name, mode, **options))
    assert facts.problem is None
    assert (facts.channels, facts.bits, facts.format, facts.orientation) == (channels, bits, format, 1)


@pytest.mark.parametrize(("image", "channels"), [(NOISE, "RGB"), (NOISE[..., 0], "gray")])
def test_sixteen_bits(tmp_path, image, channels):
    cv2.imwrite(str(tmp_path / "a.png"), image.astype(np.uint16) * 257)
    facts = inspect_photo(tmp_path / "a.png")
    assert (facts.channels, facts.bits) == (channels, 16)


@pytest.mark.parametrize(("most", "used", "words"), [(4095, 12, ", of which 12 are used"), (40_000, 16, "")])
def test_which_of_sixteen_bits_are_read_is_told(tmp_path, most, used, words):
    image = np.linspace(0, most, 256).astype(np.uint16).reshape(16, 16)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    facts = inspect_photo(tmp_path / "a.png")
    (note,) = [f for f in file_findings([facts], min_side=1) if f.what == "photos of more than 8 bits"]
    assert note.cases == [f"{tmp_path / 'a.png'}: 16 bits{words}: the high 8 of them are read"]
    assert np.array_equal(read_image(tmp_path / "a.png")[..., 0], image // 2 ** (used - 8))


def test_a_turned_photo_has_the_size_that_training_sees(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    facts = inspect_photo(save(tmp_path / "a.jpg", exif=exif))
    assert (facts.orientation, facts.width, facts.height) == (6, 40, 60)
    exif[0x0112] = 77
    assert inspect_photo(save(tmp_path / "b.jpg", exif=exif)).orientation == 1


def test_a_wrong_suffix_is_told_from_the_bytes(tmp_path):
    facts = inspect_photo(save(tmp_path / "png named.jpg", format="PNG"))
    assert facts.problem is None
    assert facts.suffix_is_wrong
    assert facts.format == "PNG"


def test_problems_are_those_that_training_would_have(tmp_path):
    whole = save(tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    names = ["cut.jpg", "text.jpg", "empty.jpg", "folder.jpg", "missing.jpg"]
    for name in names:
        facts = inspect_photo(tmp_path / name)
        with pytest.raises(ValueError) as refusal:
            read_image(tmp_path / name)
        assert facts.problem == str(refusal.value)
        assert name in facts.problem
        assert (facts.width, facts.height, facts.pixel_hash) == (0, 0, "")


def test_copies_are_found_under_other_names_and_in_other_formats(tmp_path):
    first = save(tmp_path / "first.png")
    again = save(tmp_path / "again.bmp")
    other = tmp_path / "z other name.png"
    shutil.copy(first, other)
    changed = NOISE.copy()
    changed[0, 0, 0] ^= 1
    Image.fromarray(changed).save(tmp_path / "one pixel.png")
    Image.fromarray(NOISE.reshape(60, 40, 3)).save(tmp_path / "same bytes, other shape.png")
    for name in ("broken 1.jpg", "broken 2.jpg"):
        (tmp_path / name).write_text("the same text")
    facts = inspect_photos(find_photos(tmp_path), num_workers=2, progress=False)
    assert find_duplicates([fact.path for fact in facts], facts) == [[again, first, other]]


def test_answers_have_the_order_of_the_question(tmp_path):
    paths = [save(tmp_path / f"{i}.png") for i in range(9)][::-1]
    alone = inspect_photos(paths, num_workers=1, progress=False)
    assert [fact.path for fact in alone] == paths
    assert inspect_photos(paths, num_workers=4, progress=False) == alone
    with pytest.raises(ValueError, match="num_workers must be 1 or more, got 0"):
        inspect_photos(paths, num_workers=0)


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES - {".dib", ".jpe", ".jfif"}))
def test_a_glance_at_a_good_photo_gives_its_size(tmp_path, suffix):
    assert glance_at_photo(save(tmp_path / f"x{suffix}")) == Glance(None, 60, 40)


def test_a_glance_reads_no_more_than_the_ends_of_a_good_photo(tmp_path, monkeypatch):
    paths = [save(tmp_path / name) for name in ("a.jpg", "b.png")]
    monkeypatch.setattr("apps.common.data.photos.read_image", lambda path: pytest.fail(f"{path} was read"))
    assert glance_at_photos(paths) == [Glance(None, 60, 40)] * 2


def test_a_glance_knows_a_turned_photo(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    seen = glance_at_photo(save(tmp_path / "a.jpg", exif=exif))
    assert seen == Glance(None, 60, 40, True)
    assert seen.size == read_image(tmp_path / "a.jpg").shape[1::-1] == (40, 60)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_glance_facts_and_reading_agree_on_a_turned_photo(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"a{suffix}", exif=exif)
    fact = inspect_photo(path)
    assert glance_at_photo(path).size == (fact.width, fact.height) == read_image(path).shape[1::-1]


@pytest.mark.parametrize(
    "exif",
    [
        b"II*\0\x08\0\0\0\1\0\x12\1\4\0\1\0\0\0\6\0\0\0\0\0\0\0",  # a long number
        b"II*\0\x08\0\0\0\1\0\x12\1\1\0\1\0\0\0\6\0\0\0\0\0\0\0",  # a byte
        b"II*\0\x08\0\0\0\1\0\x12\1\3\0\2\0\0\0\6\0\1\0\0\0\0\0",  # two numbers
        b"MM\0+\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0",  # of BigTIFF
    ],
)
def test_glance_facts_and_reading_agree_on_odd_exif(tmp_path, exif):
    path = save(tmp_path / "a.jpg", exif=b"Exif\0\0" + exif)
    size = read_image(path).shape[1::-1]
    facts = inspect_photo(path)
    assert glance_at_photo(path).size == (facts.width, facts.height) == size


def test_an_orientation_in_xmp_alone_turns_nothing(tmp_path):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"></x:xmpmeta>'
    path = save(tmp_path / "a.jpg", xmp=xmp)
    assert Image.open(path).getexif()[0x0112] == 6, "Pillow takes it for EXIF's"
    assert glance_at_photo(path).size == read_image(path).shape[1::-1] == (60, 40)


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path):
    save(tmp_path / "elsewhere" / "b.jpg")
    save(tmp_path / "photos" / "a.jpg")
    (tmp_path / "photos" / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "photos", target_is_directory=True)
    (tmp_path / "photos/inner").mkdir()
    save(tmp_path / "photos" / "inner" / "c.jpg")
    for name, target in (("again", "inner"), ("itself", "itself"), ("above", ".."), ("also", "../elsewhere")):
        (tmp_path / "photos" / name).symlink_to(target, target_is_directory=True)
    found = find_photos(tmp_path / "photos")
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "photos/a.jpg",
        "photos/also/b.jpg",
        "photos/inner/c.jpg",
    ]


def test_a_glance_says_what_reading_says(tmp_path):
    """Also of a JPEG whose thumbnail has the end mark, and of one with much behind its end, which is no fault."""
    whole = save(tmp_path / "whole.jpg").read_bytes()
    thumbnail = b"\xff\xe5" + (len(whole) + 2).to_bytes(2, "big") + whole
    contents = {
        "empty.jpg": b"",
        "text.jpg": b"hello",
        "cut.jpg": whole[:-200],
        "cut.png": save(tmp_path / "whole.png").read_bytes()[:-100],
        "thumbnail.jpg": whole[:2] + thumbnail + whole[2 : len(whole) // 2],
        "behind.jpg": whole + bytes(10_000),
        "large.jpg": (large := whole[:-2] + bytes(100_000) + whole[-2:]),
        "large cut.jpg": large[:-2],
        "large behind.jpg": large + bytes(10_000),
    }
    for name, content in contents.items():
        path = tmp_path / name
        path.write_bytes(content)
        assert glance_at_photo(path).problem == inspect_photo(path).problem
    assert glance_at_photo(tmp_path / "behind.jpg").problem is None
    assert glance_at_photo(tmp_path / "cut.jpg")[:3] == (
        f"image {tmp_path / 'cut.jpg'} is truncated: its end is missing ({len(whole) - 200} bytes)",
        60,
        40,
    )
    assert "does not exist" in glance_at_photo(tmp_path / "gone.jpg").problem


def test_photos_are_chosen_at_equal_distances():
    assert evenly_spaced(3, 10) == [0, 1, 2]
    assert evenly_spaced(10, 5) == [0, 2, 4, 6, 8]
