"""The pictures of a run show boxes where the objects are."""

import cv2
import numpy as np
import torch

from apps.common.training.run_log import RunLog
from apps.detection.data.batches import Targets
from apps.detection.data.load import load_split
from apps.detection.evaluation import pictures
from apps.detection.evaluation.pictures import CROWD, FOUND, HEIGHT, OBJECT, draw_train_batch, draw_val_batch


def has_edge(picture: np.ndarray, colour: tuple[int, int, int], x: int, y: int) -> bool:
    """Whether a pixel at most one beside a place has a colour."""
    near = picture[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].reshape(-1, 3)
    return bool((near == colour).all(1).any())


def test_a_batch_with_its_boxes_is_drawn_once(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(pictures, "write_contact_sheet", lambda path, given: shown.append((path, list(given))))
    boxes = torch.tensor([[[0.25, 0.25, 0.75, 0.5], [0.5, 0.6, 0.9, 0.9], [0.0] * 4]])
    targets = Targets(boxes, torch.tensor([[1, 2, 0]]), torch.tensor([[False, True, False]]))
    images = torch.full((1, 3, 64, 64), 100, dtype=torch.uint8)
    draw_train_batch(RunLog(tmp_path), ["red", "blue"], (images, targets))
    ((path, (picture,)),) = shown
    assert path == tmp_path / "train_batch.jpg" and picture.shape == (HEIGHT, HEIGHT, 3)
    assert has_edge(picture, OBJECT, 60, 90) and has_edge(picture, OBJECT, 179, 90)
    assert has_edge(picture, CROWD, 120, 200) and not has_edge(picture, CROWD, 60, 90)
    assert tuple(picture[230, 10]) == (100, 100, 100)
    path.write_bytes(b"")
    draw_train_batch(RunLog(tmp_path), ["red", "blue"], (images, targets))
    draw_train_batch(RunLog(tmp_path / "other", writes=False), ["red", "blue"], (images, targets))
    assert len(shown) == 1


def test_val_has_the_truth_beside_the_best_that_is_found(tiny_coco, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(pictures, "write_contact_sheet", lambda path, given: shown.extend(given))
    split = load_split(tiny_coco, "val")
    first = split.records[0]
    found = {"image_id": first.image_id, "category_id": 3, "bbox": [10.0, 8.0, 40.0, 40.0], "score": 0.8}
    hidden = {**found, "category_id": 7, "score": 0.7, "bbox": [12.0, 8.0, 40.0, 40.0]}
    low = {**found, "bbox": [60.0, 20.0, 30.0, 30.0], "score": 0.2}
    draw_val_batch(tmp_path, split, [hidden, found, low], threshold=0.3, iou=0.6)
    assert len(shown) == len(split.records)
    width = shown[0].shape[1] // 2
    left, right = shown[0][:, :width], shown[0][:, width:]
    scale = HEIGHT / first.height
    x0, y0, x1, y1 = (round(v * scale) for v in first.boxes_xyxy_px[0])
    assert has_edge(left, OBJECT, x0, (y0 + y1) // 2) and has_edge(left, OBJECT, min(x1, width - 1), (y0 + y1) // 2)
    assert has_edge(right, FOUND, round(10 * scale), round(30 * scale))
    assert not has_edge(right, FOUND, round(52 * scale), round(30 * scale))  # the same object by another name
    assert not has_edge(right, FOUND, round(60 * scale), round(35 * scale))
    monkeypatch.undo()
    draw_val_batch(tmp_path, split, [], threshold=0.3, iou=0.6)
    assert cv2.imread(str(tmp_path / "val_batch.jpg")) is not None
