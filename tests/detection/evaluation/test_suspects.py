"""Annotations that are changed by hand, and detections of what was there before."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from apps.detection.check import Config, check, list_suspects
from apps.detection.data.checks import check_split
from apps.detection.data.coco_split import CocoSplit, ImageRecord
from apps.detection.data.load import find_data, joined_class_names, read_parts
from apps.detection.evaluation.suspects import draw_suspect, find_suspects
from apps.detection.evaluation.wrong_labels import (
    SHARE,
    Evidence,
    chances,
    of_labels,
    of_places,
    of_removed,
    see,
    with_probabilities,
)
from apps.detection.model.detector import Detector
from tests.conftest import draw_tiny_coco

RED, BLUE = 3, 7


def read(root: Path) -> CocoSplit:
    """The train split, with the places of its objects."""
    parts = read_parts(find_data(root), ["train"])
    return check_split(parts[0], joined_class_names(parts), bad_data="refuse", places=True)


def found(image_id: int, category_id: int, bbox: list[float], score: float = 0.8) -> dict:
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": score}


@pytest.fixture
def right(tmp_path) -> tuple[Path, list[dict]]:
    """Data, and detections of all its objects to the pixel."""
    root = draw_tiny_coco(tmp_path / "tiny", num_train=60)
    truth = read(root).ground_truth["annotations"]
    return root, [found(one["image_id"], one["category_id"], one["bbox"]) for one in truth]


def changed(root: Path, change) -> CocoSplit:
    """The split after a change of the annotations; returns it."""
    path = root / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    change(content["annotations"])
    path.write_text(json.dumps(content))
    return read(root)


def told(split: CocoSplit, results: list[dict], known=(RED, BLUE)) -> list[tuple]:
    ranked = sorted(find_suspects(split, results, set(known)), key=lambda one: -one.score)
    return [(one.kind, one.object, one.label, one.predicted, round(one.score, 3)) for one in ranked]


def test_labels_that_the_model_agrees_with_are_not_suspicious(right):
    root, results = right
    assert told(read(root), results) == []


def test_each_kind_of_wrong_label_is_found_where_it_is(right):
    root, results = right

    def change(annotations: list[dict]) -> None:
        first, second, third = (
            one for one in annotations if one["image_id"] in (1, 3, 5) and one["category_id"] == RED
        )
        annotations.remove(first)
        second["category_id"] = BLUE
        x, y, w, h = third["bbox"]
        third["bbox"] = [x + w / 2 if x + 1.5 * w <= 96 else x - w / 2, y, w, h]  # IoU 1 / 3
        annotations.append({**second, "id": 900, "image_id": 8, "bbox": [90, 60, 5, 3], "area": 15})

    split = changed(root, change)
    suspects = told(split, results)
    kinds = {kind: (place, label, predicted) for kind, place, label, predicted, score in suspects}
    assert len(suspects) == len(kinds) == 4
    assert kinds["missing box"] == ("", "", "red")
    assert kinds["other class"][1:] == ("blue", "red") and re.fullmatch(r"annotation \d+", kinds["other class"][0])
    assert kinds["loose box"][1:] == ("red", "red")
    assert kinds["phantom box"] == ("annotation 900", "blue", "")
    assert all(0.1 < score <= 1 for *_, score in suspects)


def test_what_is_not_judged(right):
    """Crowds, detections inside them, and objects of classes that the detector does not know."""
    root, results = right

    def change(annotations: list[dict]) -> None:
        annotations.append({"id": 900, "image_id": 2, "category_id": RED, "bbox": [0, 0, 96, 64], "iscrowd": 1})
        annotations.append({"id": 901, "image_id": 4, "category_id": BLUE, "bbox": [1, 1, 9, 9], "iscrowd": 0})

    split = changed(root, change)
    inside = [found(2, RED, [1, 1, 9, 9])]
    assert [one[:2] for one in told(split, [*results, *inside])] == [("phantom box", "annotation 901")]
    reds = [one for one in results if one["category_id"] == RED]
    assert told(split, [*reds, *inside], known=[RED]) == []


def test_a_place_without_an_object_is_listed_once(right):
    root, results = right
    (image,) = (one for one in read(root).records if one.image_id == 2)
    free = next([x, y, 9, 9] for x in (1, 85) for y in (1, 54) if _is_free(image.boxes_xyxy_px, x, y))
    twice = [found(2, RED, free, 0.5), found(2, BLUE, free, 0.6), found(2, RED, [free[0] + 1, *free[1:]], 0.4)]
    all_right = [{**one, "score": 0.7} for one in results for _ in range(9)]  # what such scores are worth
    suspects = told(read(root), [*all_right, *twice])
    assert [one[:3] for one in suspects] == [("missing box", "", "")]


def _is_free(boxes: np.ndarray, x: int, y: int) -> bool:
    return all(x + 10 < x0 or x - 1 > x1 or y + 10 < y0 or y - 1 > y1 for x0, y0, x1, y1 in boxes)


def record(boxes: list[list[float]], crowds: list[bool]) -> ImageRecord:
    return ImageRecord(
        1, Path("a.jpg"), 100, 100, np.array(boxes, dtype=np.float32).reshape(-1, 4), None, np.array(crowds)
    )


def test_an_image_without_detections_or_objects_says_nothing():
    box = [0.0, 0.0, 4.0, 4.0]
    for results in ([], [found(1, RED, box, 0.5)]):
        seen = see(record([], []), [], results)
        assert of_places(seen).scores.tolist() == [[0.5]] * len(results)
        assert (of_labels(seen).scores.shape, of_removed(seen, np.zeros(0, int)).scores.shape) == ((0, 4), (0, 1))
    seen = see(record([box], [False]), [{"category_id": RED}], [])
    assert (of_labels(seen).scores.tolist(), len(of_removed(seen, np.array([0])).scores)) == ([[0.0] * 4], 0)
    assert with_probabilities([]) == []


def test_what_detections_say_of_an_object():
    """Boxes of 10 pixels: the IoU of one that is moved by d pixels is (10 - d) / (10 + d)."""
    results = [found(1, RED, [x, 0, 10, 10], score) for x, score in ((1, 0.3), (5, 0.4), (8, 0.5))]
    results += [found(1, BLUE, [x, 0, 10, 10], score) for x, score in ((2, 0.6), (8.5, 0.7))]
    seen = see(record([[0, 0, 10, 10]], [False]), [{"category_id": RED}], results)
    one = of_labels(seen)
    assert one.scores.tolist() == [[0.3, 0.6, 0.5, 0.6]]  # on it, on it of another class, beside it, anything
    assert (one.areas.tolist(), one.classes.tolist()) == ([0.01], [RED])
    assert of_removed(seen, np.array([0])).scores.tolist() == [[0.6]]
    # those beside it are about it, since they are surer than the one on it; not the blue one, with an IoU of 3 / 37
    assert of_places(seen).scores[:, 0] == pytest.approx([0, 0, 0, 0, 0.7 * (1 - 3 / 37)])


def test_the_chance_is_that_of_bayes_where_both_laws_are_known():
    """Logits of labels are normal around 1, those of made ones around -1: their ratio is exp(-2 x)."""
    rng = np.random.default_rng(0)

    def drawn(mean: float) -> Evidence:
        scores = 1 / (1 + np.exp(-rng.normal(mean, 1, (20_000, 1))))
        return Evidence(scores, np.full(20_000, 0.1), np.full(20_000, RED))

    labels, made = drawn(1), drawn(-1)
    (odds,) = chances(labels, [made]).T
    logits = np.log(labels.scores[:, 0] / (1 - labels.scores[:, 0]))
    some = np.abs(logits) < 1
    assert odds[some] == pytest.approx(SHARE * np.exp(-2 * logits[some]), rel=0.15)
    assert odds.max() <= 1


def test_scores_become_the_precision_of_detections_like_them():
    """Of 100 detections of 0.9 all are right, of 100 of 0.6 a half; between them it is interpolated."""
    box, far = [0.0, 0.0, 4.0, 4.0], [50.0, 50.0, 4.0, 4.0]
    truth = record([[0, 0, 4, 4]], [False])
    results = [found(1, RED, box, 0.9)] * 100 + [found(1, RED, where, 0.6) for where in (box, far)] * 50
    results += [found(1, BLUE, box, 0.75)]
    (seen,) = with_probabilities([see(truth, [{"category_id": RED}], results)])
    assert seen.scores[:100].tolist() == pytest.approx([1.0] * 100)
    assert seen.scores[100:200].tolist() == pytest.approx([0.5] * 100, abs=0.03)
    assert 0.5 < seen.scores[200] <= 1


@pytest.mark.parametrize("layout", ["yolo", "voc"])
def test_the_place_is_a_line_or_an_object(tmp_path, layout):
    root, photo = tmp_path / "set", "images/a.jpg" if layout == "yolo" else "JPEGImages/a.jpg"
    (root / photo).parent.mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(root / photo)
    if layout == "yolo":
        (root / "labels").mkdir()
        (root / "labels/a.txt").write_text("\n0 0.5 0.5 0.2 0.2\n")
        (root / "data.yaml").write_text("train: images\nnames: [red]\n")
    else:
        (root / "Annotations").mkdir()
        box = "<bndbox><xmin>10</xmin><ymin>10</ymin><xmax>30</xmax><ymax>30</ymax></bndbox>"
        (root / "Annotations/a.xml").write_text(f"<annotation><object><name>red</name>{box}</object></annotation>")
    (one,) = read(root).ground_truth["annotations"]
    assert one["place"].startswith({"yolo": f"{root}/labels/a.txt line 2", "voc": "Annotations/a.xml object 1"}[layout])
    parts = read_parts(find_data(root), ["train"])
    (plain,) = check_split(parts[0], ["red"], bad_data="refuse").ground_truth["annotations"]
    assert "place" not in plain  # memory, where nobody asks


def test_pictures_show_both_boxes(right):
    root, results = right

    def change(annotations: list[dict]) -> None:
        annotations[0]["category_id"] = BLUE if annotations[0]["category_id"] == RED else RED

    split = changed(root, change)
    (suspect,) = find_suspects(split, results, {RED, BLUE})
    (record,) = (one for one in split.records if one.path == suspect.path)
    picture = draw_suspect(suspect, record)
    assert picture.shape[0] == 224 and picture.dtype == np.uint8
    green = (np.abs(picture.astype(int) - (90, 220, 110)).max(2) < 10).sum()
    assert green > 100


def test_the_command_lists_what_a_run_disagrees_with(finished_run, tmp_path, capsys):
    root = draw_tiny_coco(tmp_path / "tiny")
    config = Config(data=str(root), checkpoint=finished_run, out=tmp_path / "out", device="cpu")
    check(config)
    before = (tmp_path / "out/check.json").read_bytes()
    suspects = list_suspects(config, Detector.load(finished_run, device="cpu"))
    content = json.loads((tmp_path / "out/suspects.json").read_text())
    assert [one["file"] for one in content["suspects"]] == [str(one.path) for one in suspects]
    assert {one.split for one in suspects} <= {"train", "val"}
    assert (tmp_path / "out/check.json").read_bytes() == before
    assert f"{len(suspects):,} suspicious labels" in capsys.readouterr().out
