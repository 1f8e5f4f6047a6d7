import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from apps.common.cli import run_command
from apps.common.data.tables import write_csv
from apps.common.images import read_image
from apps.finegrained.data.load import load_split
from apps.finegrained.predict import Config, Predictor, predict
from apps.finegrained.results import Guess, Guesses, write_labels
from tests.common.media_files import write_photo, write_video
from tests.finegrained.tiny_fruit import COLOURS, draw_fruit, save_classifier


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("fruit")
    draw_fruit(root, "train", each=4)
    save_classifier(root / "best", root / "train")
    photos = root / "my photos"
    photos.mkdir()
    for i, path in enumerate(sorted((root / "train").rglob("*.png"))):
        (photos / f"{i:02d}.png").write_bytes(path.read_bytes())
    return root


@pytest.fixture
def predictor(place) -> Predictor:
    return Predictor(place / "best", device="cpu")


def images_of(place: Path) -> list[np.ndarray]:
    return [read_image(path) for path in sorted((place / "my photos").iterdir())]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_guesses_are_probabilities_best_first(place, predictor):
    guesses = predictor(images_of(place)[0])
    assert isinstance(guesses, list) and len(guesses) == 3  # all there are
    assert {name for name, _ in guesses} == set(COLOURS)
    probs = [guess.prob for guess in guesses]
    assert probs == sorted(probs, reverse=True)
    assert sum(probs) == pytest.approx(1)
    assert guesses[0].name == "aki"
    with pytest.raises(ValueError, match=r"must be .* uint8 RGB"):
        predictor(images_of(place)[0][..., 0])
    assert len(Predictor(place / "best", device="cpu", top=2)(images_of(place)[0])) == 2


def test_a_batch_is_the_photos_one_by_one_of_any_size(place, predictor):
    images = [*images_of(place)[::3], np.full((333, 70, 3), 128, np.uint8)]
    together = predictor.batch(images)
    for guesses, image in zip(together, images, strict=True):
        alone = predictor(image)
        assert [g.name for g in guesses] == [g.name for g in alone]
        assert [g.prob for g in guesses] == pytest.approx([g.prob for g in alone], abs=1e-3)
        assert guesses.score == pytest.approx(alone.score, abs=1e-2)
    assert predictor.batch([]) == []


def test_probabilities_are_calibrated_and_the_score_is_not(place, predictor):
    image = images_of(place)[0]
    plain = predictor(image)
    predictor.classifier.temperature = 2.0
    softer = predictor(image)
    roots = np.sqrt([g.prob for g in plain])  # halving the logits
    assert [g.prob for g in softer] == pytest.approx((roots / roots.sum()).tolist(), rel=1e-4)
    assert softer.score == plain.score


def test_none_of_these_is_a_score_below_the_threshold(place, predictor):
    image = images_of(place)[0]
    guesses = predictor(image)
    assert guesses.is_unknown is None
    predictor.classifier.unknown_threshold = guesses.score
    assert predictor(image).is_unknown is False
    predictor.classifier.unknown_threshold = guesses.score + 0.01
    unknown = predictor(image)
    assert unknown.is_unknown is True
    assert str(unknown).startswith("none of the classes; nearest are aki 0.")


def test_the_picture_is_of_the_asked_class(place, predictor):
    image = images_of(place)[0]
    best = predictor.explain(image)
    assert best.shape == (384, 384, 3) and best.dtype == np.uint8
    assert (best == predictor.explain(image, "aki")).all()
    assert (best != predictor.explain(image, "céru")).any()
    with pytest.raises(ValueError, match="no class 'kiwi'"):
        predictor.explain(image, "kiwi")


def test_a_folder_gives_a_csv_and_pictures(place, tmp_path, capsys):
    out = tmp_path / "out of it"
    args = ["--checkpoint", str(place / "best"), "--source", str(place / "my photos"), "--out", str(out), "--cam"]
    run_command(predict, Config, [*args, "--top", "2"])
    rows = rows_of(out / "guesses.csv")
    assert [Path(row["file"]).name for row in rows] == [f"{i:02d}.png" for i in range(12)]
    assert list(rows[0]) == ["file", "class1", "prob1", "class2", "prob2", "score", "none_of_these", "problem"]
    assert [row["class1"] for row in rows] == [name for name in COLOURS for _ in range(4)]
    assert cv2.imread(str(out / "00.png.cam.jpg")).shape == (384, 384, 3)
    assert len(list(out.iterdir())) == 13
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 13
    assert f"00.png: aki {float(rows[0]['prob1']):.2f}, " in said[0]


def test_broken_photos_do_not_stop_the_others(place, tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    good = (place / "my photos/00.png").read_bytes()
    for i in range(11):  # more than a batch
        (folder / f"{i:02d}.png").write_bytes(good)
    (folder / "03.png").write_bytes(good[: len(good) // 2])
    (folder / "10.png").write_bytes(b"")
    with pytest.raises(SystemExit) as stop:
        run_command(
            predict, Config, ["--checkpoint", str(place / "best"), "--source", str(folder), "--out", str(tmp_path)]
        )
    assert stop.value.code == 2
    rows = rows_of(tmp_path / "guesses.csv")
    assert len(rows) == 11
    assert [i for i, row in enumerate(rows) if row["problem"]] == [3, 10]
    assert [i for i, row in enumerate(rows) if not row["class1"]] == [3, 10]
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert "2 of 11 photos skipped" in line
    assert "03.png is truncated" in line and "10.png is empty" in line
    assert "03.png: skipped" in said.out


def test_wrong_input_is_one_line(place, tmp_path):
    with pytest.raises(ValueError, match="top must be 1 or more, got 0"):
        Predictor(place / "best", top=0)
    with pytest.raises(ValueError, match="nowhere"):
        predict(Config(checkpoint=place / "best", source=Path("nowhere"), device="cpu", out=tmp_path))
    with pytest.raises(ValueError, match="nowhere does not exist"):
        Predictor("nowhere")


def test_a_video_has_the_guesses_on_it_and_a_row_for_each_frame(place, tmp_path, capsys):
    clip, out = tmp_path / "ein clip ü.avi", tmp_path / "out"
    write_video(clip, num_frames=10, width=320, height=240)
    args = ["--checkpoint", str(place / "best"), "--source", str(clip), "--out", str(out), "--every", "2"]
    run_command(predict, Config, args)
    rows = rows_of(out / "guesses.csv")
    assert list(rows[0])[:4] == ["file", "frame", "seconds", "class1"]
    assert [(row["frame"], row["seconds"]) for row in rows[:2]] == [("0", "0.000"), ("2", "0.160")]
    assert len(rows) == 5 and all(row["class1"] in COLOURS for row in rows)
    video = cv2.VideoCapture(str(out / "ein clip ü.avi.mp4"))
    assert (video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)) == (5, 6.25)
    frame = video.read()[1]
    assert frame.shape == (240, 320, 3)
    assert abs(int(frame[200, 200, 0]) - 10) < 10 and frame[2:30, 2:30].mean() > 150  # words on white paper
    said = capsys.readouterr().out
    counted = sum(row["class1"] == rows[0]["class1"] for row in rows)
    assert f"{clip}: 5 frames; in all of them " in said and f"{counted} {rows[0]['class1']}" in said
    assert f"guesses.csv and pictures are in {out}" in said
    run_command(predict, Config, [*args, "--cam"])
    explained = cv2.VideoCapture(str(out / "ein clip ü.avi.cam.mp4"))
    assert explained.read()[1].shape == (384, 384, 3)


def test_a_camera_without_a_display_says_where_to_look(place, monkeypatch, tmp_path):
    monkeypatch.setattr("apps.common.media.sources.open_camera", lambda number: object())
    monkeypatch.setattr("apps.common.media.sinks.has_display", lambda: False)
    with pytest.raises(ValueError, match=r"use `python demos/finegrained.py` in a browser, or record with --out"):
        predict(Config(checkpoint=place / "best", source="0", device="cpu"))


@pytest.mark.parametrize("flags", [[], ["--precision", "auto"]])
def test_the_precision_that_is_asked_for_is_what_the_runtime_is_given(place, tmp_path, monkeypatch, flags):
    given: dict[str, object] = {}

    def start(model, runtime, **options):
        given.update(options)
        return model.torch_session()

    monkeypatch.setattr("apps.finegrained.predict.start_session", start)
    write_photo(tmp_path / "a.png")
    args = ["--checkpoint", str(place / "best"), "--source", str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    run_command(predict, Config, [*args, *flags])
    assert given["precision"] == (flags[1] if flags else "float32")


def test_guesses_become_labels_that_are_read_for_training(place, tmp_path, capsys):
    out = tmp_path / "a folder"
    given = [str(place / "my photos"), "--checkpoint", str(place / "best"), "--out", str(out), "--save-as", "csv"]
    run_command(predict, Config, given)
    split = load_split(out / "labels.csv", "train", val_fraction=0)
    guessed = {Path(row["file"]).name: row["class1"] for row in rows_of(out / "guesses.csv")}
    assert {photo.path.name: split.class_names[photo.label] for photo in split.photos} == guessed
    assert len(guessed) == 12
    video = write_video(tmp_path / "clip.avi", num_frames=1)
    with pytest.raises(SystemExit) as stop:
        run_command(predict, Config, [str(video), *given[1:]])
    assert stop.value.code == 2
    assert "--save-as is for photos: " in capsys.readouterr().err


def test_labels_that_may_be_corrected_are_not_written_over(place, tmp_path, capsys):
    (tmp_path / "labels.csv").write_text("file,label\nmine.jpg,aki\n")
    given = [str(place / "my photos"), "--checkpoint", str(place / "best"), "--out", str(tmp_path), "--save-as", "csv"]
    with pytest.raises(SystemExit) as stop:
        run_command(predict, Config, given)
    assert stop.value.code == 2
    assert "labels.csv is there, perhaps with corrected labels" in capsys.readouterr().err
    assert "mine.jpg" in (tmp_path / "labels.csv").read_text()


@pytest.mark.parametrize("layout", ["folders", "table"])
def test_only_photos_without_a_label_are_classified(place, tmp_path, capsys, layout):
    """Those outside of class folders, or with no label in the table."""
    root = tmp_path / "set"
    draw_fruit(root, "train", each=2)
    new = ["inbox.png", "train/inbox.png"]
    for name in new:
        (root / name).write_bytes((place / "my photos/00.png").read_bytes())
    if layout == "table":
        (root / "train").rename(root / "photos")
        photos = [path.relative_to(root) for path in sorted((root / "photos").glob("*/*.png"))]
        rows = [[photos[0], ""], *([path, path.parent.name] for path in photos[1:])]
        new = [new[0], str(photos[0]), "photos/inbox.png"]
        write_csv(root / "labels.csv", ["file", "label"], rows)
    out = tmp_path / "out"
    given = [str(root), "--checkpoint", str(place / "best"), "--out", str(out), "--save-as", "csv", "--only-unlabelled"]
    run_command(predict, Config, given)
    assert f"{6 - (layout == 'table')} of 8 photos have labels and are left out" in capsys.readouterr().out
    assert [row["file"] for row in rows_of(out / "labels.csv")] == [f"../set/{name}" for name in sorted(new)]


def test_photos_of_none_of_the_classes_have_no_label(tmp_path, capsys):
    guesses = [Guesses([Guess("=1+1", 0.9)], score=1.0, is_unknown=unknown) for unknown in (False, True, None)]
    write_labels(tmp_path / "labels.csv", [(tmp_path / f"{i}.jpg", one) for i, one in enumerate(guesses)])
    assert (tmp_path / "labels.csv").read_text().splitlines() == ["file,label", "0.jpg,=1+1", "2.jpg,=1+1"]
    assert "is without 1 of 3 photos" in capsys.readouterr().out
