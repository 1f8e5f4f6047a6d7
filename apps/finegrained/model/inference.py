"""Run a classifier over photos."""

from collections.abc import Sequence

import torch
from torch import Tensor

from apps.common.device import make_loader
from apps.common.evaluation.inference import join_logits
from apps.common.images import stack_images
from apps.common.training.distributed import Processes
from apps.finegrained.data.batches import make_eval_set
from apps.finegrained.data.load import Photo
from apps.finegrained.model.classifier import Classifier


def predict_photos(
    classifier: Classifier,
    photos: Sequence[Photo],
    *,
    name: str,
    resolution: int | None = None,
    batch_size: int,
    num_workers: int,
    progress: bool = True,
    processes: Processes = Processes(),  # noqa: B008
) -> Tensor:
    """Logits (N, K) float32, on the CPU, of photos in their order; labels are ignored.

    Each of the `processes` takes its share of the photos, and all get all logits.

    Args:
        name: what the progress bar calls them.
        resolution: side of the square input in pixels; None for the classifier's.

    Raises:
        ValueError: no photos, a photo that cannot be read, or logits that are not finite; the message names the photo.
    """
    mine, shown = processes.share(photos), progress and processes.is_first
    dataset = make_eval_set(mine, resolution=resolution or classifier.resolution, crop=classifier.crop)
    loader = make_loader(dataset, batch_size=batch_size, collate_fn=stack_images, num_workers=num_workers)
    logits = join_logits(classifier.logits, loader, [photo.path for photo in mine], name=name, progress=shown)
    return torch.stack(processes.gather(list(logits), len(photos)))
