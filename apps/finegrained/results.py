"""The results of predict: guesses, their table and their picture."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from apps.common.data.tables import write_csv
from apps.common.deploy.sessions import check_finite
from apps.common.media.cluster.table import Columns
from apps.common.pictures import RESULT_QUALITY, write_lines, write_picture
from apps.finegrained.model.classifier import Classifier, known_score


class Guess(NamedTuple):
    """A class and its probability, 0 to 1."""

    name: str
    prob: float


class Guesses(list[Guess]):
    """The guesses for a photo, best first.

    Attributes:
        score: the best logit: the score that the photo is of a known class, see `calibration.known_score`.
        is_unknown: whether the score is below the checkpoint's threshold, so that the photo probably shows none of the
            classes; None if the checkpoint has no threshold (`eval.py --calibrate` gives it one).
        image: the photo, (H, W, 3) uint8 RGB, if they are a Predictor's.
    """

    def __init__(
        self,
        guesses: Iterable[Guess],
        *,
        score: float,
        is_unknown: bool | None,
        image: np.ndarray | None = None,
    ) -> None:
        super().__init__(guesses)
        self.score = score
        self.is_unknown = is_unknown
        self.image = image

    def __str__(self) -> str:
        names = ", ".join(f"{name} {prob:.2f}" for name, prob in self)
        return f"none of the classes; nearest are {names}" if self.is_unknown else names

    def draw(self) -> np.ndarray:
        """The photo with the two best guesses."""
        if self.image is None:
            raise ValueError("these guesses have no photo to draw on: they are not a Predictor's")
        return draw(self.image, self)

    def save(self, path: Path | str) -> None:
        """Write the drawn photo; see `write_picture`."""
        write_picture(Path(path), self.draw(), quality=RESULT_QUALITY)

    def to_dict(self) -> dict[str, Any]:
        """Of plain types, as JSON has them."""
        return {"guesses": [one._asdict() for one in self], "score": self.score, "is_unknown": self.is_unknown}


def make_guesses(classifier: Classifier, logits: Tensor, *, top: int) -> list[Guesses]:
    """The `top` classes of each photo, from logits (B, K) of any device; ValueError if they are not finite."""
    check_finite(logits)
    threshold, names = classifier.unknown_threshold, classifier.class_names
    probs, classes = (logits.double().cpu() / classifier.temperature).softmax(1).topk(min(top, len(names)))
    return [
        Guesses(
            (Guess(names[k], prob) for k, prob in zip(some, of_some, strict=True)),
            score=score,
            is_unknown=None if threshold is None else score < threshold,
        )
        for some, of_some, score in zip(
            classes.tolist(), probs.tolist(), known_score(logits.cpu()).tolist(), strict=True
        )
    ]


def guess_header(classifier: Classifier, top: int) -> list[str]:
    """Names of the columns that `guess_cells` fills."""
    numbers = range(1, min(top, len(classifier.class_names)) + 1)
    return [*(f"{what}{i}" for i in numbers for what in ("class", "prob")), "score", "none_of_these"]


def guess_cells(guesses: Guesses) -> list[str]:
    """Names and probabilities, the score, and yes, no or nothing for "none of these"."""
    cells = [cell for name, prob in guesses for cell in (name, f"{prob:.6f}")]
    answer = {None: "", False: "no", True: "yes"}[guesses.is_unknown]
    return [*cells, f"{guesses.score:.6f}", answer]


def _fields() -> list[tuple[str, Any]]:
    """Names and Arrow's types of guesses, best first, the score, and whether it is none of them."""
    import pyarrow as pa

    guesses = pa.list_(pa.struct([("name", pa.string()), ("prob", pa.float64())]))
    return [("guesses", guesses), ("score", pa.float64()), ("is_unknown", pa.bool_())]


TABLE = Columns(_fields, Guesses.to_dict)


def write_labels(path: Path, labelled: Sequence[tuple[Path, Guesses]]) -> None:
    """Write the best guess for each photo as train.py reads it: columns file (as seen from the table), label.

    Photos of none of the classes are left out, and their number is printed.
    """
    known = [(photo, guesses) for photo, guesses in labelled if not guesses.is_unknown]
    rows = ([Path(os.path.relpath(photo, path.parent)).as_posix(), guesses[0].name] for photo, guesses in known)
    write_csv(path, ["file", "label"], rows, harmless=False)
    if left := len(labelled) - len(known):
        print(f"{path} is without {left:,} of {len(labelled):,} photos, which look like none of the classes")


def draw(image: np.ndarray, guesses: Guesses) -> np.ndarray:
    """A copy of an image (H, W, 3) RGB with the two best guesses on it."""
    lines = ["none of the classes"] if guesses.is_unknown else []
    return write_lines(image, [*lines, *(f"{name} {prob:.2f}" for name, prob in guesses[:2])])
