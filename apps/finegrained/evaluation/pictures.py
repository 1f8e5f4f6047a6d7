"""Pictures in a run's folder: a training batch, and predictions on val.

Letters in shapes: B batch, N photos, H W height and width, K classes.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from apps.common.data.photos import evenly_spaced
from apps.common.images import read_image, resize
from apps.common.pictures import INK, RIGHT, WRONG, beside, write_contact_sheet
from apps.common.training.run_log import TRAIN_BATCH, VAL_BATCH, RunLog
from apps.finegrained.data.load import LabelledSplit
from apps.finegrained.data.mix import Mix

HEIGHT, NUM_TRAIN, NUM_VAL = 160, 20, 15  # of a picture, pixels; pictures


def draw_train_batch(log: RunLog, class_names: Sequence[str], mix: Mix, batch: tuple[Tensor, Tensor]) -> None:
    """Write the run's train_batch.jpg, if it does not exist: images (B, 3, H, W), mixed, with their classes."""
    if not log.is_missing(TRAIN_BATCH):
        return
    images, labels = batch
    some = [len(images) - 1, *range(min(NUM_TRAIN, len(images)))]  # an image is mixed with the one before it
    mixed, shares = mix.images(images[some].float())[1:], mix.targets(labels[some], len(class_names))[1:]

    def draw(image: Tensor, of_classes: Tensor) -> np.ndarray:
        picture = image.byte().permute(1, 2, 0).contiguous().numpy()
        known = [(class_names[k], of_classes[k].item()) for k in of_classes.nonzero().flatten().tolist()]
        lines = [name if len(known) == 1 else f"{name} {share:.2f}" for name, share in known]
        picture = cv2.resize(picture, (HEIGHT, HEIGHT), interpolation=cv2.INTER_AREA)
        return beside(picture, [[(line, INK) for line in lines]])

    write_contact_sheet(log.folder / TRAIN_BATCH, map(draw, mixed, shares))


def draw_val_batch(run: Path, split: LabelledSplit, logits: Tensor) -> None:
    """Write the run's val_batch.jpg: photos of a split with their class and the predicted one (green if correct).

    Args:
        logits: (N, K), for all photos.
    """
    best = logits.softmax(1).max(1)

    def pictures() -> Iterator[np.ndarray]:
        for i in evenly_spaced(len(split.photos), NUM_VAL):
            photo, guess = split.photos[i], int(best.indices[i])
            image = read_image(photo.path)
            picture = resize(image, max(1, round(HEIGHT / image.shape[0] * image.shape[1])), HEIGHT)
            said = f"{split.class_names[guess]} {best.values[i]:.2f}"
            lines = [("labelled", INK), (split.class_names[photo.label], INK), ("predicted", INK)]
            yield beside(picture, [[*lines, (said, RIGHT if guess == photo.label else WRONG)]])

    write_contact_sheet(run / VAL_BATCH, pictures())
