"""Boxes: formats, overlaps and the box coder. All functions take any leading dimensions.

Letters in shapes: N and M boxes, A anchors.
"""

import torch
from torch import Tensor

# The faster_rcnn box coder of the reference: offsets of centres are multiplied by 10, of log sizes by 5.
CENTRE_SCALE = 10.0
SIZE_SCALE = 5.0
MAX_LOG_RATIO = 4.0  # decoded boxes are at most e^4 = 55 times their anchor: no overflow from a wild offset


def cxcywh_to_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """(..., 4) centre and size to (..., 4) corners."""
    centre, size = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:]
    return torch.cat((centre - size / 2, centre + size / 2), dim=-1)


def xyxy_to_cxcywh(boxes_xyxy: Tensor) -> Tensor:
    """(..., 4) corners to (..., 4) centre and size."""
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return torch.cat(((low + high) / 2, high - low), dim=-1)


def box_area(boxes_xyxy: Tensor) -> Tensor:
    """(..., 4) to (...); 0 for a box of no or negative extent."""
    return (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=0).prod(dim=-1)


def box_intersection(boxes1_xyxy: Tensor, boxes2_xyxy: Tensor) -> Tensor:
    """Intersection area of each pair: (..., N, 4) and (..., M, 4) to (..., N, M)."""
    a, b = boxes1_xyxy.unsqueeze(-2), boxes2_xyxy.unsqueeze(-3)
    # one coordinate at a time: (..., N, M, 2) intermediates cost twice the memory traffic
    width = (torch.minimum(a[..., 2], b[..., 2]) - torch.maximum(a[..., 0], b[..., 0])).clamp_(min=0)
    height = (torch.minimum(a[..., 3], b[..., 3]) - torch.maximum(a[..., 1], b[..., 1])).clamp_(min=0)
    return width.mul_(height)


def box_iou(boxes1_xyxy: Tensor, boxes2_xyxy: Tensor) -> Tensor:
    """Intersection over union of each pair, 0 to 1: (..., N, 4) and (..., M, 4) to (..., N, M).

    Two boxes without area have an IoU of 0, not NaN.
    """
    shared = box_intersection(boxes1_xyxy, boxes2_xyxy)
    union = box_area(boxes1_xyxy).unsqueeze(-1) + box_area(boxes2_xyxy).unsqueeze(-2) - shared
    return shared / union.clamp(min=torch.finfo(union.dtype).tiny)


def encode_offsets(boxes_xyxy: Tensor, anchors_cxcywh: Tensor) -> Tensor:
    """The regression targets of anchors for their boxes; the inverse of `decode_offsets`.

    Args:
        boxes_xyxy: (..., A, 4), one for each anchor, in the anchors' units. Sides below 1e-6 count as 1e-6, so that
            no box gives an infinite target.
        anchors_cxcywh: (A, 4).

    Returns:
        (..., A, 4): x and y of the centre in anchor sizes times 10, log of the size ratio times 5.
    """
    boxes = xyxy_to_cxcywh(boxes_xyxy)
    centre = (boxes[..., :2] - anchors_cxcywh[..., :2]) / anchors_cxcywh[..., 2:]
    size = torch.log(boxes[..., 2:].clamp(min=1e-6) / anchors_cxcywh[..., 2:])
    return torch.cat((centre * CENTRE_SCALE, size * SIZE_SCALE), dim=-1)


def decode_offsets(offsets: Tensor, anchors_cxcywh: Tensor) -> Tensor:
    """Boxes (..., A, 4) as xyxy from predicted offsets (..., A, 4) and anchors (A, 4); see `encode_offsets`."""
    centre = offsets[..., :2] / CENTRE_SCALE * anchors_cxcywh[..., 2:] + anchors_cxcywh[..., :2]
    size = torch.exp((offsets[..., 2:] / SIZE_SCALE).clamp(max=MAX_LOG_RATIO)) * anchors_cxcywh[..., 2:]
    return cxcywh_to_xyxy(torch.cat((centre, size), dim=-1))


def paired_iou(boxes1_xyxy: Tensor, boxes2_xyxy: Tensor) -> Tensor:
    """Intersection over union of boxes one to one, 0 to 1: (..., 4) and (..., 4) to (...)."""
    return box_iou(boxes1_xyxy[..., None, :], boxes2_xyxy[..., None, :])[..., 0, 0]


def paired_giou(boxes1_xyxy: Tensor, boxes2_xyxy: Tensor) -> Tensor:
    """Generalised IoU of boxes one to one, -1 to 1: (..., 4) and (..., 4) to (...).

    IoU minus the share of the smallest enclosing box that neither covers (Rezatofighi et al., arXiv 1902.09630), so
    that disjoint boxes have a gradient, too. Boxes without area give a finite number.
    """
    tiny = torch.finfo(boxes1_xyxy.dtype).tiny
    (low1, high1), (low2, high2) = ((boxes[..., :2], boxes[..., 2:]) for boxes in (boxes1_xyxy, boxes2_xyxy))
    shared = (torch.minimum(high1, high2) - torch.maximum(low1, low2)).clamp(min=0).prod(dim=-1)
    union = box_area(boxes1_xyxy) + box_area(boxes2_xyxy) - shared
    around = (torch.maximum(high1, high2) - torch.minimum(low1, low2)).prod(dim=-1)
    return shared / union.clamp(min=tiny) - (around - union) / around.clamp(min=tiny)
