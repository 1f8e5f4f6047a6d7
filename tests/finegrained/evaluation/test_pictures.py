"""The pictures of a run show photos as the network sees them, and whether it is right."""

import numpy as np
import torch

from apps.common.pictures import RIGHT, WRONG
from apps.common.training.run_log import RunLog
from apps.finegrained.data.load import load_split
from apps.finegrained.data.mix import Mix
from apps.finegrained.evaluation import pictures
from apps.finegrained.evaluation.pictures import HEIGHT, draw_train_batch, draw_val_batch
from tests.finegrained.tiny_fruit import draw_fruit


def test_a_mixed_batch_is_shown_mixed(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(pictures, "write_contact_sheet", lambda path, given: shown.extend(given))
    images = torch.stack([torch.full((3, HEIGHT, HEIGHT), 50 * i, dtype=torch.uint8) for i in range(4)])
    draw_train_batch(RunLog(tmp_path), ["a", "b"], Mix(0.75, None), (images, torch.tensor([0, 1, 0, 1])))
    for i, picture in enumerate(shown):
        expected = round(0.75 * 50 * i + 0.25 * 50 * ((i - 1) % 4))
        assert picture.shape[1] > HEIGHT  # the classes are written beside it
        assert abs(picture[:, :HEIGHT].astype(int) - expected).max() <= 1
    assert len(shown) == 4


def test_a_wrong_guess_is_red(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(pictures, "write_contact_sheet", lambda path, given: shown.extend(given))
    split = load_split(str(draw_fruit(tmp_path, "val", each=1)), "val")
    right = torch.eye(3)[[photo.label for photo in split.photos]]
    draw_val_batch(tmp_path, split, 9 * torch.cat((right[:2], 1 - right[2:])))
    for picture, colour in zip(shown, (RIGHT, RIGHT, WRONG), strict=True):
        for one in (RIGHT, WRONG):
            assert (picture == np.array(one)).all(2).any() == (one == colour)
