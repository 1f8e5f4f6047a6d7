"""Suppression beside torchvision's own."""

import subprocess
import sys

import pytest
import torch
from torchvision import ops

from apps.detection.boxes import nms as nms_module
from apps.detection.boxes.nms import batched_nms, nms

AFTER = """
import sys
import torch
from apps.detection.boxes.nms import nms
boxes, scores = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.9]]), torch.tensor([0.5, 0.6])
assert nms(boxes, scores, 0.5).tolist() == [1]
assert "torchvision" not in sys.modules
from torchvision import ops
assert ops.nms(boxes, scores, 0.5).tolist() == nms(boxes, scores, 0.5).tolist() == [1]
"""


def some_boxes(number: int, *, seed: int = 0):
    rng = torch.Generator().manual_seed(seed)
    corners = torch.rand(number, 2, generator=rng)
    boxes = torch.cat((corners, corners + 0.3 * torch.rand(number, 2, generator=rng)), dim=1)
    return boxes, torch.rand(number, generator=rng), torch.randint(1, 6, (number,), generator=rng)


@pytest.mark.parametrize("number", [0, 1, 300, 1000, 1001, 3000])
def test_the_same_boxes_are_kept_as_by_torchvision(number):
    boxes, scores, labels = some_boxes(number)
    assert torch.equal(nms(boxes, scores, 0.4), ops.nms(boxes, scores, 0.4))
    assert torch.equal(batched_nms(boxes, scores, labels, 0.4), ops.batched_nms(boxes, scores, labels, 0.4))
    assert number < 300 or len(nms(boxes, scores, 0.4)) < len(batched_nms(boxes, scores, labels, 0.4)) < number


def test_torchvision_is_not_imported_and_can_be_afterwards():
    done = subprocess.run([sys.executable, "-W", "error", "-c", AFTER], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_the_library_by_itself_torchvision_is_imported(monkeypatch):
    def refuse(path):
        raise OSError(f"{path} cannot be loaded")

    monkeypatch.setattr(torch.ops, "load_library", refuse)
    nms_module._operator.cache_clear()
    try:
        assert nms_module._operator() is ops.nms
    finally:
        nms_module._operator.cache_clear()
