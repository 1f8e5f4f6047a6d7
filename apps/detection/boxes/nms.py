"""Non-maximum suppression by torchvision's operator, without importing torchvision, which takes over a second.

Letters in shapes: N boxes of an image.
"""

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MOST_AT_ONCE_CPU, MOST_AT_ONCE = 1_000, 25_000  # boxes, on a CPU and elsewhere: torchvision's limits


def nms(boxes_xyxy: Tensor, scores: Tensor, iou: float) -> Tensor:
    """Indices of the boxes (N, 4) that no better one overlaps by more than `iou`, best first."""
    return _operator()(boxes_xyxy, scores, iou)


def batched_nms(boxes_xyxy: Tensor, scores: Tensor, labels: Tensor, iou: float) -> Tensor:
    """`nms` within each label (N,), equal to torchvision.ops.batched_nms.

    Few boxes are processed at once, after the boxes of each label are shifted apart; many are processed label by label.
    """
    if not len(boxes_xyxy):
        return torch.empty(0, dtype=torch.int64, device=boxes_xyxy.device)
    if len(boxes_xyxy) <= (MOST_AT_ONCE_CPU if boxes_xyxy.device.type == "cpu" else MOST_AT_ONCE):
        apart = labels.to(boxes_xyxy) * (boxes_xyxy.max() + 1)
        return nms(boxes_xyxy + apart[:, None], scores, iou)
    kept = []
    for label in labels.unique():
        indices = (labels == label).nonzero().flatten()
        kept.append(indices[nms(boxes_xyxy[indices], scores[indices], iou)])
    indices = torch.cat(kept).sort().values
    return indices[scores[indices].argsort(descending=True)]


@functools.cache
def _operator() -> Callable[..., Any]:
    """The operator from torchvision's library, loaded without torchvision, or from torchvision itself if that fails."""
    found = importlib.util.find_spec("torchvision")
    assert found is not None and found.origin is not None
    try:
        for path in Path(found.origin).parent.glob("_C*"):
            if path.suffix in (".so", ".pyd"):
                torch.ops.load_library(path)
        return torch.ops.torchvision.nms
    except (OSError, RuntimeError, AttributeError):
        from torchvision.ops import nms

        return nms
