import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from apps.common.cli import run_command
from apps.common.images import read_image
from apps.common.media import frames as frames_module
from apps.common.media.frames import Frame
from apps.detection import predict as predict_script
from apps.detection.boxes.postprocess import PostProcess
from apps.detection.data.load import load_split
from apps.detection.model.create import create_detector
from apps.detection.model.detector import Detector
from apps.detection.predict import Config, Found, Predictor, draw, predict
from apps.detection.results import save_crops
from tests.common.media_files import write_photo, write_video

NAMES = ["red", "blue", "traffic light"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """An untrained detector whose scores are spread out, so that it finds much, and not the same everywhere."""
    torch.manual_seed(0)
    network = create_detector("a025", num_classes=3, resolution=64, head="ssd")
    with torch.no_grad():
        for predictor in network.class_predictors:
            predictor.weight.mul_(6)
    detector = Detector(
        network=network.eval(),
        backbone="a025",
        class_names=NAMES,
        category_ids=[3, 7, 10],
        postprocess=PostProcess("sigmoid"),
    )
    folder = tmp_path_factory.mktemp("model") / "best"
    detector.save(folder, metrics={})
    return folder


@pytest.fixture
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    sides = ((64, 96), (200, 150), (64, 64), (40, 300), (333, 333))
    return [cv2.resize(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), (w, h)) for h, w in sides]


def run(*args: object) -> None:
    run_command(predict, Config, [str(arg) for arg in args])


def error_of(capsys, *args: object) -> str:
    with pytest.raises(SystemExit) as stop:
        run(*args)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def assert_same(one: list[Found], other: list[Found]) -> None:
    assert [found.name for found in one] == [found.name for found in other]
    np.testing.assert_allclose([found.score for found in one], [found.score for found in other], atol=1e-5)
    np.testing.assert_allclose([found.box_xyxy_px for found in one], [found.box_xyxy_px for found in other], atol=0.01)


@pytest.mark.parametrize("slice_side", [None, 100])
def test_a_batch_is_the_photos_one_by_one(checkpoint, images, slice_side):
    together = Predictor(checkpoint, device="cpu", conf=0.1, batch_size=4, slice_side=slice_side)
    alone = Predictor(checkpoint, device="cpu", conf=0.1, batch_size=1, slice_side=slice_side)
    found = together.batch(images)
    assert len(found) == len(images) and all(found)
    for image, one in zip(images, found, strict=True):
        assert_same(one, alone(image))
    assert together.batch([]) == []


def test_boxes_are_pixels_inside_the_photo_best_first(checkpoint, images):
    for found, image in zip(Predictor(checkpoint, device="cpu", conf=0.1).batch(images), images, strict=True):
        boxes, scores = np.array([one.box_xyxy_px for one in found]), [one.score for one in found]
        assert (boxes >= 0).all() and (boxes.max(0) <= (image.shape[1::-1] * 2)).all()
        assert boxes[:, 2].max() > 0.7 * image.shape[1] and boxes[:, 3].max() > 0.7 * image.shape[0]
        assert scores == sorted(scores, reverse=True) and scores[-1] > 0.1


def test_several_threads_get_what_one_gets(checkpoint, images):
    predictor = Predictor(checkpoint, device="cpu", conf=0.1, slice_side=100)
    expected = [predictor(image) for image in images]
    together = threading.Barrier(4)

    def work(first: int) -> list[list[Found]]:
        together.wait(60)
        return [predictor(images[(first + i) % len(images)]) for i in range(10)]

    with ThreadPoolExecutor(4) as pool:
        for first, results in enumerate(pool.map(work, range(4))):
            for i, found in enumerate(results):
                assert_same(found, expected[(first + i) % len(images)])


def test_no_object_has_two_names(checkpoint, images):
    """Against torchvision's suppression of all candidates without regard to their classes."""
    every = Predictor(checkpoint, device="cpu", conf=0.1, all_names=True, max_detections=100_000)(images[1])
    boxes, scores = (torch.tensor([one[i] for one in every]) for i in (0, 1))
    kept = torchvision.ops.nms(boxes, scores, 0.6)
    found = Predictor(checkpoint, device="cpu", conf=0.1)(images[1])
    assert 3 < len(found) < len(every)
    assert_same(found, [every[i] for i in kept[:100].tolist()])
    overlaps = torchvision.ops.box_iou(*[torch.tensor([one.box_xyxy_px for one in found])] * 2)
    assert overlaps.fill_diagonal_(0).max() <= 0.6
    blue = Predictor(checkpoint, device="cpu", conf=0.1, classes="blue")(images[1])
    assert len(blue) > len([one for one in found if one.name == "blue"])  # red that is not asked for hides none


def test_real_photos_show_few_objects_under_one_name_each(shared):
    """The published COCO detector with its own threshold, in the photos of a first visitor."""
    detect = Predictor(weights=str(shared / "weights/ssd_mobilenet_v1_0.75_coco_quant.tflite"), device="cpu")
    photos = sorted((shared / "data/photos").glob("*.jpg"))
    found = [detect(photo) for photo in photos]
    assert len(photos) == 6 and all(found)
    assert sum(map(len, found)) <= 35
    for one in found:
        boxes = torch.tensor([each.box_xyxy_px for each in one])
        assert torchvision.ops.box_iou(boxes, boxes).fill_diagonal_(0).max() <= 0.6
    names = {photo.stem: {each.name for each in one} for photo, one in zip(photos, found, strict=True)}
    assert names["pets"] == {"dog"} and names["cat_720p"] == {"cat"} and "kite" in names["kite_and_cold"]


def test_a_model_reports_from_its_own_threshold_on(checkpoint, images, tmp_path):
    about = json.loads((checkpoint / "model.json").read_text())
    assert "threshold" not in about
    own = Path(shutil.copytree(checkpoint, tmp_path / "own"))
    (own / "model.json").write_text(json.dumps({**about, "threshold": 0.2}))
    without, with_own, given = (
        [one.score for one in Predictor(folder, device="cpu", **settings)(images[1])]
        for folder, settings in ((checkpoint, {}), (own, {}), (own, {"conf": 0.15}))
    )
    assert 0.2 < with_own[-1] < 0.3 < without[-1]
    assert 0.15 < given[-1] < 0.2
    cv2.imwrite(str(tmp_path / "a.png"), images[1][..., ::-1])
    run("--checkpoint", own, "--source", tmp_path / "a.png", "--out", tmp_path / "found")
    rows = rows_of(tmp_path / "found/predictions.csv")
    assert [float(row["score"]) for row in rows] == pytest.approx(with_own, abs=1e-4)


def test_classes_and_limits(checkpoint, images):
    every = Predictor(checkpoint, device="cpu", conf=0.1, all_names=True)(images[1])
    assert len({one.name for one in every}) == 3
    blue = [one for one in every if one.name == "blue"]
    chosen = Predictor(checkpoint, device="cpu", conf=0.1, all_names=True, classes=["Blue"], max_detections=3)(
        images[1]
    )
    assert_same(chosen, blue[:3])  # not those of blue among the best 3
    assert_same(Predictor(checkpoint, device="cpu", conf=0.1, all_names=True, classes="blue")(images[1]), blue)
    with pytest.raises(ValueError, match=r"must be .* uint8 RGB"):
        Predictor(checkpoint, device="cpu")(images[1] / 255)
    two = Predictor(checkpoint, device="cpu", conf=0.1, classes=["traffic_light", "red"])(images[1])
    assert {one.name for one in two} == {"traffic light", "red"}
    assert_same(Predictor(checkpoint, device="cpu", conf=0.1, all_names=True, max_detections=2)(images[1]), every[:2])
    for settings, message in (
        (
            {"classes": ["trafic light"]},
            "--classes 'trafic light': the detector has no such class; did you mean traf",
        ),
        ({"classes": ["xyzzy"]}, "no such class; it has red, blue, traffic light"),
        ({"conf": 1.5}, "conf must be from 0 to 1, got 1.5"),
        ({"max_detections": 0}, "max_detections must be 1 or more, got 0"),
        ({"batch_size": 0}, "batch_size must be 1 or more, got 0"),
        ({"slice_side": 8}, "slices must be 32 pixels a side or more, got 8"),
    ):
        with pytest.raises(ValueError, match=message):
            Predictor(checkpoint, device="cpu", **settings)


def test_names_hide_no_other_name_and_the_image_stays_as_it_is():
    image = np.full((400, 600, 3), 90, np.uint8)
    crowd = [Found((200.0 + i, 150.0, 260.0 + i, 200.0), 0.9 - i / 100, "kite") for i in range(30)]
    one, many = draw(image, crowd[:1]), draw(image, crowd)
    assert (image == 90).all() and one.shape == image.shape
    label = (one[:148] != 90).any(axis=2)  # all that is above the box
    assert 300 < label.sum() < 3000
    assert (many[:148][label] == one[:148][label]).all()  # the name of the best is still whole
    assert (many[210:] != 90).any()  # others stand below
    assert (draw(image, []) == 90).all()
    for side in (320, 640, 1280):  # a page shows each about 400 pixels wide
        plain = np.full((side, side, 3), 90, np.uint8)
        row = draw(plain, [Found((side * 0.3, side * 0.3, side * 0.6, side * 0.9), 0.5, "x")])[side // 2]
        difference = np.abs(row[: side // 2].astype(int) - 90).sum(axis=1)
        assert side / 320 <= (difference > difference.max() / 2).sum() <= side / 320 + 1
    edge = draw(image, [Found((580.0, 0.0, 599.0, 30.0), 0.5, "traffic light")])
    assert (edge[:, 480:560] != 90).any()  # moved into the picture


def test_pycocotools_reads_what_is_written(checkpoint, tiny_coco, tmp_path):
    """The numbers of the predictions of tiny_coco's val split are those that eval.py gets."""
    out = tmp_path / "out"
    run("--checkpoint", checkpoint, "--source", tiny_coco / "val", "--conf", 0.01, "--out", out, "--save")
    assert sorted(path.name for path in out.iterdir()) == ["images.json", "predictions.csv", "predictions.json"]
    truth = COCO(str(tiny_coco / "annotations/instances_val.json"))
    found = truth.loadRes(str(out / "predictions.json"))  # 001.png is image 1
    referee = COCOeval(truth, found, "bbox")
    referee.evaluate()
    assert sum(len(one["dtIds"]) for one in referee.evalImgs if one) > 10
    ours = COCO(str(out / "images.json"))
    assert ours.loadRes(str(out / "predictions.json")).getImgIds() == [1, 2, 3, 4]
    assert [ours.cats[i]["name"] for i in (3, 7, 10)] == NAMES
    assert ours.imgs[2] == {"id": 2, "file_name": "002.png", "width": 96, "height": 64}
    image = read_image(tiny_coco / "val/002.png")
    expected = Predictor(checkpoint, device="cpu", conf=0.01)(image)
    results = [one for one in json.loads((out / "predictions.json").read_text()) if one["file_name"] == "002.png"]
    rows = [row for row in rows_of(out / "predictions.csv") if row["file"].endswith("002.png")]
    assert len(results) == len(rows) == len(expected)
    for result, row, (box, score, name) in zip(results, rows, expected, strict=True):
        assert (ours.cats[result["category_id"]]["name"], row["class"]) == (name, name)
        x, y, w, h = result["bbox"]
        assert (x, y, x + w, y + h) == pytest.approx(box, abs=0.02)
        assert [float(row[key]) for key in ("x0", "y0", "x1", "y1")] == pytest.approx(box, abs=0.06)
        assert result["score"] == pytest.approx(score, abs=1e-4) == float(row["score"])


def test_a_folder_with_a_video_and_a_broken_photo(checkpoint, tmp_path, capsys):
    photos = tmp_path / "my phötos"
    write_photo(photos / "a b/ü.jpg", height=80, width=120)
    write_photo(photos / "7.png", height=64, width=64)
    write_video(photos / "clip.avi", num_frames=6)
    (photos / "broken.jpg").write_bytes(b"")
    args = ("--checkpoint", checkpoint, "--source", photos, "--out", tmp_path / "out", "--conf", 0.05)
    line = error_of(capsys, *args, "--save", "pictures", "crops", "--batch-size", 3)
    assert "1 of 4 files not read, or not to the end: image" in line and "broken.jpg is empty (0 bytes)" in line
    out = tmp_path / "out"
    assert read_image(out / "a b/ü.jpg").shape == (80, 120, 3)
    video = cv2.VideoCapture(str(out / "clip.avi.mp4"))
    assert (video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)) == (6, 12.5)
    rows = rows_of(out / "predictions.csv")
    assert list(rows[0]) == "file frame seconds class score x0 y0 x1 y1 problem".split()
    assert {row["frame"] for row in rows if "clip" in row["file"]} == set("012345")
    assert [row["problem"] for row in rows if "broken" in row["file"]] == [
        f"image {photos}/broken.jpg is empty (0 bytes)"
    ]
    about = json.loads((out / "images.json").read_text())["images"]
    assert [image["id"] for image in about] == list(range(1, 9))
    assert [image["file_name"] for image in about] == ["7.png", "a b/ü.jpg", *["clip.avi"] * 6]
    assert about[3] == {"id": 4, "file_name": "clip.avi", "width": 64, "height": 48, "frame": 1, "seconds": 0.08}
    crops = [path.relative_to(out / "crops").as_posix() for path in (out / "crops").rglob("*.jpg")]
    found = json.loads((out / "predictions.json").read_text())
    assert len(crops) == len(found) > 8 and any(name.endswith("/a b/ü.jpg.1.jpg") for name in crops)


def test_crops_of_classes_that_are_no_names_of_folders_stay_in_their_folder(tmp_path):
    frame = Frame("a.jpg", np.zeros((20, 30, 3), np.uint8), path=tmp_path / "a.jpg", relative_path=Path("a.jpg"))
    names = ("..", "../../x", "/x", "a\x1b[2J\nb", "C:\\x", "")
    save_crops(tmp_path / "out/crops", frame, [Found((0, 0, 10, 10), 0.9, name) for name in names])
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and len(list((tmp_path / "out").iterdir())) == 1
    crops = [path.relative_to(tmp_path / "out/crops") for path in (tmp_path / "out/crops").rglob("*.jpg")]
    assert len(crops) == len(names) and all(len(crop.parts) == 2 and str(crop).isprintable() for crop in crops)


def test_a_photo_wider_than_a_jpeg_can_be_loses_nothing(checkpoint, tmp_path):
    wide = np.random.default_rng(0).integers(0, 256, (4, 66_000, 3), dtype=np.uint8)
    for name in ("a.png", "b.tif", "c.png"):
        (tmp_path / name).write_bytes(cv2.imencode(name[1:], wide if name == "b.tif" else wide[:, :90])[1])
    predict(Config(source=str(tmp_path), checkpoint=checkpoint, out=tmp_path / "out", conf=0.0, device="cpu"))
    with (tmp_path / "out/predictions.csv").open() as file:
        found = {Path(row["file"]).name for row in csv.DictReader(file)}
    assert found == {"a.png", "b.tif", "c.png"}
    assert read_image(tmp_path / "out/b.tif.jpg").shape == (3, 65_500, 3)


def test_an_error_in_the_middle_keeps_the_results_before_it(checkpoint, tmp_path, monkeypatch):
    for name in ("a.png", "b.png", "c.png"):
        write_photo(tmp_path / name, height=40, width=60)

    def fail(image: np.ndarray, found: list[Found]) -> np.ndarray:
        drawn.append(image)
        if len(drawn) == 2:
            raise OSError(28, "No space left on device")
        return image

    drawn: list[np.ndarray] = []
    monkeypatch.setattr(predict_script, "draw", fail)
    with pytest.raises(OSError, match="No space left"):
        predict(Config(source=str(tmp_path), checkpoint=checkpoint, out=tmp_path / "out", conf=0.0, device="cpu"))
    with (tmp_path / "out/predictions.csv").open() as file:
        assert {Path(row["file"]).name for row in csv.DictReader(file)} == {"a.png", "b.png"}
    assert (tmp_path / "out/predictions.json").stat().st_size > 10 and (tmp_path / "out/a.png").exists()


def test_image_ids_count_where_names_are_no_numbers_or_alike(checkpoint, tmp_path):
    def ids(*names: str) -> list[int]:
        folder = tmp_path / "-".join(names).replace("/", "_")
        for name in names:
            write_photo(folder / name)
        run("--checkpoint", checkpoint, "--source", folder, "--out", tmp_path / "out", "--save")
        return [image["id"] for image in json.loads((tmp_path / "out/images.json").read_text())["images"]]

    assert ids("000000000139.jpg", "000000397133.jpg") == [139, 397133]
    assert ids("12.jpg", "a.jpg") == [1, 2]
    assert ids("a/12.jpg", "b/012.jpg") == [1, 2]


def test_what_cannot_be_is_one_line(checkpoint, tmp_path, capsys):
    write_photo(tmp_path / "photos/a.jpg")
    good = ("--checkpoint", checkpoint, "--source", tmp_path / "photos", "--out", tmp_path / "out")
    assert "did you mean traffic light?" in error_of(capsys, *good, "--classes", "trafficlights")
    assert "--slice-overlap is for --slice" in error_of(capsys, *good, "--slice-overlap", 0.3)
    for useless in (("--weights", "coco-a100"), ("--weights", "coco"), ("--backbone", "a075")):  # also as by default
        assert "give --checkpoint RUN/best, or --weights" in error_of(capsys, *good, *useless)
    assert "every must be 1" in error_of(capsys, *good, "--every", 0)
    line = error_of(capsys, *good[:4], "--out", tmp_path / "photos")
    assert "the drawn a.jpg would replace its source; give another folder" in line
    (tmp_path / "photos/a.jpg").write_bytes(b"no photo")
    assert "1 of 1 photos skipped: image" in error_of(capsys, *good)
    assert "nowhere: there is no such file" in error_of(capsys, "--source", tmp_path / "nowhere")
    assert "camera 97 cannot be opened" in error_of(capsys, "--source", 97)


class Camera:
    """Gives three pictures."""

    def __init__(self) -> None:
        self.left = 3

    def get(self, key: int) -> float:
        return 5.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        time.sleep(0.2)
        return (True, np.full((48, 64, 3), 90, np.uint8)) if self.left >= 0 else (False, None)

    def release(self) -> None:
        pass


@pytest.fixture
def camera(monkeypatch) -> None:
    monkeypatch.setattr("apps.common.media.sources.open_camera", lambda number: Camera())
    monkeypatch.setattr("apps.common.media.sinks.has_display", lambda: False)


def test_a_camera_without_a_display_says_what_to_do(checkpoint, camera, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = error_of(capsys, "--checkpoint", checkpoint, "--source", 0)
    assert "no display to show the camera on: use `python demos/detection.py` in a browser, or record" in line
    line = error_of(capsys, "--checkpoint", checkpoint, "--source", 0, "--out", tmp_path / "out", "--conf", 0.05)
    assert line.endswith("error: camera 0 gives no more pictures")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names[1:] == ["images.json", "predictions.csv", "predictions.json"]
    assert names[0].startswith("camera-0-") and names[0].endswith(".mp4")
    assert cv2.VideoCapture(str(tmp_path / "out" / names[0])).read()[1].shape == (48, 64, 3)
    assert {row["file"] for row in rows_of(tmp_path / "out/predictions.csv")} == {"camera 0"}


@pytest.mark.skipif(sys.platform == "win32", reason="signals of a process are POSIX's")
def test_ctrl_c_keeps_what_was_written_whole(checkpoint, tmp_path):
    """A list that does not end: stopped after the first photos, the results of these are there."""
    photo, out = write_photo(tmp_path / "a.png"), tmp_path / "out"
    command = [sys.executable, predict_script.__file__, "--checkpoint", checkpoint, "--source", "-", "--out", out]
    command += ["--batch-size", "1", "--conf", "0.05", "--runtime", "torch", "--threads", "1"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(
        [str(part) for part in command],
        **pipes,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    process.stdin.write(f"{photo}\n".encode() * 3)
    process.stdin.flush()
    said = [process.stdout.readline().decode() for _ in range(3)]
    assert all(line.startswith(f"{photo}: ") for line in said)
    os.kill(process.pid, signal.SIGINT)
    printed, errors = (text.decode() for text in process.communicate(timeout=120))
    assert (process.returncode, errors.strip()) == (130, "stopped")
    assert f"results are in {out}" in printed
    assert len(json.loads((out / "images.json").read_text())["images"]) == 3
    files = [path for path in out.rglob("*") if path.is_file()]
    assert sorted(path.name for path in files if path.suffix != ".png") == [
        *("images.json", "predictions.csv", "predictions.json")
    ]


def test_a_stop_in_a_video_keeps_the_frames_until_then(checkpoint, tmp_path, monkeypatch, capsys):
    source = write_video(tmp_path / "clip.avi", num_frames=10)
    read_video = frames_module.read_video

    def stopped(*args, **options):
        for frame in read_video(*args, **options):
            if frame.number == 6:
                raise KeyboardInterrupt
            yield frame

    monkeypatch.setattr(frames_module, "read_video", stopped)
    with pytest.raises(SystemExit) as stop:
        run("--checkpoint", checkpoint, "--source", source, "--out", tmp_path / "out", "--batch-size", 2)
    assert stop.value.code == 130
    assert cv2.VideoCapture(str(tmp_path / "out/clip.avi.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 6
    assert len(json.loads((tmp_path / "out/images.json").read_text())["images"]) == 6
    assert "clip.avi: 6 frames; in all of them" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [[], ["--precision", "auto"]])
def test_the_precision_that_is_asked_for_is_what_the_runtime_is_given(checkpoint, tmp_path, monkeypatch, flags):
    given: dict[str, object] = {}

    def start(model, runtime, **options):
        given.update(options)
        return model.torch_session()

    monkeypatch.setattr("apps.detection.predict.start_session", start)
    write_photo(tmp_path / "a.png")
    run("--checkpoint", checkpoint, "--source", tmp_path / "a.png", "--out", tmp_path / "out", *flags)
    assert given["precision"] == (flags[1] if flags else "float32")


def test_what_is_found_becomes_a_data_set(checkpoint, images, tmp_path, capsys):
    for i, image in enumerate(images[:3]):
        Image.fromarray(image).save(write_photo(tmp_path / f"photos/{i}.png"))
    given = [tmp_path / "photos", "--checkpoint", checkpoint, "--conf", "0.2", "--save", "--device", "cpu"]
    run(*given, "--out", tmp_path / "out", "--save-as", "coco", "--classes", "blue", "red")
    results = COCO(tmp_path / "out/images.json").loadRes(str(tmp_path / "out/predictions.json")).dataset["annotations"]
    split = load_split(tmp_path / "out/dataset", "train", val_fraction=0)
    assert (split.class_names, split.category_ids) == (["red", "blue"], [3, 7])
    for record, image in zip(split.records, images, strict=False):
        mine = [one for one in results if one["image_id"] == int(record.path.stem)]
        assert [split.category_ids[k - 1] for k in record.labels] == [one["category_id"] for one in mine]
        found = record.boxes_xyxy_px - np.tile(record.boxes_xyxy_px[:, :2], 2) * [0, 0, 1, 1]
        np.testing.assert_allclose(found, [one["bbox"] for one in mine], atol=0.02)
        assert (record.height, record.width) == image.shape[:2]
    assert sum(len(record.labels) for record in split.records) > 5
    line = error_of(capsys, *given, "--out", tmp_path / "out", "--save-as", "yolo")
    assert "out/dataset is there, perhaps with corrected labels" in line
    write_photo(tmp_path / "out/dataset/images/new.png")
    run(tmp_path / "out/dataset", *given[1:], "--out", tmp_path / "more", "--save-as", "voc", "--only-unlabelled")
    assert "3 of 4 photos have labels" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "more/dataset/Annotations").iterdir()] == ["new.xml"]


def test_data_sets_are_of_photos(checkpoint, tmp_path, capsys):
    given = [write_video(tmp_path / "clip.avi", num_frames=1), "--checkpoint", checkpoint, "--out", tmp_path / "out"]
    assert "--save-as is for photos: " in (line := error_of(capsys, *given, "--save-as", "voc"))
    assert "clip.avi is a video" in line
    line = error_of(capsys, write_photo(tmp_path / "a.png"), *given[1:], "--only-unlabelled")
    assert "--only-unlabelled needs the folder of a data set as source" in line
    assert not (tmp_path / "out").exists()
