"""Scores, decoding and non-maximum suppression (NMS) as part of the network, for a file that gives finished boxes.

It computes what `postprocess.PostProcess` computes, with outputs of a fixed size.

Letters in shapes: B batch, A anchors, K classes, C candidates, D detections of an image.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from apps.detection.boxes.boxes import decode_offsets
from apps.detection.boxes.nms import nms
from apps.detection.boxes.postprocess import PostProcess
from apps.detection.model.create import Network

OUTPUTS = ("boxes_xyxy", "scores", "labels")


@torch.library.custom_op("mobilenet_apps::keep_best", mutates_args=())
def keep_best(boxes_xyxy: Tensor, scores: Tensor, iou: float, score: float, most: int) -> Tensor:
    """(B, C) float32: 1 for the boxes (B, C, 4) of an image that NMS keeps, at most `most`, else 0.

    Args:
        scores: (B, C); boxes at or below `score` are not kept.
        iou: boxes that overlap a better one by more than this are not kept.
    """
    keep = torch.zeros_like(scores)
    for one_boxes, one_scores, one_keep in zip(boxes_xyxy, scores, keep, strict=True):
        indices = (one_scores > score).nonzero().flatten()
        one_keep[indices[nms(one_boxes[indices], one_scores[indices], iou)[:most]]] = 1
    return keep


@keep_best.register_fake
def _(boxes_xyxy: Tensor, scores: Tensor, iou: float, score: float, most: int) -> Tensor:
    return torch.empty_like(scores)


def translations() -> Mapping[Callable, Callable]:
    """`keep_best` in ONNX's operators."""
    import onnxscript

    op: Any = onnxscript.opset20

    def translated(boxes_xyxy: Any, scores: Any, iou: float, score: float, most: int) -> Any:
        one_class = op.Unsqueeze(scores, op.Constant(value_ints=[1]))
        limits = (op.Constant(value_ints=[most]), op.Constant(value_floats=[iou]), op.Constant(value_floats=[score]))
        found = op.NonMaxSuppression(boxes_xyxy, one_class, *limits)  # rows of (image, class, box)
        indices = op.Gather(found, op.Constant(value_ints=[0, 2]), axis=1)
        nothing = op.Mul(scores, op.Constant(value_float=0.0))
        num_kept = op.Gather(op.Shape(indices), op.Constant(value_ints=[0]))
        return op.ScatterND(nothing, indices, op.Expand(op.Constant(value_float=1.0), num_kept))

    return {torch.ops.mobilenet_apps.keep_best.default: translated}


class EndToEnd(nn.Module):
    """A detector with decoding and NMS inside, for a file that gives finished boxes.

    Outputs: `boxes_xyxy` (B, D, 4) in image sides, `scores` (B, D), `labels` (B, D) int64; the best first, then padding
    of score 0 and label 0.
    """

    def __init__(self, network: Network, postprocess: PostProcess) -> None:
        super().__init__()
        self.network = network
        self.score_function = postprocess.score_function
        self.nms_iou = postprocess.nms_iou
        self.score_threshold = postprocess.score_threshold
        num_anchors, num_classes = len(network.anchors_cxcywh), network.num_classes
        self.num_best = min(postprocess.max_candidates, num_anchors)
        self.num_candidates = min(postprocess.max_candidates, self.num_best * num_classes)
        self.num_detections = min(postprocess.max_detections, self.num_candidates)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        output = self.network(images)
        logits = output["class_logits"]
        scores = (logits.sigmoid() if self.score_function == "sigmoid" else logits.softmax(-1))[..., 1:]
        num_classes = self.network.num_classes
        best = scores.amax(-1).topk(self.num_best).indices  # (B, best anchors): `PostProcess._one_image` says why
        pairs = scores.gather(1, best[..., None].expand(-1, -1, num_classes)).flatten(1)
        top = pairs.topk(self.num_candidates)
        labels = top.indices % num_classes + 1  # (B, C)
        anchors = best.gather(1, top.indices // num_classes)
        offsets = output["offsets"].gather(1, anchors[..., None].expand(-1, -1, 4))
        boxes = decode_offsets(offsets, self.network.anchors_cxcywh[anchors]).clamp(0, 1)
        apart = boxes + (2 * labels)[..., None]  # boxes of different classes do not overlap
        keep = keep_best(apart, top.values, self.nms_iou, self.score_threshold, self.num_detections)
        kept = (top.values * keep).topk(self.num_detections)
        return {
            "boxes_xyxy": boxes.gather(1, kept.indices[..., None].expand(-1, -1, 4)) * (kept.values > 0)[..., None],
            "scores": kept.values,
            "labels": labels.gather(1, kept.indices) * (kept.values > 0),
        }

    def extra_repr(self) -> str:
        return f"{self.score_function}, {self.nms_iou}, {self.score_threshold}, {self.num_detections}"
