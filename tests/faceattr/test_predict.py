import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from apps.common.cli import run_command
from apps.common.images import read_image, stack_images
from apps.faceattr import predict as predict_script
from apps.faceattr.data.load import load_splits
from apps.faceattr.data.sensitive import is_sensitive, shown
from apps.faceattr.model.face_finder import Face, crop_face
from apps.faceattr.model.tagger import Tagger
from apps.faceattr.predict import Config, FaceAttributes, Predictor, draw, predict
from tests.common.media_files import write_photo, write_video
from tests.faceattr.blob_faces import ATTRIBUTES, SIDE, crops_of, draw_faces, save_tagger

CELEBA = """
    5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair
    Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup
    High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose
    Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat
    Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young
""".split()
BOXES = [(10.0, 12.0, 58.0, 60.0), (70.0, -8.0, 110.0, 40.0)]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("predict")
    draw_faces(root / "my faces", each=6, splits=("val",))
    save_tagger(root / "best")
    return root


@pytest.fixture
def two_faces(monkeypatch) -> None:
    """A finder that knows where two faces are in any photo but a black one."""

    class Finder:
        def __init__(self, model: Path | None) -> None:
            pass

        def __call__(self, image: np.ndarray) -> list[Face]:
            return [Face(box, 0.9, ()) for box in BOXES] if image.any() else []

    monkeypatch.setattr(predict_script, "FaceFinder", Finder)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def photo_with_faces(place: Path) -> np.ndarray:
    image = np.random.default_rng(0).integers(60, 90, (80, 130, 3), dtype=np.uint8)
    crops = crops_of(place / "my faces", "val")
    image[12:60, 10:58] = crops[0]
    image[0:40, 70:110] = crops[1][8:, 4:44]
    return image


def test_sensitive_attributes_of_celeba():
    hidden = [name for name in CELEBA if is_sensitive(name)]
    assert len(CELEBA) == 40
    assert hidden == [
        *("Attractive", "Bags_Under_Eyes", "Big_Lips", "Big_Nose", "Chubby", "Double_Chin", "Male", "Narrow_Eyes"),
        *("Oval_Face", "Pale_Skin", "Pointy_Nose", "Young"),
    ]
    assert shown(CELEBA, False) == [name for name in CELEBA if name not in hidden]
    assert shown(CELEBA, True) == CELEBA


@pytest.mark.parametrize("name", ["Child", "senior", "Middle Aged", "attractive-woman", "East_Asian", "Black", "SEX"])
def test_sensitive_words_in_any_spelling(name):
    assert is_sensitive(name)


@pytest.mark.parametrize("name", ["Black_Hair", "Gray_Hair", "Smiling", "Bandage", "Mantilla", "Old_Glasses", ""])
def test_other_words_are_not(name):
    assert not is_sensitive(name)


def test_each_face_is_cropped_and_told_at_once(place, two_faces):
    image = photo_with_faces(place)
    predictor = Predictor(place / "best", device="cpu", show_sensitive=True, margin=0.1)
    first, second = predictor(image)
    assert (first.box_xyxy_px, second.box_xyxy_px) == tuple(BOXES)
    crops = [crop_face(image, box, margin=0.1, resolution=SIDE) for box in BOXES]
    probs = Tagger.load(place / "best", device=torch.device("cpu")).probs(stack_images(crops))
    for face, row in zip((first, second), probs.tolist(), strict=True):
        assert list(face.probs) == ATTRIBUTES
        assert list(face.probs.values()) == pytest.approx(row, abs=1e-5)
    assert predictor(np.zeros_like(image)) == []


def test_present_is_from_the_threshold_on_and_most_probable_first(place, two_faces):
    predictor = Predictor(place / "best", device="cpu", show_sensitive=True)
    image = photo_with_faces(place)
    probs = predictor(image)[0].probs
    predictor.tagger.thresholds = [0.0] * 4
    assert predictor(image)[0].present == sorted(ATTRIBUTES, key=lambda name: -probs[name])
    limits = [probs[name] + (0.001 if name == "Hat" else -0.001) for name in ATTRIBUTES]
    predictor.tagger.thresholds = limits
    face = predictor(image)[0]
    assert set(face.present) == set(ATTRIBUTES) - {"Hat"}
    assert str(face).startswith(f"appears {face.present[0]} {probs[face.present[0]]:.2f}, ")
    predictor.tagger.thresholds = [1.01] * 4
    assert str(predictor(image)[0]) == "appears to have none of 4 attributes"


def test_the_sensitive_is_hidden_unless_asked_for(place, two_faces):
    predictor = Predictor(place / "best", device="cpu")
    predictor.tagger.thresholds = [0.0] * 4
    face = predictor(photo_with_faces(place))[0]
    assert predictor.hidden == ["Male"]
    assert list(face.probs) == ATTRIBUTES[:3]
    assert "Male" not in face.present and "Male" not in str(face)


def test_a_whole_crop_needs_no_finder(place, monkeypatch):
    def missing(model: Path | None) -> None:
        raise AssertionError("it was asked for")

    monkeypatch.setattr(predict_script, "FaceFinder", missing)
    predictor = Predictor(place / "best", device="cpu", whole=True, show_sensitive=True)
    crop = crops_of(place / "my faces", "val")[0]
    (face,) = predictor(crop)
    assert face.box_xyxy_px == (0, 0, SIDE, SIDE)
    assert list(face.probs.values()) == pytest.approx(predictor.tagger.probs(stack_images([crop]))[0].tolist())
    with pytest.raises(ValueError, match=r"must be .* uint8 RGB"):
        predictor(crop[..., 0])
    (wide,) = predictor(cv2.copyMakeBorder(crop, 0, 0, 9, 9, cv2.BORDER_CONSTANT))  # its central square
    assert list(wide.probs.values()) == pytest.approx(list(face.probs.values()))


def test_words_stand_beside_faces_and_hide_none():
    image = np.full((300, 400, 3), 120, np.uint8)
    names = [f"Attribute_{i}" for i in range(12)]
    faces = [
        FaceAttributes((150.0, 100.0, 210.0, 170.0), dict.fromkeys(names, 0.9), names[:3]),
        FaceAttributes((330.0, 20.0, 390.0, 90.0), dict.fromkeys(names, 0.9), names[:1]),
        FaceAttributes((-20.0, 250.0, 40.0, 320.0), dict.fromkeys(names, 0.1), []),
    ]
    picture = draw(image, faces)
    assert picture.shape == (600, 800, 3)  # enlarged, so that it can be read
    assert (image == 120).all()
    for face in faces:
        x0, y0, x1, y1 = (round(2 * v) for v in face.box_xyxy_px)
        inside = picture[max(0, y0) + 6 : y1 - 6, max(0, x0) + 6 : x1 - 6]
        assert (inside == 120).all()
    assert (picture != 120).any(axis=2).mean() > 0.03
    assert (draw(image, []) == 120).all()
    large = np.zeros((2000, 1000, 3), np.uint8)
    assert draw(large, faces).shape == large.shape and not large.any()
    crowded = FaceAttributes((0.0, 0.0, 400.0, 300.0), dict.fromkeys(names, 0.9), names)
    assert draw(image, [crowded]).shape == picture.shape


def test_a_folder_gives_pictures_and_a_csv(place, two_faces, tmp_path, capsys):
    photos = tmp_path / "my photos"
    photos.mkdir()
    cv2.imwrite(str(photos / "a.png"), photo_with_faces(place))
    cv2.imwrite(str(photos / "b.png"), np.zeros((50, 60, 3), np.uint8))
    args = ["--checkpoint", str(place / "best"), "--source", str(photos), "--out", str(tmp_path / "out of it")]
    run_command(predict, Config, args)
    rows = rows_of(tmp_path / "out of it/faces.csv")
    assert list(rows[0]) == ["file", "face", "x0", "y0", "x1", "y1", "appears", *ATTRIBUTES[:3], "problem"]
    assert [(Path(row["file"]).name, row["face"]) for row in rows] == [("a.png", "1"), ("a.png", "2"), ("b.png", "0")]
    assert [float(rows[1][name]) for name in ("x0", "y0", "x1", "y1")] == list(BOXES[1])
    assert all(0 <= float(rows[0][name]) <= 1 for name in ATTRIBUTES[:3]) and rows[2]["Hat"] == ""
    assert read_image(tmp_path / "out of it/a.png.faces.jpg").shape == (492, 800, 3)
    assert (tmp_path / "out of it/b.png.faces.jpg").exists()
    said = capsys.readouterr().out
    assert "hidden as sensitive: Male (--show-sensitive says them)" in said
    assert "a.png: face 1, 48 x 48 pixels at 10, 12, appears " in said
    assert "b.png: no face found" in said
    assert "2 faces in 2 photos" in said


def test_broken_photos_do_not_stop_the_others(place, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    good = (place / "my faces/images/val 00.png").read_bytes()
    for name, data in (("a.png", good), ("b.png", good[:200]), ("c.png", b""), ("d.png", good)):
        (photos / name).write_bytes(data)
    flags = ["--checkpoint", str(place / "best"), "--source", str(photos), "--whole", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stop:
        run_command(predict, Config, flags)
    assert stop.value.code == 2
    rows = rows_of(tmp_path / "out/faces.csv")
    assert [bool(row["problem"]) for row in rows] == [False, True, True, False]
    assert [bool(row["Hat"]) for row in rows] == [True, False, False, True]
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert "2 of 4 photos skipped" in line and "b.png is truncated" in line and "c.png is empty" in line
    assert "b.png: skipped" in said.out


def test_wrong_input_is_one_line(place, two_faces, tmp_path):
    with pytest.raises(ValueError, match="--margin and --face-model are for finding faces"):
        predict(Config(checkpoint=place / "best", source=place, whole=True, margin=0.3))
    with pytest.raises(ValueError, match=r"margin must be 0 .* or more, got -1"):
        Predictor(place / "best", margin=-1)
    with pytest.raises(ValueError, match="nowhere"):
        predict(Config(checkpoint=place / "best", source=Path("nowhere"), device="cpu", out=tmp_path))
    with pytest.raises(ValueError, match="nowhere does not exist"):
        Predictor("nowhere")


def test_real_photos_from_end_to_end(place, shared):
    predictor = Predictor(place / "best", device="cpu")
    assert len(predictor(read_image(shared / "data/photos/face.jpg"))) == 4
    assert len(predictor(read_image(shared / "data/photos/grace_hopper.jpg"))) == 1
    assert predictor(read_image(shared / "data/photos/pets.jpg")) == []


def test_a_video_is_drawn_frame_by_frame_with_a_row_for_each_face(place, two_faces, tmp_path, capsys):
    clip, out = tmp_path / "ein clip ü.avi", tmp_path / "out"
    write_video(clip, num_frames=4, width=128, height=96)
    args = ["--checkpoint", str(place / "best"), "--source", str(clip), "--out", str(out)]
    run_command(predict, Config, args)
    rows = rows_of(out / "faces.csv")
    assert [(row["frame"], row["face"]) for row in rows] == [(str(i), face) for i in range(4) for face in "12"]
    assert [float(rows[3][name]) for name in ("x0", "y0", "x1", "y1")] == list(BOXES[1])
    video = cv2.VideoCapture(str(out / "ein clip ü.avi.faces.mp4"))
    assert (video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)) == (4, 12.5)
    assert video.read()[1].shape == (600, 800, 3)
    said = capsys.readouterr().out
    assert f"{clip}: 4 frames; in all of them 8 faces" in said and "8 faces in 4 frames; faces.csv" in said
    assert "face 1" not in said


def test_a_camera_without_a_display_says_where_to_look(place, monkeypatch):
    monkeypatch.setattr("apps.common.media.sources.open_camera", lambda number: object())
    monkeypatch.setattr("apps.common.media.sinks.has_display", lambda: False)
    with pytest.raises(ValueError, match=r"use `python demos/faceattr.py` in a browser, or record with --out"):
        predict(Config(checkpoint=place / "best", source="0", device="cpu"))


@pytest.mark.parametrize("flags", [[], ["--precision", "auto"]])
def test_the_precision_that_is_asked_for_is_what_the_runtime_is_given(place, tmp_path, monkeypatch, flags):
    given: dict[str, object] = {}

    def start(model, runtime, **options):
        given.update(options)
        return model.torch_session()

    monkeypatch.setattr("apps.faceattr.predict.start_session", start)
    write_photo(tmp_path / "a.png")
    args = ["--checkpoint", str(place / "best"), "--source", str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    run_command(predict, Config, [*args, "--whole", *flags])
    assert given["precision"] == (flags[1] if flags else "float32")


def test_what_is_seen_on_photos_without_labels_is_read_for_training(place, tmp_path, capsys):
    """A photo that the table does not have, and one of which it knows nothing; sensitive attributes are not written."""
    root, out = draw_faces(tmp_path / "set", each=4, splits=("train",)), tmp_path / "out"
    table = root / "attributes.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    lines[1] = ",".join(["train 00.png", *[""] * 4, "train", "a"])
    table.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")  # without train 03.png
    given = [str(root), "--checkpoint", str(place / "best"), "--out", str(out), "--only-unlabelled", "--save-as", "csv"]
    run_command(predict, Config, [*given, "--whole"])
    assert "2 of 4 photos have labels and are left out" in capsys.readouterr().out
    (split,) = load_splits([out / "attributes.csv"], ["train"], val_fraction=0, test_fraction=0)
    assert [path.name for path in split.paths] == ["train 00.png", "train 03.png"]
    assert split.attributes == ATTRIBUTES[:3]
    appears = [row["appears"].split("; ") for row in rows_of(out / "faces.csv")]
    assert split.labels.tolist() == [[int(name in names) for name in ATTRIBUTES[:3]] for names in appears]
    for flags, message in ((["--whole"], "perhaps with corrected labels"), ([], "--save-as needs --whole")):
        with pytest.raises(SystemExit) as stop:
            run_command(predict, Config, [*(given if flags else [*given[:3], *given[5:]]), *flags])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
