"""The page of an evaluation."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from apps.common.evaluation.intervals import Figures
from apps.detection.data.coco_split import CocoSplit
from apps.detection.evaluation.analysis import analyse
from apps.detection.evaluation.metrics import run_cocoeval, summarise
from apps.detection.evaluation.report import (
    CROWD,
    MISSED,
    RIGHT,
    SIDE,
    TRUTH,
    WRONG,
    curves_figure,
    draw_outcomes,
    errors_figure,
    write_report,
)
from apps.detection.evaluation.resampling import ap_measure
from tests.detection.evaluation.test_errors import FAR, NOWHERE, SHIFTED, A, Rows, box, make_split

OBJECTS = [
    *(box(3, A), box(7, FAR), box(9, [40, 0, 20, 30], crowd=1)),
    *(box(3, A, image=2), box(9, FAR, image=2), box(9, [0, 60, 15, 30], image=2)),
]
FOUND = [
    box(3, [0, 0, 19, 20], score=0.9),
    box(9, FAR, score=0.8),
    box(3, NOWHERE, score=0.7),
    box(3, A, score=0.9, image=2),
    box(9, [60, 60, 18, 20], score=0.6, image=2),
    box(9, [0, 66, 15, 20], score=0.55, image=2),
    box(9, SHIFTED, score=0.1, image=2),
]


def photos(folder: Path, number: int) -> Path:
    for image in range(1, number + 1):
        cv2.imwrite(str(folder / f"{image}.png"), np.full((100, 100, 3), 90, np.uint8))
    return folder


def written(folder: Path, split: CocoSplit, found: Rows) -> str:
    evaluation = run_cocoeval(split, found)
    path = folder / "report.html"
    metrics, analysis = summarise(evaluation), analyse(split, evaluation)
    figures = Figures.of(ap_measure(evaluation), len(split.records))
    write_report(path, model="run & best", split=split, metrics=metrics, analysis=analysis, figures=figures)
    return path.read_text(encoding="utf-8")


def words(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r'base64,[^"]+', "", text)))


@pytest.fixture
def split(tmp_path) -> CocoSplit:
    return make_split(OBJECTS, num_images=3, folder=photos(tmp_path, 3))


def test_the_page_shows_what_went_wrong(split, tmp_path):
    text = written(tmp_path, split, FOUND)
    shown = words(text)
    assert "run &amp; best on val" in text
    assert "A dash (-1 in metrics.json): the split has no such object." in shown  # there are no large ones
    assert "classification 1 0.444" in shown  # class 7 gains 1, class 9 the 1/3 that its wrong first detection costs
    assert "F1 is best, 0.727, where scores from 0.550 on count; precision is 0.667 and recall 0.800 there" in shown
    assert re.findall("<figcaption>(.*?)</figcaption>", text)[-1:] == ["2 wrong, 1 missed: 1.png"]
    assert "1 of 3 photos have errors" in shown
    assert "nan" not in shown.lower().replace("meaning", "")
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)
    assert "<script" not in text


def test_classes_come_worst_first_and_absent_ones_last(split, tmp_path):
    split = make_split(OBJECTS, ids=(5, 3, 7, 9), num_images=3, folder=tmp_path)
    text = written(tmp_path, split, FOUND)
    table = text.split("Every class, worst first")[1]
    assert re.findall(r"<tr><td>(.*?)</td>", table) == ["class 7", "class 9", "class 3", "class 5"]
    assert "1 of the 4 classes have no object here" in words(table)


def test_a_photo_shows_truth_and_detections(split):
    evaluation = run_cocoeval(split, FOUND)
    picture = draw_outcomes(np.full((100, 100, 3), 90, np.uint8), 0, analyse(split, evaluation), split)
    assert picture.shape == (SIDE, SIDE, 3)
    scale = SIDE / 100
    at = {
        "right edge of the truth": (20, 10, TRUTH),
        "right edge of what found it": (19, 10, RIGHT),
        "of the wrong one": (20, 70, WRONG),
        "of the missed one": (80, 70, MISSED),
        "of the crowd": (60, 15, CROWD),
    }
    assert {name: tuple(picture[round(y * scale), round(x * scale)].tolist()) for name, (x, y, _) in at.items()} == {
        name: colour for name, (_, _, colour) in at.items()
    }
    assert (picture[round(45 * scale), round(90 * scale)] == 90).all()


def test_the_figures_show_the_numbers(split):
    analysis = analyse(split, run_cocoeval(split, FOUND))
    bars = errors_figure(analysis.errors).axes[0].patches
    assert [bar.get_width() for bar in bars] == pytest.approx(list(analysis.errors.gains.values()))
    left, right = curves_figure(analysis).axes
    assert {line.get_label() for line in left.lines} >= {"class 3", "class 9", "all classes together"}
    dots = [tuple(float(values[0]) for values in line.get_data()) for axes in (left, right) for line in axes.lines[-1:]]
    best = analysis.curve.best
    assert dots == [(best.recall, best.precision), (best.threshold, best.f1)]


@pytest.mark.parametrize(
    ("objects", "found", "said"),
    [
        (OBJECTS, [], ["No detection is correct: no threshold", "missed 5 1.000", "3 missed: 2.png", "2 of 3 photos"]),
        ([], FOUND, ["The split has no objects: there is nothing to find", "4 wrong, 0 missed: 2.png"]),
        ([], [], ["There are neither objects nor detections.", "No photo has an error."]),
        ([box(3, A)], [box(3, A, score=0.5)], ["No photo has an error.", "F1 is best, 1.000"]),
    ],
)
def test_empty_cases_are_said_plainly(objects, found, said, tmp_path):
    split = make_split(objects, num_images=3, folder=photos(tmp_path, 3))
    shown = words(written(tmp_path, split, found))
    assert [sentence for sentence in said if sentence not in shown] == []
    assert not re.search(r"\bnan\b", shown)


def test_many_classes_are_shown_whole_and_the_confused_ones_by_name(tmp_path):
    ids = tuple(range(1, 41))
    objects = [box(number, [number, number, 30, 30], image=number) for number in ids]
    found = [box(row["category_id"], row["bbox"], score=0.9, image=row["image_id"]) for row in objects]
    found[6]["category_id"] = 32
    split = make_split(objects, ids=ids, num_images=40, folder=photos(tmp_path, 40))
    text = written(tmp_path, split, found)
    assert "All 40 classes and background" in text
    assert "The 2 most confused classes and background" in text
    assert len(text) < 2_000_000
    found[6]["category_id"] = 7
    assert "No object is predicted as another class." in written(tmp_path, split, found)
