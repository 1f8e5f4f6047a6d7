"""Run a network of face attributes over photos."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from apps.faceattr.data.batches import make_eval_loader
from apps.faceattr.model.tagger import Tagger


def predict_photos(
    tagger: Tagger, paths: Sequence[Path], *, name: str, batch_size: int, num_workers: int, progress: bool = True
) -> Tensor:
    """Logits (N, A) float32, on the CPU, of face crops in their order.

    Args:
        name: what the progress bar calls them.

    Raises:
        ValueError: no photos, a photo that cannot be read, or logits that are not finite; the message names the photo.
    """
    if not paths:
        raise ValueError(f"{name}: no photos to evaluate")
    loader = make_eval_loader(paths, resolution=tagger.resolution, batch_size=batch_size, num_workers=num_workers)
    bar = tqdm(loader, desc=f"evaluating {name}", leave=False, disable=None if progress else True)
    logits = torch.cat([tagger.logits(images).float().cpu() for images in bar])
    broken = (~logits.isfinite().all(1)).nonzero().flatten().tolist()
    if broken:
        raise ValueError(
            f"the checkpoint gives logits that are not finite for {len(broken):,} of {len(paths):,} photos, "
            f"first {paths[broken[0]]}: train with a lower --lr"
        )
    return logits
