"""The anchors are those of the TensorFlow Object Detection API's ssd_mobilenet_v1 configuration."""

from pathlib import Path

import numpy as np
import pytest
import torch

from apps.detection.boxes.anchors import fit_shapes, level_shapes, make_anchors
from apps.detection.data.coco_split import ImageRecord, box_sizes
from apps.detection.model.create import create_detector


def test_reference_number_at_300_pixels():
    anchors = create_detector("a025", num_classes=1, head="ssd").anchors_cxcywh
    assert anchors.shape == (1917, 4)
    assert 3 * 19 * 19 + 6 * (10 * 10 + 5 * 5 + 3 * 3 + 2 * 2 + 1) == 1917


def test_finest_level_is_the_reduced_one():
    anchors = make_anchors([(19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)])
    half = 0.5 / 19
    expected = torch.tensor(
        [
            [half, half, 0.1, 0.1],
            [half, half, 0.2 * 2**0.5, 0.2 / 2**0.5],
            [half, half, 0.2 / 2**0.5, 0.2 * 2**0.5],
            [3 * half, half, 0.1, 0.1],  # the next cell of the row
        ]
    )
    torch.testing.assert_close(anchors[:4], expected)


def test_scales_are_linear_and_the_last_square_is_between_levels():
    shapes = level_shapes(6)
    assert [len(level) for level in shapes] == [3, 6, 6, 6, 6, 6]
    assert [level[0][0] for level in shapes[1:]] == pytest.approx([0.35, 0.5, 0.65, 0.8, 0.95])
    assert [level[5] for level in shapes[1:]] == [
        pytest.approx(((s * t) ** 0.5, 1.0)) for s, t in ((0.35, 0.5), (0.5, 0.65), (0.65, 0.8), (0.8, 0.95), (0.95, 1))
    ]


@pytest.mark.parametrize("resolution", [32, 33, 96, 128, 161, 224, 300, 512])
def test_anchors_follow_the_resolution_and_line_up_with_the_outputs(resolution):
    detector = create_detector("a025", num_classes=2, resolution=resolution, head="ssd").eval()
    with torch.no_grad():
        output = detector(torch.zeros(1, 3, resolution, resolution))
    assert output["offsets"].shape == (1, *detector.anchors_cxcywh.shape)
    centres = detector.anchors_cxcywh[:, :2]
    assert centres.min() > 0
    assert centres.max() < 1


def test_cell_order_is_rows_then_columns_then_shapes():
    anchors = make_anchors([(2, 3), (1, 1)])
    expected = torch.tensor([[x / 6, y / 4] for y in (1, 3) for x in (1, 3, 5)])
    torch.testing.assert_close(anchors[:18:3, :2], expected)


def test_fitted_anchors_are_the_boxes_where_these_have_few_shapes():
    """Three shapes, one of which no reference anchor is like: each becomes an anchor, and the mean IoU 1."""
    shapes = torch.tensor([[0.05, 0.4], [0.3, 0.3], [0.9, 0.6]])
    fitted = fit_shapes(shapes.repeat(50, 1), num_levels=6, seed=0)
    assert [len(level) for level in fitted.shapes] == [3, 6, 6, 6, 6, 6]
    assert fitted.num_boxes == 150
    assert fitted.iou_before < 0.75
    assert fitted.iou_after == pytest.approx(1, abs=1e-6)
    flat = torch.tensor([(s * r**0.5, s / r**0.5) for level in fitted.shapes for s, r in level])
    for shape in shapes:
        assert (flat - shape).abs().amax(1).min() < 1e-5
    pairs = [pair for levels in zip(fitted.shapes, level_shapes(6), strict=True) for pair in zip(*levels, strict=True)]
    assert (
        sum(fitted != pytest.approx(reference, abs=1e-5) for fitted, reference in pairs) == 3
    )  # the others have no box and stay the reference's


def test_boxes_that_the_reference_suits_leave_it_as_it_is():
    sizes = torch.tensor([(s * r**0.5, s / r**0.5) for level in level_shapes(6) for s, r in level])
    fitted = fit_shapes(sizes, num_levels=6, seed=0)
    assert fitted.iou_before == pytest.approx(1)
    for level, reference in zip(fitted.shapes, level_shapes(6), strict=True):
        np.testing.assert_allclose(level, reference, atol=1e-5)


def test_fitting_never_loses_and_depends_on_the_seed_only_through_its_sample():
    sizes = torch.rand(500, 2, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.01
    one, other = (fit_shapes(sizes, num_levels=6, seed=seed) for seed in (0, 1))
    assert one.iou_after > one.iou_before
    for level, same in zip(one.shapes, other.shapes, strict=True):
        np.testing.assert_allclose(level, same, atol=1e-5)
    with pytest.raises(ValueError, match="the training images have no boxes to fit to"):
        fit_shapes(torch.empty(0, 2), num_levels=6, seed=0)


def test_box_sizes_leave_crowds_out_and_are_in_image_sides():
    boxes = np.array([[0, 0, 20, 10], [10, 10, 110, 60], [0, 0, 200, 100]], dtype=np.float32)
    crowd = np.array([False, False, True])
    record = ImageRecord(1, Path("a.jpg"), 200, 100, boxes, np.array([1, 1, 2]), crowd)
    empty = record._replace(boxes_xyxy_px=boxes[:0], labels=np.empty(0), is_crowd=crowd[:0])
    torch.testing.assert_close(box_sizes([record, empty]), torch.tensor([[0.1, 0.1], [0.5, 0.5]]))


def test_given_shapes_take_the_reference_s_place():
    shapes = [[(0.5, 4.0)], [(0.25, 1.0)]]
    anchors = make_anchors([(1, 1), (1, 1)], shapes)
    torch.testing.assert_close(anchors, torch.tensor([[0.5, 0.5, 1.0, 0.25], [0.5, 0.5, 0.25, 0.25]]))
