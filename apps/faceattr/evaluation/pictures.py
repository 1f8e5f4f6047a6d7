"""Pictures in a run's folder: a training batch, and predictions on val.

Letters in shapes: B batch, N photos, H W height and width, A attributes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from apps.common.data.photos import evenly_spaced
from apps.common.images import read_image
from apps.common.pictures import INK, RIGHT, WRONG, beside, write_contact_sheet
from apps.common.training.run_log import TRAIN_BATCH, VAL_BATCH, RunLog
from apps.faceattr.data.batches import to_square
from apps.faceattr.data.listing import UNKNOWN
from apps.faceattr.data.load import AttributeSplit

HEIGHT, NUM_TRAIN, NUM_VAL = 160, 20, 15  # of a picture, pixels; pictures


def draw_train_batch(log: RunLog, attributes: Sequence[str], batch: tuple[Tensor, Tensor, Tensor]) -> None:
    """Write the run's train_batch.jpg, if it does not exist: crops (B, 3, H, W) with their labelled attributes."""
    if not log.is_missing(TRAIN_BATCH):
        return
    images, labels, _ = batch

    def draw(i: int) -> np.ndarray:
        picture = cv2.resize(images[i].permute(1, 2, 0).numpy(), (HEIGHT, HEIGHT), interpolation=cv2.INTER_AREA)
        present = [name for name, label in zip(attributes, labels[i].tolist(), strict=True) if label == 1]
        lines = present or ["no labels" if (labels[i] == UNKNOWN).all() else "none of them"]
        return beside(picture, [[(line, INK) for line in lines]])

    write_contact_sheet(log.folder / TRAIN_BATCH, (draw(i) for i in range(min(NUM_TRAIN, len(images)))))


def draw_val_batch(run: Path, split: AttributeSplit, logits: Tensor) -> None:
    """Write the run's val_batch.jpg: faces of a split with their labelled and predicted attributes.

    Green attributes are both labelled and predicted, red ones only one of the two.

    Args:
        logits: (N, A), for all photos.
    """

    def pictures() -> Iterator[np.ndarray]:
        for i in evenly_spaced(len(split.paths), NUM_VAL):
            labels = dict(zip(split.attributes, split.labels[i].tolist(), strict=True))
            probs = dict(zip(split.attributes, logits[i].sigmoid().tolist(), strict=True))
            said = sorted((name for name in probs if probs[name] >= 0.5), key=lambda name: -probs[name])
            colours = {1: RIGHT, 0: WRONG, UNKNOWN: INK}
            left = [(name, RIGHT if name in said else WRONG) for name, label in labels.items() if label == 1]
            right = [(f"{name} {probs[name]:.2f}", colours[labels[name]]) for name in said]
            picture = to_square(read_image(split.paths[i]), HEIGHT)
            yield beside(picture, [[("labelled", INK), *left], [("predicted", INK), *right]])

    write_contact_sheet(run / VAL_BATCH, pictures())
