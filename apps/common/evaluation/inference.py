"""Run a network over photos."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset
from tqdm import tqdm

from apps.common.device import make_loader
from apps.common.images import stack_images
from apps.common.training.distributed import Processes


def predict_logits(
    logits: Callable[[Tensor], Tensor],
    dataset: Dataset,
    paths: Sequence[Path],
    *,
    name: str,
    batch_size: int,
    num_workers: int,
    progress: bool = True,
    processes: Processes = Processes(),  # noqa: B008
) -> Tensor:
    """Logits (N, K) float32, on the CPU, of photos in their order.

    Each of the `processes` runs its share of the photos, and all get all logits.

    Args:
        logits: from a batch of images (B, 3, H, W) uint8 to its logits.
        dataset: the images (H, W, 3) uint8 of the photos at `paths`.
        name: the title of the progress bar.

    Raises:
        ValueError: no photos, a photo that cannot be read, or logits that are not finite; the message names the photo.
    """
    mine = processes.share(range(len(paths)))
    if not mine:
        raise ValueError(f"{name}: no photos to evaluate")
    loader = make_loader(Subset(dataset, mine), batch_size=batch_size, collate_fn=stack_images, num_workers=num_workers)
    shown = progress and processes.is_first
    bar = tqdm(loader, desc=f"evaluating {name}", leave=False, disable=None if shown else True)
    joined = torch.cat([logits(images).float().cpu() for images in bar])
    broken = (~joined.isfinite().all(1)).nonzero().flatten().tolist()
    if broken:
        raise ValueError(
            f"the checkpoint gives logits that are not finite for {len(broken):,} of {len(mine):,} photos, "
            f"first {paths[mine[broken[0]]]}: train with a lower --lr"
        )
    return torch.stack(processes.gather(list(joined), len(paths)))
