"""Classes, sizes, curves, confusions and bad photos."""

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from apps.detection.evaluation.analysis import Analysis, BadPhoto, Confusion, Point, analyse, confusions, make_curve
from apps.detection.evaluation.metrics import coco_metrics, run_cocoeval, summarise
from tests.detection.evaluation.test_errors import FAR, IDS, NOWHERE, SHIFTED, A, Rows, box, make_split, random_scene


def analysed(objects: Rows, found: Rows, **options) -> Analysis:
    split = make_split(objects, **options)
    return analyse(split, run_cocoeval(split, found))


@pytest.fixture(scope="module")
def scene():
    objects, found = random_scene()
    split = make_split(objects, num_images=40)
    evaluation = run_cocoeval(split, found)
    return split, found, evaluation, analyse(split, evaluation)


def test_the_12_numbers_are_those_of_training(scene):
    split, found, evaluation, _ = scene
    assert summarise(evaluation) == coco_metrics(split, found)


def test_classes_are_what_pycocotools_gives_for_each_alone(scene):
    _, _, evaluation, analysis = scene
    for category_id, one in zip(IDS, analysis.classes, strict=True):
        alone = COCOeval(evaluation.cocoGt, evaluation.cocoDt, "bbox")
        alone.params.catIds = [category_id]
        alone.evaluate()
        alone.accumulate()
        alone.summarize()
        ours = (one.ap, one.ap50, one.ap75, one.ap_small, one.ap_medium, one.ap_large, one.ar100)
        theirs = [None if value < 0 else value for value in alone.stats[[0, 1, 2, 3, 4, 5, 8]]]
        assert list(ours) == pytest.approx(theirs, abs=1e-12)
        assert one.name == f"class {category_id}"
        gains = {kind: gain[IDS.index(category_id)] for kind, gain in analysis.errors.class_gains.items()}
        assert one.main_error_gain == gains[one.main_error] > 0


def test_classes_whose_ids_are_not_in_order(scene):
    """The data may list its classes in another order than that of the ids, by which pycocotools sorts."""
    _, found, _, analysis = scene
    split = make_split(random_scene()[0], ids=(9, 3, 7), num_images=40)
    turned = analyse(split, run_cocoeval(split, found))
    assert {one.name: one for one in turned.classes} == {one.name: one for one in analysis.classes}
    assert [one.name for one in turned.classes] == ["class 9", "class 3", "class 7"]
    assert turned.errors.gains == pytest.approx(analysis.errors.gains)


def test_sizes_are_those_of_the_12_numbers(scene):
    split, _, evaluation, analysis = scene
    values = summarise(evaluation).values
    for one, short in zip(analysis.sizes, "sml", strict=True):
        shown = (one.ap, one.ar100)
        assert tuple(-1 if v is None else v for v in shown) == pytest.approx(
            (values[f"AP{short}"], values[f"AR{short}"])
        )
    areas = [row["area"] for row in split.ground_truth["annotations"] if not row["iscrowd"]]
    assert [one.num_objects for one in analysis.sizes[:2]] == [
        sum(area <= 32**2 for area in areas),
        sum(32**2 <= area <= 96**2 for area in areas),
    ]
    assert analysis.sizes[2] == ("large", 0, None, None, None, None)


def test_a_curve_by_a_plain_loop():
    rng = np.random.default_rng(2)
    scores, right = rng.integers(0, 20, 60) / 20, rng.random(60) < 0.5  # many equal scores
    curve = make_curve(scores, right, 40)
    assert curve.thresholds.tolist() == sorted(set(scores.tolist()), reverse=True)
    for threshold, precision, recall, f1 in zip(*curve[:4], strict=True):
        taken = scores >= threshold
        assert precision == pytest.approx(right[taken].mean())
        assert recall == pytest.approx(right[taken].sum() / 40)
        assert f1 == pytest.approx(2 / (1 / precision + 1 / recall) if right[taken].any() else 0)
    assert curve.best.f1 == max(curve.f1)
    assert curve.best == tuple(values[curve.f1.argmax()] for values in curve[:4])


@pytest.mark.parametrize(
    ("scores", "right", "num_objects", "best"),
    [
        ([], [], 0, Point(None, None, None, None)),
        ([], [], 3, Point(None, None, 0.0, 0.0)),
        ([0.5], [False], 0, Point(None, 0.0, None, None)),
        ([0.5], [False], 3, Point(None, 0.0, 0.0, 0.0)),
        ([0.5, 0.4], [True, True], 2, Point(0.4, 1.0, 1.0, 1.0)),
    ],
)
def test_numbers_without_meaning_are_none(scores, right, num_objects, best):
    assert make_curve(np.array(scores), np.array(right, dtype=bool), num_objects).best == best


def test_confusions_at_the_best_threshold():
    objects = [box(3, A), box(7, FAR), box(7, NOWHERE), box(3, A, image=2), box(3, FAR, image=2)]
    found = [
        box(3, A, score=0.9),
        box(9, [60, 60, 20, 18], score=0.8),  # IoU 0.9 with the first 7
        box(3, FAR, score=0.75),  # overlaps it more, but it is taken by the better one
        box(7, NOWHERE, score=0.7),
        box(3, SHIFTED, score=0.7, image=2),
        box(3, FAR, score=0.7, image=2),
        box(7, A, score=0.1, image=2),  # below the threshold
    ]
    analysis = analysed(objects, found, num_images=2)
    assert analysis.curve.best == Point(0.7, 3 / 6, 3 / 5, 6 / 11)
    assert analysis.confusion.tolist() == [
        [2, 0, 0, 1],  # true 3
        [0, 1, 1, 0],
        [0, 0, 0, 0],
        [2, 0, 0, 0],  # background
    ]
    between = Confusion("class 7", "class 9", 1)
    assert confusions(analysis) == [Confusion(None, "class 3", 2), Confusion("class 3", None, 1), between]
    assert confusions(analysis, background=False) == [between]
    assert analysis.bad_photos == [BadPhoto(0, 2, 1), BadPhoto(1, 1, 1)]
    assert analysis.kept.sum() == 6


def test_every_object_and_detection_is_in_the_matrix_once(scene):
    _, _, _, analysis = scene
    outcomes = analysis.outcomes
    assert analysis.confusion[:-1].sum(axis=1).tolist() == outcomes.num_objects.tolist()
    assert analysis.confusion[:, :-1].sum() == analysis.kept.sum()
    found = analysis.kept & (outcomes.matches >= 0)
    assert np.trace(analysis.confusion) == found.sum()
    mistakes = sum(photo.num_wrong + photo.num_missed for photo in analysis.bad_photos)
    assert mistakes == (analysis.kept & ~found).sum() + len(outcomes.object_classes) - found.sum()


def test_nothing_found_and_nothing_to_find():
    nothing = analysed([box(3, A)], [])
    assert nothing.curve.best == Point(None, None, 0.0, 0.0)
    assert nothing.confusion[0].tolist() == [0, 0, 0, 1]
    assert nothing.bad_photos == [BadPhoto(0, 0, 1)]
    assert nothing.classes[0].main_error == "missed"
    assert (nothing.classes[1].ap, nothing.classes[1].f1, nothing.classes[1].main_error) == (None, None, None)
    empty = analysed([], [box(3, A, score=0.5)], ids=(3,))
    assert empty.classes[0][:4] == ("class 3", 0, 1, None)
    assert empty.confusion.tolist() == [[0, 0], [1, 0]]  # no threshold is best: all detections count
    assert [one.ap for one in empty.sizes] == [None] * 3
    assert analysed([], []).bad_photos == []
