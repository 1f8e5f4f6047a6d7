"""Run a network of face attributes over photos."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from apps.common.device import make_loader
from apps.common.evaluation.inference import join_logits
from apps.common.images import stack_images
from apps.common.training.distributed import Processes
from apps.faceattr.data.batches import make_eval_set
from apps.faceattr.model.tagger import Tagger


def predict_photos(
    tagger: Tagger,
    paths: Sequence[Path],
    *,
    name: str,
    batch_size: int,
    num_workers: int,
    progress: bool = True,
    processes: Processes = Processes(),  # noqa: B008
) -> Tensor:
    """Logits (N, A) float32, on the CPU, of face crops in their order.

    Each of the `processes` takes its share of the crops, and all get all logits.

    Args:
        name: what the progress bar calls them.

    Raises:
        ValueError: no photos, a photo that cannot be read, or logits that are not finite; the message names the photo.
    """
    mine, shown = processes.share(paths), progress and processes.is_first
    dataset = make_eval_set(mine, resolution=tagger.resolution)
    loader = make_loader(dataset, batch_size=batch_size, collate_fn=stack_images, num_workers=num_workers)
    logits = join_logits(tagger.logits, loader, mine, name=name, progress=shown)
    return torch.stack(processes.gather(list(logits), len(paths)))
