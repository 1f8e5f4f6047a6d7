"""albumentations for all apps: imported when used, with random numbers from our generators."""

import os
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import albumentations as A


def import_albumentations() -> Any:
    """The library, without its check for a newer version on the network; the import takes two seconds."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # read when it is imported
    import albumentations

    return albumentations


def changed(image: np.ndarray, changes: "A.Compose", rng: np.random.Generator) -> np.ndarray:
    """An image (H, W, 3) uint8 after random changes that are a function of `rng` alone."""
    changes.set_random_seed(int(rng.integers(2**31)))
    return changes(image=image)["image"]
