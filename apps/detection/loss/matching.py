"""Assignment of anchors to boxes: the SSD paper's matching (section 2.2), for a whole batch at once.

Letters in shapes: B batch, A anchors, N boxes of an image (padded to the largest count in the batch).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from apps.detection.boxes.boxes import box_area, box_intersection, box_iou, cxcywh_to_xyxy
from apps.detection.data.batches import Targets

MATCH_IOU = 0.5
IGNORE_COVERAGE = 0.5  # share of an anchor's area inside a crowd box from which it is not a negative


class Match(NamedTuple):
    """The targets of each anchor.

    Attributes:
        labels: (B, A) int64, the class 1 to K, 0 for background.
        boxes_xyxy: (B, A, 4), the box where the label is not 0, else arbitrary but finite.
        ignored: (B, A) bool, background anchors without loss.
    """

    labels: Tensor
    boxes_xyxy: Tensor
    ignored: Tensor


def match_anchors(anchors_cxcywh: Tensor, targets: Targets) -> Match:
    """Assign boxes to anchors (A, 4): IoU of 0.5 and more, and each box's best anchor whatever their IoU.

    An anchor gets the box it overlaps most; if several boxes have the same best anchor, the first one gets it, as in
    the reference. Boxes without area are never assigned.
    """
    anchors_xyxy = cxcywh_to_xyxy(anchors_cxcywh)
    batch, num_boxes = targets.labels.shape
    if num_boxes == 0:
        shape = (batch, len(anchors_cxcywh))
        return Match(
            targets.labels.new_zeros(shape),
            anchors_xyxy.expand(batch, -1, -1),
            torch.zeros(shape, dtype=torch.bool, device=anchors_cxcywh.device),
        )
    boxes = targets.boxes_xyxy
    real = real_boxes(targets)
    iou = box_iou(boxes, anchors_xyxy).masked_fill_(~real[..., None], -1.0)  # (B, N, A)

    best_iou, best_box = iou.max(dim=1)  # (B, A)
    best_anchor = iou.argmax(dim=2)  # (B, N)
    # Scatter each box's index to its best anchor; the smallest index wins, and num_boxes means no box.
    index = torch.arange(num_boxes, device=boxes.device).expand(batch, -1).masked_fill(~real, num_boxes)
    forced_box = torch.full_like(best_box, num_boxes).scatter_reduce_(1, best_anchor, index, "amin")
    forced = forced_box < num_boxes
    best_box = torch.where(forced, forced_box, best_box)

    positive = forced | (best_iou >= MATCH_IOU)
    labels = targets.labels.gather(1, best_box).masked_fill_(~positive, 0)
    matched_boxes = boxes.gather(1, best_box[..., None].expand(-1, -1, 4))

    return Match(labels, matched_boxes, under_crowds(targets, anchors_xyxy) & ~positive)


def real_boxes(targets: Targets) -> Tensor:
    """(B, N) bool: boxes to be detected; padding, crowds and boxes without area are not."""
    return (targets.labels > 0) & ~targets.is_crowd & (box_area(targets.boxes_xyxy) > 0)


def under_crowds(targets: Targets, anchors_xyxy: Tensor) -> Tensor:
    """(B, A) bool: anchors (A, 4) of which a crowd covers half or more."""
    crowd_boxes = targets.boxes_xyxy * targets.is_crowd[..., None]
    covered = box_intersection(crowd_boxes, anchors_xyxy).amax(dim=1) / box_area(anchors_xyxy)
    return covered >= IGNORE_COVERAGE
