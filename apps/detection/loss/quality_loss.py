"""The loss of a head with one anchor per cell: quality focal loss, GIoU loss and distribution focal loss.

Letters in shapes: B batch, A anchors, K classes, P positive anchors, D distances.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from apps.detection.boxes.boxes import paired_giou, paired_iou
from apps.detection.choices import Assigner
from apps.detection.data.batches import Targets
from apps.detection.loss.assignment import Assignment, assign_aligned, assign_closest
from apps.detection.loss.loss_sums import LossSums
from apps.detection.model.pyramid import NUM_DISTANCES, PyramidOutput, decode_sides

BOX_WEIGHT = 2.0  # of the overlap's loss, relative to the scores'
SIDES_WEIGHT = 0.25  # of the distances' loss


class QualityLoss(nn.Module):
    """The loss of raw outputs for the boxes of a batch.

    Quality focal loss on the scores (Li et al., arXiv 2006.04388, equation 5): the target is the assigned quality, 0
    for other classes and for background, and large errors have the largest weight. Generalised IoU loss on the boxes
    (arXiv 1902.09630), and distribution focal loss on the distances of their sides (equation 6 of the first, minus its
    minimum, so that a perfect prediction has a loss of 0), both weighted by quality. The divisor is the sum of all
    qualities.

    Args:
        cells: (A,), side of each anchor's cell, in image sides.
        level_sizes: anchors of each level, finest first.
        assigner: "closest" (ATSS) or "aligned" (TOOD), see assignment.py.
    """

    cells: Tensor

    def __init__(self, cells: Tensor, level_sizes: Sequence[int], *, assigner: Assigner = "closest") -> None:
        super().__init__()
        self.register_buffer("cells", cells, persistent=False)
        self.level_sizes = level_sizes
        self.assigner = assigner

    def forward(self, output: PyramidOutput, anchors_cxcywh: Tensor, targets: Targets) -> LossSums:
        logits = output["class_logits"][..., 1:].float()  # (B, A, K)
        if not targets.labels.shape[1]:  # one box of padding, which nothing is assigned to
            targets = Targets(*(F.pad(t, (0, 0, 0, 1) if t.ndim == 3 else (0, 1)) for t in targets))
        found = self._assign(logits.detach(), output["side_logits"].detach(), anchors_cxcywh, targets)
        positive = found.labels > 0
        true_boxes, side_logits = found.boxes_xyxy[positive], output["side_logits"][positive].float()
        centres, cells = (t.expand(len(logits), -1, -1)[positive] for t in (anchors_cxcywh[:, :2], self.cells[:, None]))
        boxes = decode_sides(side_logits, centres, cells)  # (P, 4)
        quality = paired_iou(boxes.detach(), true_boxes) if found.quality is None else found.quality[positive]

        wanted = torch.zeros_like(logits)
        wanted[positive] = F.one_hot(found.labels[positive] - 1, logits.shape[2]) * quality[:, None]
        classification = _ScoreLoss.apply(logits, wanted, ~found.ignored)
        apart = 1 - paired_giou(boxes, true_boxes)  # (P,)
        sides = side_loss(side_logits, centres, cells, true_boxes)
        box = ((BOX_WEIGHT * apart + SIDES_WEIGHT * sides) * quality).sum()
        return LossSums(classification, box, quality.sum())

    def _assign(self, logits: Tensor, side_logits: Tensor, anchors_cxcywh: Tensor, targets: Targets) -> Assignment:
        if self.assigner == "closest":
            return assign_closest(anchors_cxcywh, targets, cells=self.cells, level_sizes=self.level_sizes)
        boxes = decode_sides(side_logits.float(), anchors_cxcywh[:, :2], self.cells[:, None])
        return assign_aligned(logits.sigmoid(), boxes, anchors_cxcywh, targets, cells=self.cells)


class _ScoreLoss(torch.autograd.Function):
    """Quality focal loss with the power of 2, the sum over all scores: (score - target)^2 times the cross-entropy.

    Its gradient is computed at once, in a third of the passes over memory that torch's would take.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
        """Of (B, A, K) logits and targets, 0 to 1, and (B, A) bool."""
        scores = logits.sigmoid()
        off = (scores - targets).mul_(counted[..., None])
        entropy = F.softplus(logits).addcmul_(logits, targets, value=-1)
        focus = off.square()
        slope = scores.addcmul_(scores, scores, value=-1).mul_(entropy).mul_(2).add_(focus).mul_(off)
        ctx.save_for_backward(slope)
        return focus.mul_(entropy).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return slope * gradient, None, None


def side_loss(side_logits: Tensor, centres: Tensor, cells: Tensor, boxes_xyxy: Tensor) -> Tensor:
    """Distribution focal loss of the distances: cross-entropy minus its minimum, mean of four sides.

    The target of a distance between two whole numbers of cells is distributed over both by linear interpolation; a
    distance beyond the largest is clamped.

    Args:
        side_logits: (P, 4, D), of left, top, right, bottom.
        centres: (P, 2), the anchors', in image sides.
        cells: (P, 1), side of the anchors' cells.
        boxes_xyxy: (P, 4), the true ones.

    Returns:
        (P,), 0 and more.
    """
    away = torch.cat((centres - boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - centres), dim=1) / cells  # (P, 4)
    away = away.clamp(0, NUM_DISTANCES - 1)
    distances = torch.arange(NUM_DISTANCES, device=away.device)
    wanted = (1 - (away[..., None] - distances).abs()).clamp(min=0)  # (P, 4, D), sums to 1
    return F.kl_div(side_logits.log_softmax(dim=-1), wanted, reduction="none").sum(dim=-1).mean(dim=-1)
