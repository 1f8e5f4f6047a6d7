import numpy as np
import torch

from apps.common.data.eval_set import EvalSet


def gray(value: int) -> np.ndarray:
    return np.full((4, 4, 3), value, np.uint8)


def test_items_are_read_in_their_order():
    dataset = EvalSet([3, 1, 2], gray)
    assert len(dataset) == 3
    assert [dataset[i].max() for i in range(3)] == [3, 1, 2]


def test_some_are_taken_at_equal_distances():
    dataset = EvalSet(range(10), gray)
    assert dataset.some(5)[:, 0, 0, 0].tolist() == [0, 2, 4, 6, 8]
    assert torch.equal(dataset.some()[:, 0, 0, 0], torch.arange(10, dtype=torch.uint8))
    assert dataset.some(5).shape == (5, 3, 4, 4)
