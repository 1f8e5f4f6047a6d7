"""The anchors are those of the TensorFlow Object Detection API's ssd_mobilenet_v1 configuration."""

import pytest
import torch

from apps.detection.anchors import level_shapes, make_anchors
from apps.detection.model import create_detector


def test_reference_number_at_300_pixels():
    anchors = create_detector("a025", num_classes=1).anchors_cxcywh
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
    detector = create_detector("a025", num_classes=2, resolution=resolution).eval()
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
