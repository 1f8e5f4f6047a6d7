"""Name what photos show.

    python apps/finegrained/predict.py --checkpoint runs/finegrained/NAME/best --source photo.jpg
    python apps/finegrained/predict.py --checkpoint runs/finegrained/NAME/best --source photos/ --out guesses/ --cam

In Python:

    predict = Predictor("runs/finegrained/NAME/best")
    guesses = predict(image)
    for name, prob in guesses: ...
    if guesses.is_unknown: ...                         # it looks like none of the classes

Letters in shapes: B batch, H W of a photo, K classes.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from apps.common.checkpoint import model_folder
from apps.common.cli import run_command
from apps.common.html import encode_jpeg
from apps.common.images import read_image, stack_images
from apps.common.photos import find_photos
from apps.common.runtime import Runtime, device_for
from apps.common.tables import write_csv
from apps.finegrained.calibration import known_score
from apps.finegrained.cam import draw_activations
from apps.finegrained.classifier import Classifier
from apps.finegrained.data import to_square
from backbone.files import written_whole

BATCH_SIZE = 8  # photos in memory at once


class Guess(NamedTuple):
    """A class and its probability, 0 to 1."""

    name: str
    prob: float


class Guesses(list[Guess]):
    """What a photo may show, best first.

    Attributes:
        score: the best logit: how much the photo looks like any of the classes, see `calibration.known_score`.
        is_unknown: whether the score is below the checkpoint's threshold, so that the photo probably shows none of the
            classes; None if the checkpoint has no threshold (`eval.py --calibrate` gives it one).
    """

    def __init__(self, guesses: Iterable[Guess], *, score: float, is_unknown: bool | None) -> None:
        super().__init__(guesses)
        self.score = score
        self.is_unknown = is_unknown

    def __str__(self) -> str:
        names = ", ".join(f"{name} {prob:.2f}" for name, prob in self)
        return f"none of the classes; nearest are {names}" if self.is_unknown else names


class Predictor:
    """Names what photos of any size show, with calibrated probabilities.

    Args:
        checkpoint: a run of train.py or its best/.
        device: auto, cpu, cuda, mps.
        top: how many guesses to give, 1 or more; all classes if there are fewer.
        runtime: auto, torch, onnx, openvino: what computes, see `apps.common.runtime`.
        threads: on which to compute on a CPU; None for as many as torch uses.
    """

    def __init__(
        self,
        checkpoint: Path | str,
        *,
        device: str = "auto",
        top: int = 5,
        runtime: Runtime = "auto",
        threads: int | None = None,
    ) -> None:
        if top < 1:
            raise ValueError(f"top must be 1 or more, got {top}")
        self.classifier = Classifier.load(Path(checkpoint), device=device_for(runtime, device))
        self.classifier.use(runtime, folder=model_folder(Path(checkpoint)), threads=threads)
        self.top = top

    def __call__(self, image: np.ndarray) -> Guesses:
        """Guesses for an image (H, W, 3) uint8 RGB."""
        return self.batch([image])[0]

    def batch(self, images: Sequence[np.ndarray]) -> list[Guesses]:
        """Guesses for each of some images (H, W, 3) uint8 RGB, of any sizes, computed at once."""
        model = self.classifier
        squares = [to_square(image, model.resolution, model.crop) for image in images]
        return make_guesses(model, model.logits(stack_images(squares)), top=self.top) if squares else []

    def explain(self, image: np.ndarray, name: str | None = None) -> np.ndarray:
        """The part of an image (H, W, 3) that is looked at, with what speaks for a class in red: see `cam.overlay`.

        Args:
            name: of the class; None for the best guess.

        Raises:
            ValueError: the checkpoint has no such class.
        """
        names = self.classifier.class_names
        name = self(image)[0].name if name is None else name
        if name not in names:
            raise ValueError(f"no class {name!r}; the checkpoint has {', '.join(names[:5])}, ... ({len(names)} in all)")
        return draw_activations(self.classifier, image, [names.index(name)])[0]


def make_guesses(classifier: Classifier, logits: Tensor, *, top: int) -> list[Guesses]:
    """The `top` classes of each photo, from logits (B, K) of any device."""
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Name what photos show; a folder's guesses go to a CSV file."""

    checkpoint: Path
    """a run of train.py, or its best/"""
    source: Path
    """a photo, or a folder of photos"""
    top: int = 5
    """guesses for each photo"""
    cam: bool = False
    """draw where in each photo the best guess is seen: red speaks for it"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps"""
    runtime: Runtime = "auto"
    """what computes: the fastest installed, or torch, onnx (onnxruntime) or openvino; both are for CPUs"""
    threads: int | None = None
    """on which to compute on a CPU; default as many as torch uses"""
    out: Path = Path("guesses")
    """folder for guesses.csv and the pictures of --cam"""


def predict(config: Config) -> None:
    """Print the best guesses for each photo, and write them.

    Raises:
        ValueError: after all others are done, if photos could not be read; each is named as it comes, too.
    """
    predictor = Predictor(
        config.checkpoint, device=config.device, top=config.top, runtime=config.runtime, threads=config.threads
    )
    paths = find_photos(config.source)
    header = guess_header(predictor.classifier, config.top)
    rows: list[list[str]] = []
    problems: list[str] = []
    for group in _groups(paths):
        images, said = _read(group)
        answers = iter(predictor.batch(list(images.values())))
        for path in group:
            if path in said:
                print(f"{path}: skipped")
                rows.append([str(path), *[""] * len(header), said[path]])
                continue
            guesses = next(answers)
            print(f"{path}: {guesses}")
            rows.append([str(path), *guess_cells(guesses), ""])
            if config.cam:
                with written_whole(config.out / f"{path.name}.cam.jpg") as temporary:
                    temporary.write_bytes(encode_jpeg(predictor.explain(images[path], guesses[0].name)))
        problems += said.values()
    write_csv(config.out / "guesses.csv", ["file", *header, "problem"], rows)
    written = "guesses.csv and pictures are" if config.cam else "guesses.csv is"
    print(f"{written} in {config.out}; computed by {predictor.classifier.runtime}")
    if problems:
        more = f"; and {len(problems) - 3:,} more, see guesses.csv" if len(problems) > 3 else ""
        raise ValueError(f"{len(problems):,} of {len(paths):,} photos skipped: {'; '.join(problems[:3])}{more}")


def _groups(paths: Sequence[Path]) -> Iterator[Sequence[Path]]:
    for start in range(0, len(paths), BATCH_SIZE):
        yield paths[start : start + BATCH_SIZE]


def _read(paths: Iterable[Path]) -> tuple[dict[Path, np.ndarray], dict[Path, str]]:
    """The images that can be read, and what is wrong with the others."""
    images: dict[Path, np.ndarray] = {}
    problems: dict[Path, str] = {}
    for path in paths:
        try:
            images[path] = read_image(path)
        except ValueError as error:
            problems[path] = str(error)
    return images, problems


if __name__ == "__main__":
    run_command(predict, Config)
