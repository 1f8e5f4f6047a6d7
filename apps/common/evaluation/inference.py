"""Run a network over photos."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm


def join_logits(
    logits: Callable[[Tensor], Tensor], loader: Iterable[Tensor], paths: Sequence[Path], *, name: str, progress: bool
) -> Tensor:
    """Logits (N, K) float32, on the CPU, of photos in their order.

    Args:
        logits: from a batch of images to its logits.
        loader: batches of the images at `paths`.
        name: what the progress bar calls them.

    Raises:
        ValueError: no photos, a photo that cannot be read, or logits that are not finite; the message names the photo.
    """
    if not paths:
        raise ValueError(f"{name}: no photos to evaluate")
    bar = tqdm(loader, desc=f"evaluating {name}", leave=False, disable=None if progress else True)
    joined = torch.cat([logits(images).float().cpu() for images in bar])
    broken = (~joined.isfinite().all(1)).nonzero().flatten().tolist()
    if broken:
        raise ValueError(
            f"the checkpoint gives logits that are not finite for {len(broken):,} of {len(paths):,} photos, "
            f"first {paths[broken[0]]}: train with a lower --lr"
        )
    return joined
