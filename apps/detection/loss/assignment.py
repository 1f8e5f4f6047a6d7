"""Assignment of anchors to boxes, with a quality for each: for a head with one anchor per cell.

Letters in shapes: B batch, A anchors, K classes, N boxes of an image (padded to the largest count in the batch).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from apps.detection.boxes.boxes import box_iou, cxcywh_to_xyxy
from apps.detection.data.batches import Targets
from apps.detection.loss.matching import real_boxes, under_crowds
from apps.detection.model.pyramid import ANCHOR_CELLS, NUM_DISTANCES

TIE = 1e-6  # tolerance of IoUs: those of anchors around the whole box differ by rounding
CLOSEST = 9  # anchors of each level that are candidates of a box (ATSS)
REACH_IOU = 0.9  # that an assigned anchor must be able to reach with its box, if any anchor can
BEST = 13  # anchors of all levels, for a box (TOOD)
SCORE_POWER, IOU_POWER = 1.0, 6.0  # of the alignment (TOOD)


class Assignment(NamedTuple):
    """The targets of each anchor.

    Attributes:
        labels: (B, A) int64, the class 1 to K, 0 for background.
        boxes_xyxy: (B, A, 4), the box where the label is not 0, else arbitrary but finite.
        quality: (B, A), 0 to 1, the target score of the class; 0 for background. None: of each anchor the IoU of its
            predicted box with the true one.
        ignored: (B, A) bool, background anchors without loss.
    """

    labels: Tensor
    boxes_xyxy: Tensor
    quality: Tensor | None
    ignored: Tensor


@torch.no_grad()
def assign_closest(
    anchors_cxcywh: Tensor, targets: Targets, *, cells: Tensor, level_sizes: Sequence[int]
) -> Assignment:
    """ATSS: a box's candidates are the anchors closest to its centre, nine of each level.

    Positive are those whose IoU with the box is at least the candidates' mean plus standard deviation and whose centres
    are inside it (Zhang et al., arXiv 1912.02424, algorithm 1). The quality is left to the predictions.

    Beyond the paper: anchors from which a side is too far away to be predicted, see `_reaches`, are excluded; a box
    that would have none gets the anchor of highest IoU, of equal ones the closest.

    Args:
        anchors_cxcywh: (A, 4).
        cells: (A,), side of each anchor's cell, in image sides.
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
    reaches = _reaches(targets.boxes_xyxy, anchors_cxcywh, cells)
    chosen &= _holds(targets.boxes_xyxy, anchors_cxcywh) & reaches
    possible = iou.masked_fill(~reaches, -1.0)
    highest = possible >= possible.amax(-1, keepdim=True) - TIE
    nearest = distance.masked_fill(~highest, torch.inf).argmin(-1, keepdim=True)
    chosen |= torch.zeros_like(chosen).scatter_(-1, nearest, True) & ~chosen.any(-1, keepdim=True)
    owner, positive = _one_box_each(chosen & real[..., None], iou)
    return Assignment(*_labels(targets, owner, positive), None, under_crowds(targets, anchors_xyxy) & ~positive)


@torch.no_grad()
def assign_aligned(
    scores: Tensor, boxes_xyxy: Tensor, anchors_cxcywh: Tensor, targets: Targets, *, cells: Tensor
) -> Assignment:
    """Task alignment: a box gets the 13 anchors with the best combined prediction of its class and position.

    Alignment is score times IoU to the sixth power, among anchors whose centres are inside the box (for a box smaller
    than the finest cells, within a cell). Quality is the alignment, scaled for each box so that its maximum is the
    box's highest IoU. Feng et al. (TOOD), arXiv 2108.07755, section 3.2. Beyond the paper: anchors from which a side is
    too far away to be predicted, see `_reaches`, are excluded.

    Args:
        scores: (B, A, K), predicted, 0 to 1.
        boxes_xyxy: (B, A, 4), predicted.
        anchors_cxcywh: (A, 4).
        cells: (A,), side of each anchor's cell, in image sides.
    """
    real = real_boxes(targets)
    inside = _holds(targets.boxes_xyxy, anchors_cxcywh) & real[..., None]  # (B, N, A)
    possible = inside & _reaches(targets.boxes_xyxy, anchors_cxcywh, cells)
    inside = torch.where(possible.any(-1, keepdim=True), possible, inside)
    iou = box_iou(targets.boxes_xyxy, boxes_xyxy)
    classes = (targets.labels - 1).clamp(min=0)[:, None].expand(-1, scores.shape[1], -1)
    class_scores = scores.gather(2, classes).transpose(1, 2)  # (B, N, A)
    alignment = class_scores.pow(SCORE_POWER) * iou.pow(IOU_POWER)
    # If nothing is aligned yet, the overlap with the anchor decides instead of the anchors' order.
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
    """(B, N, A) bool: the anchor's centre is in the box, or within the width of the finest cells of its centre.

    The first anchor is of the finest level.
    """
    centre, half = _at_least_a_cell(boxes_xyxy, anchors_cxcywh[0, 2:] / ANCHOR_CELLS)
    half = half * (1 + 1e-4)  # a centre on a cell's corner stays so after rounding
    return ((anchors_cxcywh[:, :2] - centre[..., None, :]).abs() <= half[..., None, :]).all(-1)


def _at_least_a_cell(boxes_xyxy: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Centres and half sides (B, N, 2) of boxes, each side at least as long as a cell."""
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return (low + high) / 2, torch.maximum(high - low, cell) / 2


def _reaches(boxes_xyxy: Tensor, anchors_cxcywh: Tensor, cells: Tensor) -> Tensor:
    """(B, N, A) bool: whether an anchor can predict a box with an IoU of `REACH_IOU` with the true one.

    A side is at most `NUM_DISTANCES` - 1 cells away from the anchor's centre, and not beyond it. If no anchor reaches
    that IoU, those with this share of the best IoU are accepted. Boxes smaller than the finest cells are enlarged to
    these, as in `_holds`.

    Args:
        cells: (A,), side of each anchor's cell, in image sides.
    """
    centres, reach = anchors_cxcywh[:, :2], (NUM_DISTANCES - 1) * cells[:, None]
    middle, half = _at_least_a_cell(boxes_xyxy, cells[:1])
    low, high = (middle - half)[:, :, None], (middle + half)[:, :, None]
    start = torch.maximum(torch.minimum(low, centres), centres - reach)  # (B, N, A, 2), of the best prediction
    end = torch.minimum(torch.maximum(high, centres), centres + reach)
    common = (torch.minimum(high, end) - torch.maximum(low, start)).clamp(min=0).prod(-1)
    union = (high - low).prod(-1) + (end - start).prod(-1) - common
    iou = common / union.clamp(min=torch.finfo(union.dtype).tiny)
    best = iou.amax(-1, keepdim=True)
    return iou >= REACH_IOU * torch.where(best >= REACH_IOU, 1.0, best)


def _one_box_each(chosen: Tensor, iou: Tensor) -> tuple[Tensor, Tensor]:
    """The index (B, A) of each anchor's box, of several the one with the highest IoU, and whether there is one.

    Args:
        chosen: (B, N, A) bool.
        iou: (B, N, A).
    """
    best = iou.masked_fill(~chosen, -2.0).max(dim=1)
    return best.indices, chosen.any(dim=1)


def _labels(targets: Targets, owner: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (B, A) and boxes (B, A, 4) of an assignment."""
    boxes_xyxy = targets.boxes_xyxy.gather(1, owner[..., None].expand(-1, -1, 4))
    return targets.labels.gather(1, owner) * positive, boxes_xyxy
