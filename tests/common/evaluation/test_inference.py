import math
from pathlib import Path

import numpy as np
import pytest
import torch

from apps.common.evaluation.inference import predict_logits
from apps.common.training.distributed import Processes

PATHS = [Path(f"{name}.png") for name in "abcde"]
IMAGES = [np.full((2, 3, 3), i, np.uint8) for i in range(5)]
HOW = {"name": "val", "batch_size": 2, "num_workers": 0, "progress": False}


def mean(images: torch.Tensor) -> torch.Tensor:
    assert images.dtype == torch.uint8 and images.shape[1:] == (3, 2, 3)
    return images.float().mean((1, 2, 3))[:, None]


def test_logits_are_joined_in_the_order_of_the_photos():
    joined = predict_logits(lambda images: (2 * mean(images)).half(), IMAGES, PATHS, **HOW)
    assert joined.dtype == torch.float32 and joined.tolist() == [[0], [2], [4], [6], [8]]


def test_processes_share_the_photos_out(monkeypatch):
    asked: dict[int, list[float]] = {}

    def gather(self, items, total):
        asked[self.rank] = [item.item() for item in items]
        return [torch.zeros(1)] * total

    monkeypatch.setattr(Processes, "gather", gather)
    for rank in (0, 1):
        assert predict_logits(mean, IMAGES, PATHS, processes=Processes(rank, 2), **HOW).shape == (5, 1)
    assert asked == {0: [0, 2, 4], 1: [1, 3]}


def test_no_photos_and_logits_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="val: no photos to evaluate"):
        predict_logits(mean, [], [], **HOW)
    for bad in (math.inf, math.nan):
        with pytest.raises(ValueError, match=r"not finite for 2 of 5 photos, first d\.png: train with a lower --lr"):
            predict_logits(
                lambda images, bad=bad: torch.where(mean(images) >= 3, bad, mean(images)), IMAGES, PATHS, **HOW
            )
