"""The SSD loss: classification with hard negatives, and smooth L1 on the offsets of matched anchors.

SSD paper, section 2.2, equations 1 to 3; the sigmoid variant is the reference detector's.

Letters in shapes: B batch, A anchors, K classes, P positive anchors, M mined negatives.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apps.detection.boxes.boxes import encode_offsets
from apps.detection.boxes.postprocess import RawOutput
from apps.detection.choices import ScoreFunction
from apps.detection.data.batches import Targets
from apps.detection.loss.loss_sums import LossSums
from apps.detection.loss.matching import match_anchors


class SSDLoss(nn.Module):
    """The loss of raw outputs for the boxes of a batch.

    The classification loss is summed over the positive anchors and, in each image, `negative_ratio` times as many
    background anchors, those of highest loss. An image without objects counts as if it had one positive, so that
    `negative_ratio` of its background anchors are used. The divisor of both losses is the number of positives. No
    boxes lead to the logarithm of zero.

    Args:
        score_function: "sigmoid": each class on its own, as the reference; "softmax": one of K + 1, as the paper.
        negative_ratio: negatives per positive.
    """

    def __init__(self, score_function: ScoreFunction = "sigmoid", *, negative_ratio: int = 3) -> None:
        super().__init__()
        if score_function not in ("sigmoid", "softmax"):
            raise ValueError(f"score_function must be sigmoid or softmax, got {score_function!r}")
        self.score_function = score_function
        self.negative_ratio = negative_ratio

    def forward(self, output: RawOutput, anchors_cxcywh: Tensor, targets: Targets) -> LossSums:
        logits = output["class_logits"].float()  # (B, A, K + 1)
        match = match_anchors(anchors_cxcywh, targets)
        positive = match.labels > 0
        chosen = positive | self._hard_negatives(logits.detach(), positive, match.ignored)

        classification = self._cross_entropy(logits[chosen], match.labels[chosen]).sum()
        wanted = encode_offsets(match.boxes_xyxy, anchors_cxcywh)[positive]  # (P, 4)
        box = F.smooth_l1_loss(output["offsets"][positive].float(), wanted, reduction="sum")
        return LossSums(classification, box, positive.sum().float())

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(M, K + 1) and (M,) to (M,)."""
        if self.score_function == "softmax":
            return F.cross_entropy(logits, labels, reduction="none")
        # sum over classes of binary cross-entropy: softplus(x) - x * target, for a one-hot target
        return F.softplus(logits).sum(dim=-1) - logits.gather(-1, labels[..., None]).squeeze(-1)

    @torch.no_grad()
    def _hard_negatives(self, logits: Tensor, positive: Tensor, ignored: Tensor) -> Tensor:
        """(B, A) bool: in each image the background anchors of highest loss."""
        background = torch.zeros_like(positive, dtype=torch.int64)
        difficulty = self._cross_entropy(logits.flatten(0, 1), background.flatten()).view_as(background)
        difficulty = difficulty.masked_fill(positive | ignored, -torch.inf)
        allowed = positive.sum(dim=1).clamp(min=1) * self.negative_ratio  # (B,)
        most = min(int(allowed.max()), difficulty.shape[1])
        hardest = difficulty.topk(most, dim=1)
        within = torch.arange(most, device=logits.device) < allowed[:, None]
        usable = within & (hardest.values > -torch.inf)
        return torch.zeros_like(positive).scatter_(1, hardest.indices, usable)
