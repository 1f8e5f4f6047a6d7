"""The loss of a student: labels, and the scores and boxes of a teacher with the same anchors.

Letters in shapes: B batch, A anchors, K classes, D distances.
"""

import torch.nn.functional as F

from apps.detection.loss.loss_sums import LossSums
from apps.detection.model.pyramid import PyramidOutput

FOCUS = 1.0  # power of |teacher's score - score| that weights a score's loss (BCKD)
SIDES_WEIGHT = 1.0  # of the sides' loss, relative to the scores'
OBJECT = 0.1  # teacher's best score above which an anchor's box counts


def distilled(labels: LossSums, output: PyramidOutput, taught: PyramidOutput, distill_weight: float) -> LossSums:
    """The loss of the labels, with weight 1 - `distill_weight`, and of a teacher's outputs for the same pixels.

    Quality focal loss (arXiv 2006.04388) towards the teacher's sigmoid scores, at all anchors and for each class alone
    (BCKD, arXiv 2308.14286), and the Kullback-Leibler divergence of the distributions of the four sides
    (localisation distillation, arXiv 2102.12252), weighted by the teacher's best score where it is above `OBJECT`. The
    divisor is the weighted mean of the labels' and of the sum of these scores, which predict the labels' qualities.
    """
    logits, theirs = (each["class_logits"][..., 1:].float() for each in (output, taught))  # (B, A, K)
    wanted = theirs.sigmoid()
    focus = (wanted - logits.sigmoid()).abs().pow(FOCUS)
    scores = (focus * F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")).sum()
    best = wanted.amax(dim=-1)  # (B, A)
    best = best * (best > OBJECT)
    mine, right = (each["side_logits"].float().log_softmax(dim=-1) for each in (output, taught))  # (B, A, 4, D)
    apart = F.kl_div(mine, right, reduction="none", log_target=True).sum(dim=-1).mean(dim=-1)
    rest = 1 - distill_weight
    return LossSums(
        classification=rest * labels.classification,
        box=rest * labels.box,
        divisor=rest * labels.divisor + distill_weight * best.sum(),
        teacher=distill_weight * (scores + SIDES_WEIGHT * (best * apart).sum()),
    )
