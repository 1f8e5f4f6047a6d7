"""Run a network of face attributes over photos."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from apps.common.evaluation.inference import predict_logits
from apps.faceattr.data.batches import make_eval_set
from apps.faceattr.model.tagger import Tagger


def predict_photos(tagger: Tagger, paths: Sequence[Path], **options: Any) -> Tensor:
    """Logits (N, A) float32, on the CPU, of face crops in their order; options and errors of `predict_logits`."""
    return predict_logits(tagger.logits, make_eval_set(paths, resolution=tagger.resolution), paths, **options)
