import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, features

from apps.common import images
from apps.common.headers import MAX_SCANS
from apps.common.images import HEIC_IS_READ, Normalisation, check_image, read_image, stack_images

COLOURS = np.zeros((20, 30, 3), np.uint8)
COLOURS[:, :15] = (10, 20, 200)  # BGR


def write(path, image) -> None:
    cv2.imwrite(str(path), image)


@pytest.mark.parametrize("name", ["a.png", "b.bmp", "c.tiff", "d.webp", "ä photo.jpg"])
def test_formats_and_names(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(cv2.imencode(path.suffix, COLOURS)[1].tobytes())
    image = read_image(path)
    assert image.shape == (20, 30, 3)
    assert np.abs(image[10, 5].astype(int) - [200, 20, 10]).max() < 12


@pytest.mark.parametrize(
    "image",
    [COLOURS[..., 0], np.dstack((COLOURS, COLOURS[..., :1])), (COLOURS.astype(np.uint16) * 256)],
    ids=["gray", "transparent", "16 bits"],
)
def test_other_kinds_become_rgb(tmp_path, image):
    write(tmp_path / "a.png", image)
    read = read_image(tmp_path / "a.png")
    assert read.shape == (20, 30, 3)
    assert read.dtype == np.uint8
    assert read.max() > 9


def test_broken_files_are_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)
    for suffix in (".jpg", ".png"):
        path = tmp_path / f"x{suffix}"
        write(path, noise)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match=rf"x\{suffix} is truncated: its end is missing \(\d+ bytes\)"):
            read_image(path)
        if suffix == ".jpg":
            path.write_bytes(whole[:2] + b"\xff\xff" + whole[2:])  # filling, which the format allows
            assert read_image(path).shape == (60, 60, 3)
        path.write_bytes(whole + b"trailing bytes, as some phones write")
        assert read_image(path).shape == (60, 60, 3)
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.jpg is not an image"):
        read_image(tmp_path / "text.jpg")
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty\.jpg is empty"):
        read_image(tmp_path / "empty.jpg")
    with pytest.raises(ValueError, match=r"none\.jpg does not exist"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(ValueError, match="cannot be read"):
        read_image(tmp_path)


def test_preprocessing_keeps_channels_last():
    images = stack_images([np.full((4, 5, 3), value, np.uint8) for value in (0, 255)])
    numbers = Normalisation()(images)
    assert numbers.is_contiguous(memory_format=torch.channels_last)
    assert numbers.aminmax() == (-1.0, 1.0)
    other = Normalisation(mean=(10.0, 20.0, 30.0), std=(1.0, 2.0, 4.0))(images)
    assert other[1, :, 0, 0].tolist() == [245.0, 117.5, 56.25]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 5), np.uint8), r"got \(4, 5\) uint8"),
        (np.zeros((4, 5, 1), np.uint8), r"got \(4, 5, 1\) uint8"),
        (np.zeros((4, 5, 4), np.uint8), r"got \(4, 5, 4\) uint8"),
        (np.zeros((0, 5, 3), np.uint8), r"got \(0, 5, 3\) uint8"),
        (np.zeros((4, 5, 3), np.float32), r"got \(4, 5, 3\) float32"),
        ("photo.jpg", "an image must be an array, or the path of a photo, got str"),
    ],
    ids=str,
)
def test_what_is_no_image_is_told(image, message):
    with pytest.raises(ValueError, match=message):
        check_image(image)
    check_image(np.zeros((4, 5, 3), np.uint8))


def smooth() -> np.ndarray:
    """A picture of (40, 60, 3) that no two corners of are alike."""
    rows, columns = np.mgrid[:40, :60]
    return np.stack([columns * 4, rows * 6, 255 - columns * 2], axis=2).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".gif", ".avif"])
def test_what_is_transparent_is_white(tmp_path, suffix, capfd, monkeypatch):
    """As a person sees it, not the colours under alpha 0; said once."""
    monkeypatch.setattr(images, "_SAID", set())
    rgba = np.dstack([np.full((40, 60, 3), (200, 30, 40), np.uint8), np.full((40, 60), 255, np.uint8)])
    rgba[:20, :, 3] = 0
    for name in ("a", "b"):
        options = {"lossless": True} if suffix == ".webp" else {"quality": 100} if suffix == ".avif" else {}
        Image.fromarray(rgba).save(tmp_path / f"{name}{suffix}", **options)
        read = read_image(tmp_path / f"{name}{suffix}").astype(int)
        assert np.abs(read[2:17] - 255).max() < 6 and np.abs(read[23:] - (200, 30, 40)).max() < 6
    assert capfd.readouterr().err.count("is put on white") == 1


@pytest.mark.parametrize("alpha, expected", [(0, (200, 30, 40)), (255, (200, 30, 40)), (51, (244, 210, 212))])
def test_a_bmp_without_any_alpha_is_opaque(tmp_path, alpha, expected):
    """Programs leave the fourth byte 0: browsers then show the colours."""
    import struct

    masks = struct.pack("<4I4s", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs") + bytes(64 - 16)
    header = struct.pack("<IiiHHIIiiII", 124, 8, 6, 1, 32, 3, 8 * 6 * 4, 0, 0, 0, 0) + masks
    header += bytes(124 - len(header))
    pixels = bytes((40, 30, 200, alpha)) * 48
    start = b"BM" + struct.pack("<IHHI", 14 + len(header) + len(pixels), 0, 0, 14 + len(header))
    (tmp_path / "a.bmp").write_bytes(start + header + pixels)
    assert np.abs(read_image(tmp_path / "a.bmp").astype(int) - expected).max() <= 1


def test_half_transparent_pixels_are_mixed_with_white(tmp_path):
    rgba = np.dstack([np.full((8, 8, 3), (200, 30, 40), np.uint8), np.full((8, 8), 51, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "a.png")
    expected = [round(255 - (255 - value) * 0.2) for value in (200, 30, 40)]
    assert np.abs(read_image(tmp_path / "a.png").astype(int) - expected).max() <= 1
    deep = np.dstack([np.full((8, 8, 3), (40, 30, 200), np.uint16), np.full((8, 8), 51, np.uint16)]) * 257
    write(tmp_path / "deep.png", deep)
    assert np.abs(read_image(tmp_path / "deep.png").astype(int) - expected).max() <= 1


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".jp2", ".ppm"])
@pytest.mark.parametrize("bits", [8, 9, 10, 12, 14, 16])
def test_sixteen_bits_are_stretched_to_what_is_used(tmp_path, suffix, bits):
    """Scanners and cameras store 10 to 14 bits in 16: such a photo must not become all but black."""
    path = tmp_path / f"a{suffix}"
    deep = smooth().astype(np.uint16) << (bits - 8)
    deep[0, 0] = (1 << bits) - 1
    path.write_bytes(cv2.imencode(suffix, deep[..., ::-1], [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])[1].tobytes())
    assert np.abs(read_image(path)[1:].astype(int) - smooth()[1:]).max() <= 1
    gray = deep[..., 0].copy()
    path.write_bytes(cv2.imencode(".png" if suffix == ".ppm" else suffix, gray)[1].tobytes())
    assert np.abs(read_image(path)[1:, :, 1].astype(int) - smooth()[1:, :, 0]).max() <= 1


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("most_alpha", [4095, 65535])
def test_twelve_of_sixteen_bits_with_transparency_are_stretched(tmp_path, suffix, most_alpha):
    deep = np.full((8, 8, 4), most_alpha, np.uint16)
    deep[..., :3] = np.arange(192).reshape(8, 8, 3) * 4095 // 191
    deep[0, 0, 3] = 0
    (tmp_path / "a").write_bytes(cv2.imencode(suffix, deep[..., [2, 1, 0, 3]])[1].tobytes())
    read = read_image(tmp_path / "a").astype(int)
    assert read[0, 0].tolist() == [255] * 3, "white, as transparent pictures are shown"
    assert np.abs(read - deep[..., :3] / 16).reshape(64, 3)[1:].max() <= 1


def test_gray_with_transparency_in_sixteen_bits(tmp_path):
    """Read of a PNG; of a TIFF neither Pillow nor OpenCV gives all bits."""
    gray = np.arange(64, dtype=np.uint16).reshape(8, 8) * 65
    pixels = np.dstack([gray, np.full((8, 8), 65535, np.uint16)])
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = ((b"IHDR", struct.pack(">LLBBBBB", 8, 8, 16, 4, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = [struct.pack(">L", len(d)) + kind + d + struct.pack(">L", zlib.crc32(kind + d)) for kind, d in parts]
    (tmp_path / "a").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    assert np.abs(read_image(tmp_path / "a") - gray[..., None] / 16).max() <= 1
    tags = {256: 8, 257: 8, 258: 16 | 16 << 16, 259: 1, 262: 1, 273: 8, 277: 2, 278: 8, 279: 256, 338: 2}
    listed = b"".join(struct.pack("<HHLL", tag, 3, 1 + (tag == 258), value) for tag, value in tags.items())
    (tmp_path / "a").write_bytes(
        b"II*\0" + struct.pack("<L", 264) + pixels.tobytes() + struct.pack("<H", len(tags)) + listed + bytes(4)
    )
    with pytest.raises(ValueError, match="gray with transparency in 16 bits, which is not read: save it as PNG"):
        read_image(tmp_path / "a")


def test_what_takes_hours_or_says_its_size_twice_is_no_photo(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg", progressive=True)
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[:-2] + data[data.rindex(b"\xff\xda") : -2] * MAX_SCANS + data[-2:])
    with pytest.raises(ValueError, match=r"a\.jpg cannot be decoded: it has more than 100 scans"):
        read_image(tmp_path / "a.jpg")
    Image.new("L", (10, 10)).save(tmp_path / "a.tif")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    struct.pack_into("<H", data, data.index(struct.pack("<HH", 258, 3)), 257)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.tif cannot be decoded: it is damaged: it says its size twice"):
        read_image(tmp_path / "a.tif")


def test_floats_are_no_photo(tmp_path):
    write(tmp_path / "a.tiff", smooth().astype(np.float32))
    with pytest.raises(ValueError, match=r"a\.tiff cannot be decoded: it holds float32 numbers, no colours"):
        read_image(tmp_path / "a.tiff")


@pytest.mark.parametrize("suffix", [".pfm", ".hdr", ".exr", ".ras", ".pam"])
def test_formats_are_known_by_their_first_bytes(tmp_path, suffix):
    """What a file is called does not matter: a PFM named .jpg used to become an array of two dimensions."""
    image = smooth()[..., 0].astype(np.float32) if suffix == ".pfm" else smooth()
    image = image.astype(np.float32) if suffix in (".hdr", ".exr") else image
    try:
        data = cv2.imencode(suffix, image)[1].tobytes()
    except cv2.error:
        pytest.skip(f"this OpenCV does not write {suffix}")
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.jpg is not an image: read are JPEG, PNG"):
        read_image(tmp_path / "a.jpg")
    (tmp_path / "a.pfm").write_bytes(cv2.imencode(".png", smooth())[1].tobytes())
    assert (read_image(tmp_path / "a.pfm") == smooth()[..., ::-1]).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_tag_says(tmp_path, kind, orientation):
    """As Pillow turns them, also where there is transparency or OpenCV does not look at the tag."""
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    exif = Image.Exif()
    exif[0x0112] = orientation
    for mode in ("RGB", "RGBA") if kind != "JPEG" else ("RGB",):
        path = tmp_path / f"{mode}.x"
        Image.fromarray(smooth()).convert(mode).save(path, kind, exif=exif.tobytes())
        with Image.open(io.BytesIO(path.read_bytes())) as opened:
            expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB")).astype(int)
        assert read_image(path).shape == expected.shape == ((40, 60, 3) if orientation < 5 else (60, 40, 3))
        assert np.abs(read_image(path) - expected).max() <= 3
    if kind in ("PNG", "TIFF"):
        deep = np.dstack([smooth()[..., ::-1].astype(np.uint16), np.full((40, 60), 255, np.uint16)]) * 257
        assert orientation != 1 or (read_image(_tagged(tmp_path, kind, deep)) == smooth()).all()


def _tagged(folder, kind, deep):
    path = folder / f"deep.{kind.lower()}"
    path.write_bytes(cv2.imencode(f".{kind.lower()}", deep)[1].tobytes())
    return path


@pytest.mark.parametrize("between", [b"\0\0", b"\xff\x01", b"\xff\xff", b"\0" * 9], ids=bytes.hex)
def test_bytes_before_a_jpegs_mark_are_passed_by(tmp_path, between, capfd):
    """As OpenCV and Pillow do."""
    whole = cv2.imencode(".jpg", smooth())[1].tobytes()
    expected = np.asarray(Image.open(io.BytesIO(whole)).convert("RGB"))
    path = tmp_path / "a.jpg"
    for place in (whole.index(b"\xff\xdb"), whole.index(b"\xff\xda")):
        path.write_bytes(whole[:place] + between + whole[place:])
        assert (read_image(path) == expected).all()
        path.write_bytes(whole[:place] + between + whole[place : len(whole) // 2 + place // 2])
        with pytest.raises(ValueError, match="is truncated"):
            read_image(path)
    assert not capfd.readouterr().err


def test_opencv_does_not_write_to_the_terminal(tmp_path, capfd):
    broken = {
        ".tiff": b"II*\0\x08\0\0\0\xff\xff" + bytes(40),
        ".bmp": b"BM" + b"\xff" * 60,
        ".gif": b"GIF89a" + b"\x01" * 60,
    }
    for suffix, data in broken.items():
        whole = cv2.imencode(suffix, smooth())[1].tobytes()
        for content in (data, whole[:40] + b"\xff" * 60, whole[: len(whole) // 2]):
            (tmp_path / f"a{suffix}").write_bytes(content)
            try:
                assert read_image(tmp_path / f"a{suffix}").ndim == 3
            except ValueError as error:
                assert f"a{suffix}" in str(error)
    assert not capfd.readouterr().err


def test_placeholders_are_named(tmp_path):
    (tmp_path / "a.jpg").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(ValueError, match=r"a\.jpg is not an image but a Git LFS pointer to one: run `git lfs pull`"):
        read_image(tmp_path / "a.jpg")


def test_heic_is_read_or_refused_with_advice(tmp_path):
    path = tmp_path / "IMG_1.HEIC"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    with pytest.raises(
        ValueError, match="cannot be decoded" if HEIC_IS_READ else "`python -m pip install pillow-heif`"
    ):
        read_image(path)
    if not HEIC_IS_READ:
        pytest.skip("pillow-heif is not installed")
    import pillow_heif

    pillow_heif.from_pillow(Image.fromarray(smooth())).save(path, quality=95)
    assert np.abs(read_image(path).astype(int) - smooth()).mean() < 4


def test_a_header_that_promises_too_much_is_refused(tmp_path):
    """Before memory is taken: 30,000 x 30,000 pixels would be 2.7 GB."""
    jpeg = bytearray(cv2.imencode(".jpg", smooth())[1].tobytes())
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 30_000, 30_000)
    (tmp_path / "a.jpg").write_bytes(jpeg)
    png = bytearray(cv2.imencode(".png", smooth())[1].tobytes())
    png[16:24] = struct.pack(">II", 12_000, 12_000)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    (tmp_path / "a.png").write_bytes(png)
    gif = bytearray(cv2.imencode(".gif", smooth())[1].tobytes())
    gif[6:10] = struct.pack("<HH", 60_000, 60_000)
    (tmp_path / "a.gif").write_bytes(gif)
    for name in ("a.jpg", "a.png", "a.gif"):
        with pytest.raises(ValueError, match=rf"{name} cannot be decoded: it has [\d,]+ bytes, but says that it is of"):
            read_image(tmp_path / name)
