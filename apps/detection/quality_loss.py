"""The loss of a head with one anchor a cell: scores learn how good their boxes are, boxes learn their overlap.

Letters in shapes: B batch, A anchors, K classes, P positive anchors.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apps.common.distributed import Processes
from apps.detection.assignment import assign_aligned, assign_closest
from apps.detection.boxes import decode_offsets, paired_giou
from apps.detection.choices import Assigner
from apps.detection.loss import LossParts
from apps.detection.matching import Targets
from apps.detection.ssd import RawOutput

BOX_WEIGHT = 2.0  # of the overlap's loss, relative to the scores'
FOCUS = 2.0  # power of |wanted - score| that weighs a score's loss


class QualityLoss(nn.Module):
    """Compares raw outputs with the boxes of a batch.

    Quality focal loss on the scores (Li et al., arXiv 2006.04388, equation 5): a score is to be what the assignment
    says, 0 for other classes and for background; every anchor counts, those that are far off most. Generalised IoU loss
    on the boxes (arXiv 1902.09630), weighted by quality. Both are divided by the sum of all qualities in the batch, at
    least 1, so that no batch can divide by zero.

    Args:
        assigner: "closest" (ATSS) or "aligned" (TOOD), see assignment.py.
        processes: over which gradients are averaged; qualities are added up in all of them.
    """

    def __init__(self, assigner: Assigner = "closest", *, processes: Processes = Processes()) -> None:  # noqa: B008
        super().__init__()
        self.assigner = assigner
        self.processes = processes

    def forward(self, output: RawOutput, anchors_cxcywh: Tensor, targets: Targets) -> LossParts:
        logits = output["class_logits"][..., 1:].float()  # (B, A, K)
        boxes = decode_offsets(output["offsets"].float(), anchors_cxcywh)
        if not targets.labels.shape[1]:  # one box of padding, which nothing is assigned to
            targets = Targets(*(F.pad(t, (0, 0, 0, 1) if t.ndim == 3 else (0, 1)) for t in targets))
        scores = logits.detach().sigmoid()
        if self.assigner == "aligned":
            found = assign_aligned(scores, boxes.detach(), anchors_cxcywh, targets)
        else:
            sizes = anchors_cxcywh[:, 2].unique_consecutive(return_counts=True)[1].tolist()
            found = assign_closest(scores, boxes.detach(), anchors_cxcywh, targets, level_sizes=sizes)
        positive = found.labels > 0

        total_quality = self.processes.mean(found.quality.sum())
        normaliser = self.processes.at_least_one(total_quality)
        wanted = torch.zeros_like(logits)
        wanted[positive] = F.one_hot(found.labels[positive] - 1, logits.shape[2]) * found.quality[positive][:, None]
        weight = (wanted - logits.sigmoid()).abs().pow(FOCUS) * ~found.ignored[..., None]
        classification = (weight * F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")).sum()
        distance = 1 - paired_giou(boxes[positive], found.boxes_xyxy[positive])  # (P,)
        box = BOX_WEIGHT * (distance * found.quality[positive]).sum() / normaliser
        classification = classification / normaliser
        return LossParts(classification + box, classification, box, total_quality)
