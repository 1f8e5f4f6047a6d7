"""Run a classifier over photos."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from apps.common.evaluation.inference import predict_logits
from apps.finegrained.data.batches import make_eval_set
from apps.finegrained.data.load import Photo
from apps.finegrained.model.classifier import Classifier


def predict_photos(
    classifier: Classifier, photos: Sequence[Photo], *, resolution: int | None = None, **options: Any
) -> Tensor:
    """Logits (N, K) float32, on the CPU, of photos in their order; labels are ignored.

    Args:
        resolution: side of the square input in pixels; None for the classifier's.
        options: of `predict_logits`, which also raises the errors.
    """
    dataset = make_eval_set(photos, resolution=resolution or classifier.resolution, crop=classifier.crop)
    return predict_logits(classifier.logits, dataset, [photo.path for photo in photos], **options)
