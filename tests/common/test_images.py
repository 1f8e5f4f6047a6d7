import cv2
import numpy as np
import pytest
import torch

from apps.common.images import Normalisation, check_image, read_image, stack_images

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
        ("photo.jpg", "an image must be an array, got str: read files with read_image"),
    ],
    ids=str,
)
def test_what_is_no_image_is_told(image, message):
    with pytest.raises(ValueError, match=message):
        check_image(image)
    check_image(np.zeros((4, 5, 3), np.uint8))
