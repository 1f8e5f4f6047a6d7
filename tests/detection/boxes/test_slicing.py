import numpy as np
import pytest
import torch
from torch import Tensor

from apps.common.images import read_image
from apps.detection.boxes.boxes import box_iou
from apps.detection.boxes.postprocess import Detections
from apps.detection.boxes.slicing import make_tiles, merge
from apps.detection.predict import Found, Predictor

WIDTH, HEIGHT = 640, 480


def detections(*found: tuple[tuple[float, float, float, float], float, int], sides: tuple[int, int]) -> Detections:
    """Of boxes in pixels, scores and labels, as they are found in an image of (width, height)."""
    boxes = torch.tensor([box for box, _, _ in found]).reshape(-1, 4) / torch.tensor([*sides, *sides])
    return Detections(boxes, torch.tensor([one[1] for one in found]), torch.tensor([one[2] for one in found]).long())


def nothing() -> Detections:
    return Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))


def boxes_px(merged: Detections) -> list[list[float]]:
    return (merged.boxes_xyxy * torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])).round().tolist()


def test_tiles_of_a_known_photo():
    assert make_tiles(HEIGHT, WIDTH, side=300, overlap=0.2) == [
        *((0, 0, 300, 300), (240, 0, 540, 300), (340, 0, 640, 300)),
        *((0, 180, 300, 480), (240, 180, 540, 480), (340, 180, 640, 480)),
    ]
    assert make_tiles(300, 300, side=300, overlap=0.2) == []
    assert make_tiles(100, 500, side=300, overlap=0.0) == [(0, 0, 300, 100), (200, 0, 500, 100)]


@pytest.mark.parametrize(("side", "overlap"), [(32, 0.0), (100, 0.2), (100, 0.9), (333, 0.5)])
def test_small_objects_are_whole_in_a_tile_wherever_they_are(side, overlap):
    rng = np.random.default_rng(0)
    for height, width in ((480, 640), (1000, 333), (334, 100), (701, 1203)):
        tiles = np.array(make_tiles(height, width, side=side, overlap=overlap))
        assert (tiles >= 0).all() and (tiles[:, 2] <= width).all() and (tiles[:, 3] <= height).all()
        assert ((tiles[:, 2:] - tiles[:, :2]) <= side).all()
        longest = max(1, int(side * overlap))
        for _ in range(200):
            w, h = rng.integers(1, min(longest, height, width) + 1, 2)
            x, y = rng.integers(0, width - w + 1), rng.integers(0, height - h + 1)
            inside = (tiles[:, :2] <= (x, y)).all(1) & (tiles[:, 2:] >= (x + w, y + h)).all(1)
            assert inside.any(), (height, width, x, y, w, h)


def test_boxes_of_tiles_come_back_to_the_photo():
    tiles = make_tiles(HEIGHT, WIDTH, side=300, overlap=0.2)
    found = [nothing()] * 6
    found[5] = detections(((100.0, 50.0, 140.0, 90.0), 0.9, 3), sides=(300, 300))
    merged = merge(nothing(), tiles, found, height=HEIGHT, width=WIDTH, max_detections=100)
    assert boxes_px(merged) == [[440, 230, 480, 270]]
    assert (merged.scores.tolist(), merged.labels.tolist()) == (pytest.approx([0.9]), [3])


def test_one_object_of_several_tiles_stays_once_for_each_class():
    tiles = make_tiles(HEIGHT, WIDTH, side=300, overlap=0.2)
    whole = detections(((260.0, 100.0, 290.0, 140.0), 0.4, 1), sides=(WIDTH, HEIGHT))
    found = [nothing()] * 6
    found[0] = detections(((261.0, 101.0, 290.0, 140.0), 0.6, 1), sides=(300, 300))
    found[1] = detections(((20.0, 100.0, 50.0, 140.0), 0.8, 1), ((20.0, 100.0, 50.0, 140.0), 0.3, 2), sides=(300, 300))
    merged = merge(whole, tiles, found, height=HEIGHT, width=WIDTH, max_detections=100)
    assert boxes_px(merged) == [[260, 100, 290, 140]] * 2
    assert merged.scores.tolist() == pytest.approx([0.8, 0.3]) and merged.labels.tolist() == [1, 2]
    assert len(merge(whole, tiles, found, height=HEIGHT, width=WIDTH, max_detections=1).scores) == 1


def test_parts_of_objects_are_left_to_the_whole_photo():
    """Cut at a tile's edge inside the photo, or more than half of a tile; the photo's own edges cut nothing."""
    tiles = make_tiles(HEIGHT, WIDTH, side=300, overlap=0.2)
    found = [nothing()] * 6
    cases = [
        ((0.0, 0.0, 60.0, 60.0), True),  # in the photo's corner
        ((250.0, 10.0, 300.0, 60.0), False),  # cut on the right
        ((10.0, 240.0, 60.0, 299.0), False),  # cut below
        ((70.0, 70.0, 219.0, 200.0), True),
        ((70.0, 70.0, 222.0, 90.0), False),  # more than half
    ]
    found[0] = detections(*((box, 0.5, i + 1) for i, (box, _) in enumerate(cases)), sides=(300, 300))
    merged = merge(nothing(), tiles, found, height=HEIGHT, width=WIDTH, max_detections=100)
    assert sorted(merged.labels.tolist()) == [i + 1 for i, (_, stays) in enumerate(cases) if stays]


def merged_in_a_large_photo(*found: tuple[tuple[float, float, float, float], int], whole=()) -> list[list[int]]:
    """Boxes after merging those of (box in pixels of the photo, tile), all of one class, in 3000x2000 pixels."""
    tiles = make_tiles(2000, 3000, side=300, overlap=0.2)
    per_tile = []
    for i, (x0, y0, _, _) in enumerate(tiles):
        mine = [(tuple(v - (x0, y0)[k % 2] for k, v in enumerate(box)), 0.5, 1) for box, n in found if n == i]
        per_tile.append(detections(*mine, sides=(300, 300)))
    seen = detections(*((box, 0.4, 1) for box in whole), sides=(3000, 2000))
    merged = merge(seen, tiles, per_tile, height=2000, width=3000, max_detections=100)
    return (merged.boxes_xyxy * torch.tensor([3000, 2000, 3000, 2000])).round().int().tolist()


def test_long_objects_of_a_large_photo_are_the_tiles_unless_the_whole_has_them():
    """The second tile is from 240 to 540, the third from 480 to 780."""
    long = (260, 20, 500, 80)
    assert merged_in_a_large_photo((long, 1)) == [list(long)]
    assert merged_in_a_large_photo((long, 1), whole=[(255, 10, 520, 90)]) == [[255, 10, 520, 90]]
    assert merged_in_a_large_photo((long, 1), whole=[(455, 10, 720, 90)]) == [list(long), [455, 10, 720, 90]]


def test_the_parts_of_an_object_that_tiles_cut_are_joined():
    left, right = (400, 20, 540, 80), (480, 22, 640, 82)
    assert merged_in_a_large_photo((left, 1), (right, 2)) == [[400, 20, 640, 82]]
    assert merged_in_a_large_photo((left, 1)) == []  # one part alone
    assert merged_in_a_large_photo((left, 1), ((480, 122, 640, 182), 2)) == []  # of another object
    whole = [(390, 10, 650, 90)]
    assert merged_in_a_large_photo((left, 1), (right, 2), whole=whole) == [[390, 10, 650, 90]]
    parts = [((240 * n + 60 * (n == 0), 20, 240 * n + 300, 80), n) for n in range(4)]
    assert merged_in_a_large_photo(*parts) == []  # longer than a fifth of the photo, 60 to 1020


def test_half_a_tile_is_that_of_a_whole_tile_in_a_low_photo():
    tiles = make_tiles(160, 3000, side=300, overlap=0.2)
    found = [nothing()] * len(tiles)
    found[0] = detections(((50.0, 30.0, 180.0, 128.0), 0.8, 1), sides=(300, 160))
    assert len(merge(nothing(), tiles, found, height=160, width=3000, max_detections=100).scores) == 1


def test_wrong_numbers_are_refused():
    with pytest.raises(ValueError, match="slices must be 32 pixels a side or more, got 31"):
        make_tiles(100, 100, side=31, overlap=0.2)
    for overlap in (-0.1, 0.95):
        with pytest.raises(ValueError, match=r"must be a share of their side from 0 to 0\.9, got"):
            make_tiles(100, 100, side=64, overlap=overlap)


def small(found: list[Found]) -> Tensor:
    """Boxes of persons and kites, shorter than 30 pixels, (N, 4)."""
    boxes = [one.box_xyxy_px for one in found if one.name in ("person", "kite")]
    return torch.tensor([box for box in boxes if max(box[2] - box[0], box[3] - box[1]) < 30]).reshape(-1, 4)


def test_the_published_detector_finds_more_small_objects_on_the_beach(shared):
    weights = str(shared / "weights/ssd_mobilenet_v1_0.75_coco_quant.tflite")
    image = read_image(shared / "data/photos/kite_and_cold.jpg")
    settings = {"weights": weights, "device": "cpu", "runtime": "torch", "conf": 0.6}
    plain = small(Predictor(**settings)(image))
    sliced = small(Predictor(**settings, slice_side=300)(image))
    assert len(plain) <= 3 and len(sliced) >= 8
    overlaps = box_iou(sliced, sliced).fill_diagonal_(0)
    assert overlaps.max() <= 0.7  # no object twice
