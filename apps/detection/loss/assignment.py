"""Which anchors are assigned to which box, and the quality of each: for a head with one anchor a cell.

Letters in shapes: B batch, A anchors, K classes, N boxes of an image (padded to the largest count in the batch).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from apps.detection.boxes.boxes import box_iou, cxcywh_to_xyxy
from apps.detection.data.batches import Targets
from apps.detection.loss.matching import real_boxes, under_crowds
from apps.detection.model.pyramid import ANCHOR_CELLS

CLOSEST = 9  # anchors of each level, to a box (ATSS)
BEST = 13  # anchors of all levels, for a box (TOOD)
SCORE_POWER, IOU_POWER = 1.0, 6.0  # of the alignment (TOOD)


class Assignment(NamedTuple):
    """What each anchor is to predict.

    Attributes:
        labels: (B, A) int64, the class 1 to K, 0 for background.
        boxes_xyxy: (B, A, 4), the box where the label is not 0, else arbitrary but finite.
        quality: (B, A), 0 to 1, the score that the class is to have; 0 for background.
        ignored: (B, A) bool, background anchors that count for nothing.
    """

    labels: Tensor
    boxes_xyxy: Tensor
    quality: Tensor
    ignored: Tensor


@torch.no_grad()
def assign_closest(
    scores: Tensor, boxes_xyxy: Tensor, anchors_cxcywh: Tensor, targets: Targets, *, level_sizes: Sequence[int]
) -> Assignment:
    """ATSS: a box's candidates are the anchors closest to its centre, nine of each level.

    Of these it takes the ones whose IoU with it is at least their mean plus their standard deviation and whose centres
    it holds, and always the one of highest IoU. Quality is the IoU of the predicted with the true box. Zhang et al.,
    arXiv 1912.02424, section 3.

    Args:
        scores: (B, A, K), not used; here so that all assigners are called alike.
        boxes_xyxy: (B, A, 4), predicted.
        anchors_cxcywh: (A, 4).
        level_sizes: anchors of each level.
    """
    real = real_boxes(targets)
    anchors_xyxy = cxcywh_to_xyxy(anchors_cxcywh)
    iou = box_iou(targets.boxes_xyxy, anchors_xyxy).masked_fill_(~real[..., None], -1.0)  # (B, N, A)
    centres = (targets.boxes_xyxy[..., :2] + targets.boxes_xyxy[..., 2:]) / 2
    distance = torch.cdist(centres, anchors_cxcywh[:, :2].expand(len(centres), -1, -1))
    closest, start = [], 0
    for size in level_sizes:
        level = distance[..., start : start + size].topk(min(CLOSEST, size), dim=-1, largest=False)
        closest.append(level.indices + start)
        start += size
    candidates = torch.cat(closest, dim=-1)  # (B, N, C)
    overlap = iou.gather(-1, candidates)
    enough = overlap >= overlap.mean(-1, keepdim=True) + overlap.std(-1, keepdim=True)
    chosen = torch.zeros_like(iou, dtype=torch.bool).scatter_(-1, candidates, enough)
    chosen &= _holds(targets.boxes_xyxy, anchors_cxcywh)
    chosen.scatter_(-1, iou.argmax(-1, keepdim=True), True)
    owner, positive = _one_box_each(chosen & real[..., None], iou)
    true_boxes = _gather(targets.boxes_xyxy, owner)
    quality = _pairwise_iou(boxes_xyxy, true_boxes) * positive
    return Assignment(*_labels(targets, owner, positive), quality, under_crowds(targets, anchors_xyxy) & ~positive)


@torch.no_grad()
def assign_aligned(scores: Tensor, boxes_xyxy: Tensor, anchors_cxcywh: Tensor, targets: Targets) -> Assignment:
    """Task alignment: a box takes the 13 anchors that already predict its class and position best, taken together.

    Alignment is score times IoU to the sixth power, among anchors whose centres the box holds (a box smaller than the
    finest cells holds those within a cell). Quality is the alignment, scaled for each box so that its highest is the
    box's highest IoU. Feng et al. (TOOD), arXiv 2108.07755, section 3.2.

    Args:
        scores: (B, A, K), predicted, 0 to 1.
        boxes_xyxy: (B, A, 4), predicted.
        anchors_cxcywh: (A, 4).
    """
    real = real_boxes(targets)
    inside = _holds(targets.boxes_xyxy, anchors_cxcywh) & real[..., None]  # (B, N, A)
    iou = box_iou(targets.boxes_xyxy, boxes_xyxy)
    classes = (targets.labels - 1).clamp(min=0)[:, None].expand(-1, scores.shape[1], -1)
    class_scores = scores.gather(2, classes).transpose(1, 2)  # (B, N, A)
    alignment = class_scores.pow(SCORE_POWER) * iou.pow(IOU_POWER)
    # Where nothing is aligned yet the anchors' own order would decide: let it be the overlap with the anchor instead.
    anchors_xyxy = cxcywh_to_xyxy(anchors_cxcywh)
    alignment = alignment + 1e-9 * box_iou(targets.boxes_xyxy, anchors_xyxy)
    best = alignment.masked_fill(~inside, -1.0).topk(min(BEST, inside.shape[-1]), dim=-1)
    chosen = torch.zeros_like(inside).scatter_(-1, best.indices, best.values > 0)
    owner, positive = _one_box_each(chosen, torch.where(chosen, iou, -1.0))
    mine = torch.zeros_like(chosen).scatter_(1, owner[:, None], positive[:, None])  # (B, N, A)
    most_aligned = (alignment * mine).amax(-1, keepdim=True).clamp(min=torch.finfo(iou.dtype).tiny)
    quality = (alignment * mine / most_aligned * (iou * mine).amax(-1, keepdim=True)).amax(1)
    return Assignment(*_labels(targets, owner, positive), quality, under_crowds(targets, anchors_xyxy) & ~positive)


def _holds(boxes_xyxy: Tensor, anchors_cxcywh: Tensor) -> Tensor:
    """(B, N, A) bool: the anchor's centre is in the box, or no further from its centre than the finest cells are wide.

    The first anchor is of the finest level.
    """
    cell = anchors_cxcywh[0, 2:] / ANCHOR_CELLS
    centre, size = (boxes_xyxy[..., :2] + boxes_xyxy[..., 2:]) / 2, boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]
    reach = torch.maximum(size, cell) / 2 * (1 + 1e-4)  # a centre on a cell's corner stays so after rounding
    return ((anchors_cxcywh[:, :2] - centre[..., None, :]).abs() <= reach[..., None, :]).all(-1)


def _one_box_each(chosen: Tensor, iou: Tensor) -> tuple[Tensor, Tensor]:
    """Where several boxes chose an anchor, the one it overlaps most: index of the box (B, A), and whether there is one.

    Args:
        chosen: (B, N, A) bool.
        iou: (B, N, A).
    """
    best = iou.masked_fill(~chosen, -2.0).max(dim=1)
    return best.indices, chosen.any(dim=1)


def _gather(boxes_xyxy: Tensor, owner: Tensor) -> Tensor:
    """(B, N, 4) and (B, A) to (B, A, 4)."""
    return boxes_xyxy.gather(1, owner[..., None].expand(-1, -1, 4))


def _labels(targets: Targets, owner: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (B, A) and boxes (B, A, 4) of an assignment."""
    return targets.labels.gather(1, owner) * positive, _gather(targets.boxes_xyxy, owner)


def _pairwise_iou(boxes1_xyxy: Tensor, boxes2_xyxy: Tensor) -> Tensor:
    """(..., 4) and (..., 4) to (...)."""
    return box_iou(boxes1_xyxy[..., None, :], boxes2_xyxy[..., None, :])[..., 0, 0]
