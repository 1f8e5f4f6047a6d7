"""AP of photos that count several times is that of pycocotools with the photos so many times in the files."""

from typing import Any

import numpy as np
import pytest

from apps.common.evaluation.intervals import Figures
from apps.detection.evaluation.metrics import coco_metrics, run_cocoeval
from apps.detection.evaluation.resampling import ap_measure
from tests.detection.evaluation.test_errors import Rows, box, make_split

NUM_PHOTOS = 12


@pytest.fixture
def case() -> tuple[Rows, Rows]:
    """Objects of three classes, some of them crowds, and detections that are about right, doubled or wrong."""
    rng = np.random.default_rng(7)
    objects, found = [], []
    for image in range(1, NUM_PHOTOS + 1):
        for _ in range(rng.integers(0, 5)):
            k, xywh = int(rng.choice([3, 7, 9])), [*rng.uniform(0, 60, 2), *rng.uniform(10, 40, 2)]
            objects.append(box(k, xywh, image=image, crowd=int(rng.random() < 0.15)))
            for _ in range(rng.integers(0, 3)):
                moved = [*(np.array(xywh) + rng.normal(0, 2, 4)).clip(1)]
                found.append(box(k, moved, image=image, score=float(rng.random())))
        found.append(box(int(rng.choice([3, 7, 9])), [1, 1, 30, 30], image=image, score=float(rng.random() * 0.8)))
    return objects, found


def repeated(rows: Rows, times: np.ndarray) -> Rows:
    """The rows of photo i `times[i - 1]` times, each time of a photo of its own."""
    copies: list[dict[str, Any]] = []
    for turn in range(int(times.max())):
        copies += [{**r, "image_id": r["image_id"] + 100 * turn} for r in rows if times[r["image_id"] - 1] > turn]
    return copies


def test_photos_that_count_several_times_are_as_so_many_photos(case):
    objects, found = case
    measure = ap_measure(run_cocoeval(make_split(objects, num_images=NUM_PHOTOS), found))
    rng = np.random.default_rng(2)
    for _ in range(8):
        times = np.bincount(rng.integers(NUM_PHOTOS, size=NUM_PHOTOS), minlength=NUM_PHOTOS)
        split = make_split(repeated(objects, times), num_images=100 * int(times.max()))
        expected = coco_metrics(split, repeated(found, times)).values
        values = measure(times[None].astype(float))
        assert 0.1 < expected["AP"] < 0.9
        assert {name: float(value[0]) for name, value in values.items()} == pytest.approx(
            {name: expected[name] for name in ("AP", "AP50")}, abs=1e-9
        )


def test_the_figures_are_the_printed_ones(case):
    objects, found = case
    split = make_split(objects, num_images=NUM_PHOTOS)
    evaluation = run_cocoeval(split, found)
    figures = Figures.of(ap_measure(evaluation), NUM_PHOTOS)
    metrics = coco_metrics(split, found).values
    assert figures.values == pytest.approx({name: metrics[name] for name in ("AP", "AP50")})
    assert all(one.low < one.value < one.high for one in figures.intervals().values())


def test_nothing_found_and_nothing_to_find(case):
    objects, found = case
    evaluation = run_cocoeval(make_split(objects, num_images=NUM_PHOTOS), [])
    assert Figures.of(ap_measure(evaluation), NUM_PHOTOS).intervals()["AP"] == (0.0, 0.0, 0.0)
    evaluation = run_cocoeval(make_split([], num_images=NUM_PHOTOS), found)
    assert Figures.of(ap_measure(evaluation), NUM_PHOTOS).values == {}
