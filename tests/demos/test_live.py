"""The webcam, frame by frame, and what the functions behind the page do without a server."""

import base64
import time
from types import SimpleNamespace

import cv2
import gradio as gr
import numpy as np
import pytest
from gradio.data_classes import ImageData

from demos.chooser import make_models
from demos.detection import DetectionTask
from demos.faceattr import FaceattrTask
from demos.handlers import Handlers
from demos.payloads import Camera, PictureInAnswer, UploadedPhoto
from demos.task import Settings
from demos.uploads import MAX_FRAME_PIXELS, decode_frame, fit
from demos.wrapping import guarded


@pytest.fixture(scope="module")
def handlers(model_folders) -> Handlers:
    task = DetectionTask()
    return Handlers(task, make_models(task, checkpoint=model_folders["detection"], device="cpu"))


@pytest.fixture(scope="module")
def nothing_shown(handlers) -> Settings:
    return Settings(handlers.models.default, 1.0, [])


def frame_bytes(width: int = 64, height: int = 48) -> bytes:
    """Black on the left, white on the right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, width // 2 :] = 255
    return cv2.imencode(".png", image)[1].tobytes()


def test_a_frame_is_looked_at_and_timed(handlers, nothing_shown, monkeypatch):
    now = iter([10.0, 10.1, 10.2, 10.5])
    clock = SimpleNamespace(monotonic=lambda: next(now), perf_counter=time.perf_counter)
    monkeypatch.setattr("demos.handlers.time", clock)  # not the module itself, which a server's threads read
    picture, sentence, _, clock = handlers.frame(frame_bytes(), False, None, nothing_shown)
    assert picture.shape == (480, 640, 3), "small frames are enlarged"
    assert "frames a second" not in sentence
    for _ in range(2):  # too soon for new words
        picture, *words, clock = handlers.frame(frame_bytes(), False, clock, nothing_shown)
        assert picture.shape == (480, 640, 3)
        assert words == [gr.skip(), gr.skip()]
    _, sentence, _, clock = handlers.frame(frame_bytes(), False, clock, nothing_shown)
    assert f"{1 / (0.8 * 0.1 + 0.2 * 0.3):.1f} frames a second" in sentence


def test_what_fails_half_way_leaves_no_file(handlers, nothing_shown, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "room"))
    (tmp_path / "room").mkdir()
    photos = [tmp_path / f"{i}.png" for i in range(3)]
    for path in photos:
        path.write_bytes(frame_bytes())
    looked, look = [], handlers._look

    def fail_at_the_third(image: np.ndarray, settings: Settings) -> object:
        looked.append(image)
        if len(looked) == 3:
            raise MemoryError
        return look(image, settings)

    monkeypatch.setattr(handlers, "_look", fail_at_the_third)
    film = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(5):
        film.write(np.zeros((48, 64, 3), np.uint8))
    film.release()
    quiet = {"progress": lambda *_, **__: None}
    for make in (
        lambda: handlers.photos([str(path) for path in photos], nothing_shown, **quiet),
        lambda: handlers.video(str(tmp_path / "a.avi"), nothing_shown, **quiet),
    ):
        looked.clear()
        with pytest.raises(MemoryError):
            make()
        assert len(looked) == 3
    assert not [path for path in (tmp_path / "room").rglob("*") if path.is_file()]


def test_the_mirror_swaps_left_and_right(handlers, nothing_shown):
    plain, *_ = handlers.frame(frame_bytes(), False, None, nothing_shown)
    mirrored, *_ = handlers.frame(frame_bytes(), True, None, nothing_shown)
    np.testing.assert_array_equal(mirrored[:, ::-1], plain)
    assert plain[:, :200].max() == 0


@pytest.mark.parametrize("data", [b"", b"no picture", frame_bytes(4000, MAX_FRAME_PIXELS // 4000 + 1)])
def test_a_frame_that_cannot_be_read_is_told_in_the_page(handlers, nothing_shown, data):
    picture, sentence, _, _ = handlers.frame(data, False, None, nothing_shown)
    assert picture is None
    assert "camera's picture" in sentence


def test_frames_do_not_touch_the_disk(room):
    before, camera = sorted(room.rglob("*")), Camera(render=False)
    answer = PictureInAnswer(render=False).postprocess(decode_frame(frame_bytes()))
    assert answer.path is None
    data = base64.b64decode(answer.url.removeprefix("data:image/jpeg;base64,"))
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (48, 64, 3)
    assert camera.preprocess(ImageData(url=answer.url)) == data
    assert camera.preprocess(ImageData(url="data:image/png;base64,***")) == b""
    assert sorted(room.rglob("*")) == before


def test_a_photo_must_be_a_file(room):
    photo = UploadedPhoto(render=False)
    assert photo.preprocess(None) is None
    path = room / "x.png"
    path.touch()
    assert photo.preprocess(ImageData(path=str(path))) == str(path)
    with pytest.raises(gr.Error, match="as a file"):
        photo.preprocess(ImageData(url="data:image/png;base64,AAAA"))


def test_bugs_are_not_shown_to_visitors(capsys):
    def broken(option: bool = False) -> None:
        raise KeyError("/secret/path")

    with pytest.raises(gr.Error) as error:
        guarded(broken)()
    assert "secret" not in str(error.value)
    assert "/secret/path" in capsys.readouterr().err


def test_without_a_model_the_page_says_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("demos.chooser.BUNDLED", tmp_path)
    handlers = Handlers(FaceattrTask(), make_models(FaceattrTask(), device="cpu"))
    names, _, _, problem, _ = handlers.describe(None)
    assert names == []
    assert "python apps/faceattr/train.py" in problem


def test_nothing_sent_is_no_error(handlers, nothing_shown):
    assert handlers.photo(None, nothing_shown)[0] is None
    assert handlers.video(None, nothing_shown)[0] is None
    assert handlers.photos(None, nothing_shown)[0] is None
    assert handlers.frame(None, True, None, nothing_shown)[1] == "The camera is off."


@pytest.mark.parametrize("shape", [(90, 120), (3, 5000), (5000, 3), (1, 1)])
def test_pictures_fit(shape):
    picture, factor = fit(np.zeros((*shape, 3), np.uint8), side=1600, least=320)
    assert max(picture.shape[:2]) == min(1600, max(320, max(shape)))
    assert min(picture.shape[:2]) >= 1
    assert factor == pytest.approx(max(picture.shape[:2]) / max(shape))


def test_only_the_first_of_several_pictures_is_said(handlers, nothing_shown, tmp_path, monkeypatch):
    from PIL import Image

    said = []
    monkeypatch.setattr("demos.handlers.gr", SimpleNamespace(Warning=said.append))
    one, two = (Image.new("RGB", (40, 40), colour) for colour in ("red", "blue"))
    one.save(tmp_path / "one.gif")
    one.save(tmp_path / "two.gif", save_all=True, append_images=[two])
    handlers.photo(str(tmp_path / "one.gif"), nothing_shown)
    assert said == []
    handlers.photo(str(tmp_path / "two.gif"), nothing_shown)
    assert len(said) == 1
