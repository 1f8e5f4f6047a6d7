"""A page that classifies: a photo, in front of the webcam, a video, many photos.

    python demos/finegrained.py                                          your runs, ImageNet's, birds, the bundled one
    python demos/finegrained.py --checkpoint runs/finegrained/NAME/best
    python demos/finegrained.py --host 0.0.0.0 --auth me:secret          for others, too

From Python, while it runs:

    from gradio_client import Client, handle_file
    client = Client("http://127.0.0.1:7860")
    picture, sentence, bars = client.predict(handle_file("photo.jpg"), heatmap=True, api_name="/classify")

Letters in shapes: H W height and width.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apps.common.cli import run_command
from demos.serving import THIS_MACHINE, USUAL_COMPUTING, ComputingFlags, ServerFlags


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Serve a page that classifies photos.

    example: python demos/finegrained.py --checkpoint runs/finegrained/NAME/best
    """

    checkpoint: Path | None = None
    """run of train.py, its best/ folder, a file of export.py, or last (the newest finished): the first model shown;
    default the newest or published ones"""
    weights: str | None = None
    """published classifier as the first model, instead of --checkpoint: imagenet, cub (200 birds), a catalog name
    or a weight file; default none"""
    backbone: str = "a100"
    """width of --weights"""
    computing: ComputingFlags = USUAL_COMPUTING
    server: ServerFlags = THIS_MACHINE


if __name__ == "__main__":  # above the slow imports: --help does not wait for torch
    run_command("demos.finegrained:main", Config)

import gradio as gr
import numpy as np

from apps.finegrained.predict import Predictor
from apps.finegrained.results import Guesses, draw
from demos.page import serve
from demos.task import Choice, Settings, Task
from demos.uploads import fit

PUBLISHED = {"imagenet": "ImageNet, 1000 classes, a100", "cub": "CUB, 200 birds, a100"}
ALL = 10_000  # guesses: those of all classes, of which the page shows some
TOP = 5


class FinegrainedTask(Task):
    """See `task.Task`."""

    app, verb = "finegrained", "classify"
    metric = ("top1", "top-1")
    tab = "Classes"
    title = "Classify photos"
    lead = "Classifies the central square of a picture, and shows the most probable classes."
    threshold = ("Minimum probability", 0.0, 0.01)
    names_label, names_info = "Classes to show", "All classes, or those you choose"
    option = ("heatmap", "Heat map", "red is evidence for the best class shown")
    option_is_of_model = False
    columns = (*(f"{what}{i}" for i in range(1, TOP + 1) for what in ("class", "prob")), "score", "none_of_these")

    def published(self, backbone: str) -> list[Choice]:
        imagenet, cub = PUBLISHED.items()
        return [
            Choice(f"published: {imagenet[1]}", None, imagenet[0], "a100", "photos", ("timm-a100",)),
            Choice(f"published: {cub[1]}", None, cub[0], "a100"),
        ]

    def load(self, option: bool, **source: Any) -> Predictor:
        return Predictor(**source, top=ALL)

    def names(self, predictor: Predictor) -> Sequence[str]:
        return predictor.classifier.class_names

    def about(self, predictor: Predictor) -> str:
        model = predictor.classifier
        return f"{model.backbone} at {model.resolution} pixels, {len(model.class_names)} classes"

    def computed_by(self, predictor: Predictor) -> str:
        return predictor.classifier.session.name

    def find(self, predictor: Predictor, image: np.ndarray, settings: Settings) -> Guesses:
        every = predictor(image)
        shown = [guess for guess in every if settings.shows(guess.name, guess.prob)]
        return Guesses(shown[:TOP], score=every.score, is_unknown=every.is_unknown)

    def draw(self, predictor: Predictor, image: np.ndarray, found: Guesses, settings: Settings) -> np.ndarray:
        if settings.option and found:
            image = predictor.explain(image, found[0].name)
        return draw(fit(image, least=640)[0], found)

    def say(self, found: Guesses) -> str:
        if found.is_unknown:
            return "It looks like none of the known classes."
        if not found:
            return "None of the chosen classes is above the minimum probability."
        return f"It looks like {found[0].name} ({found[0].prob:.0%})."

    def rows(self, found: Guesses) -> list[list[Any]]:
        cells = [cell for name, prob in found for cell in (name, round(prob, 6))]
        answer = {None: "", False: "no", True: "yes"}[found.is_unknown]
        return [[*cells, *[""] * (2 * TOP - len(cells)), round(found.score, 6), answer]]

    def make_details(self, value: Any = None) -> gr.Label:
        return gr.Label(value, label="Classes and their probabilities", num_top_classes=TOP, show_heading=False)

    def details(self, found: Guesses) -> dict[str, float]:
        return {name: prob for name, prob in found}


def main(config: Config) -> None:
    """Serve the page until Ctrl-C."""
    asked = {"checkpoint": config.checkpoint, "weights": config.weights, "backbone": config.backbone}
    serve(FinegrainedTask.title, [(FinegrainedTask(), asked)], config.computing, config.server)
