"""The pictures of a run: what a face is labelled with beside what is predicted, errors in red."""

import numpy as np
import torch

from apps.common.pictures import RIGHT, WRONG
from apps.common.training.run_log import RunLog
from apps.faceattr.data.load import load_split
from apps.faceattr.evaluation import pictures
from apps.faceattr.evaluation.pictures import HEIGHT, draw_train_batch, draw_val_batch
from tests.faceattr.blob_faces import draw_faces


def test_crops_and_faces_have_their_attributes_beside_them(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(pictures, "write_contact_sheet", lambda path, given: shown.append(list(given)))
    images = torch.full((3, 3, HEIGHT, HEIGHT), 90, dtype=torch.uint8)
    labels = torch.tensor([[1, 0], [-1, -1], [0, 0]], dtype=torch.int8)
    draw_train_batch(RunLog(tmp_path), ["Smiling", "Hat"], (images, labels, torch.zeros(3, 0)))
    assert all((picture[:, :HEIGHT] == 90).all() for picture in shown[0])
    assert len({picture.tobytes() for picture in shown[0]}) == 3
    split = load_split([str(draw_faces(tmp_path / "faces", each=4))], "val")
    logits = 9.0 * (2 * torch.from_numpy(split.labels == 1).float() - 1)
    draw_val_batch(tmp_path, split, logits)
    draw_val_batch(tmp_path, split, -logits)

    def has(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
        return bool((picture[:, HEIGHT:] == np.array(colour)).all(2).any())

    some = (split.labels == 1).any(1)
    assert [has(picture, RIGHT) for picture in shown[1]] == some.tolist()
    assert not any(has(picture, WRONG) for picture in shown[1])
    assert all(has(picture, WRONG) for picture in shown[2])
    assert not any(has(picture, RIGHT) for picture in shown[2])
