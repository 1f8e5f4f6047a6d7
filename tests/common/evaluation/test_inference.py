import math
from pathlib import Path

import pytest
import torch

from apps.common.evaluation.inference import join_logits

PATHS = [Path(f"{name}.png") for name in "abcde"]


def batches() -> list[torch.Tensor]:
    return [torch.arange(5.0)[i : i + 2, None] for i in (0, 2, 4)]


def test_logits_are_joined_in_the_order_of_the_photos():
    joined = join_logits(lambda images: (2 * images).half(), batches(), PATHS, name="val", progress=False)
    assert joined.dtype == torch.float32 and joined.tolist() == [[0], [2], [4], [6], [8]]


def test_no_photos_and_logits_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="val: no photos to evaluate"):
        join_logits(lambda images: images, [], [], name="val", progress=False)
    for bad in (math.inf, math.nan):
        with pytest.raises(ValueError, match=r"not finite for 2 of 5 photos, first d\.png: train with a lower --lr"):
            join_logits(
                lambda images, bad=bad: torch.where(images >= 3, bad, images),
                batches(),
                PATHS,
                name="val",
                progress=False,
            )
