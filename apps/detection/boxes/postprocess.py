"""From raw outputs to detections: scores, decoding and class-wise non-maximum suppression, without a class loop.

Letters in shapes: B batch, A anchors, K classes, D detections of an image.
"""

import dataclasses
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor

from apps.detection.boxes.boxes import decode_offsets
from apps.detection.boxes.nms import batched_nms
from apps.detection.choices import ScoreFunction


class RawOutput(TypedDict):
    """Raw outputs: `class_logits` (B, A, K + 1), background at index 0; `offsets` (B, A, 4), see boxes.py."""

    class_logits: Tensor
    offsets: Tensor


class Detections(NamedTuple):
    """The detections of one image, best first.

    Attributes:
        boxes_xyxy: (D, 4), clipped to the image; in image sides from `PostProcess`, in pixels from `Predictor`.
        scores: (D,), 0 to 1.
        labels: (D,) int64, 1 to K.
    """

    boxes_xyxy: Tensor
    scores: Tensor
    labels: Tensor


@dataclasses.dataclass(frozen=True)
class PostProcess:
    """Turn raw outputs into the detections of each image.

    Each anchor may report several classes, as in the reference. Only the `max_candidates` best (anchor, class)
    pairs of an image, over all classes, enter the suppression.

    Args:
        score_function: of the loss that the network was trained with.
        score_threshold: lower scores are dropped.
        nms_iou: of two boxes of one class that overlap more, the better one stays (reference: 0.6).
        max_detections: of an image, the best.
        max_candidates: of an image; bounds the time (docs/detection_recipe.md has its cost in AP: none).
    """

    score_function: ScoreFunction
    _: dataclasses.KW_ONLY
    score_threshold: float = 0.01
    nms_iou: float = 0.6
    max_detections: int = 100
    max_candidates: int = 400

    @torch.no_grad()
    def __call__(self, output: RawOutput, anchors_cxcywh: Tensor) -> list[Detections]:
        """One `Detections` for each image, boxes in image sides, 0 to 1."""
        scores = output["class_logits"].float()  # (B, A, K + 1)
        scores = scores.sigmoid() if self.score_function == "sigmoid" else scores.softmax(dim=-1)
        return [
            self._one_image(image_scores[:, 1:], image_offsets.float(), anchors_cxcywh)
            for image_scores, image_offsets in zip(scores, output["offsets"], strict=True)
        ]

    def _one_image(self, scores: Tensor, offsets: Tensor, anchors_cxcywh: Tensor) -> Detections:
        """Scores (A, K) and offsets (A, 4) to detections."""
        # The best pairs belong to the best anchors, so look for them among these only: A, then few times K, to sort.
        num_classes = scores.shape[1]
        best = scores.amax(dim=1).topk(min(self.max_candidates, len(scores)))
        anchors = best.indices[best.values > self.score_threshold]
        pair_scores = scores[anchors].flatten()
        top = pair_scores.topk(min(self.max_candidates, len(pair_scores)))
        pairs = top.indices[top.values > self.score_threshold]
        candidate_scores = top.values[: len(pairs)]

        anchors, labels = anchors[pairs // num_classes], pairs % num_classes + 1
        boxes = decode_offsets(offsets[anchors], anchors_cxcywh[anchors]).clamp(0, 1)
        keep = batched_nms(boxes, candidate_scores, labels, self.nms_iou)[: self.max_detections]
        return Detections(boxes[keep], candidate_scores[keep], labels[keep])
