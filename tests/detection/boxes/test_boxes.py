import torch
from torchvision.ops import box_iou as torchvision_iou

from apps.detection.boxes.boxes import box_iou, cxcywh_to_xyxy, decode_offsets, encode_offsets, xyxy_to_cxcywh


def random_boxes(*shape: int) -> torch.Tensor:
    corner = torch.rand(*shape, 2)
    return torch.cat((corner, corner + torch.rand(*shape, 2)), dim=-1)


def test_formats_round_trip():
    boxes = random_boxes(5, 7)
    torch.testing.assert_close(cxcywh_to_xyxy(xyxy_to_cxcywh(boxes)), boxes)


def test_iou_equals_torchvision_for_each_image():
    a, b = random_boxes(3, 5), random_boxes(3, 8)
    iou = box_iou(a, b)
    for i in range(3):
        torch.testing.assert_close(iou[i], torchvision_iou(a[i], b[i]))


def test_iou_of_boxes_without_area_is_zero():
    point = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    inverted = torch.tensor([[0.6, 0.6, 0.4, 0.4]])
    assert box_iou(point, point).item() == 0
    assert box_iou(inverted, random_boxes(4)).abs().max() == 0


def test_offsets_by_hand():
    """An anchor of 0.2 x 0.4 at the centre; the box is 0.1 to the right and twice as wide."""
    anchor = torch.tensor([[0.5, 0.5, 0.2, 0.4]])
    box = cxcywh_to_xyxy(torch.tensor([[0.6, 0.5, 0.4, 0.4]]))
    expected = torch.tensor([[10 * 0.5, 0.0, 5 * 0.6931472, 0.0]])
    torch.testing.assert_close(encode_offsets(box, anchor), expected, atol=1e-5, rtol=0)


def test_offsets_round_trip():
    anchors = xyxy_to_cxcywh(random_boxes(50).clamp(min=0.01) + torch.tensor([0, 0, 0.1, 0.1]))
    boxes = random_boxes(4, 50) + torch.tensor([0, 0, 0.01, 0.01])
    torch.testing.assert_close(decode_offsets(encode_offsets(boxes, anchors), anchors), boxes, atol=1e-5, rtol=1e-4)


def test_nothing_is_infinite():
    anchors = torch.tensor([[0.5, 0.5, 0.1, 0.1]])
    for bad in ([0.5, 0.5, 0.5, 0.5], [0.9, 0.9, 0.1, 0.1]):
        assert torch.isfinite(encode_offsets(torch.tensor([bad]), anchors)).all()
    wild = torch.tensor([[1e6, -1e6, 1e6, -1e6]])
    assert torch.isfinite(decode_offsets(wild, anchors)).all()
