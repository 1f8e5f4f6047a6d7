"""A page that finds objects: in a photo, in front of the webcam, in a video, in many photos.

    python demos/detection.py                                            runs of yours, the bundled model, COCO's
    python demos/detection.py --checkpoint runs/detection/NAME/best
    python demos/detection.py --weights coco --backbone a100             the published detector first
    python demos/detection.py --host 0.0.0.0 --auth me:secret            for others, too

From Python, while it runs:

    from gradio_client import Client, handle_file
    picture, sentence, table = Client("http://127.0.0.1:7860").predict(handle_file("photo.jpg"), api_name="/detect")

Letters in shapes: H W height and width.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apps.common.choices import Runtime
from apps.common.cli import run_command
from demos.serving import THIS_MACHINE, ServerFlags


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Serve a page that finds objects."""

    checkpoint: Path | None = None
    """a run of train.py, or its best/: the model to begin with"""
    weights: str | None = None
    """begin with a published detector instead: coco, a TFLite detector's file, or a catalog name"""
    backbone: str = "a075"
    """width of --weights, and of the first COCO detector in the chooser"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps"""
    runtime: Runtime = "torch"
    """what computes: torch, onnx, openvino, or auto for the fastest installed, which takes a minute when first used"""
    server: ServerFlags = THIS_MACHINE


if __name__ == "__main__":  # above the slow imports: --help does not wait for torch
    run_command("demos.detection:main", Config)

import numpy as np

from apps.detection.predict import Found, Predictor, draw
from demos.chooser import Choice, Models, find_choices
from demos.serving import check_server, launch, private_room
from demos.task import Settings, Task, scaled
from demos.uploads import fit

if TYPE_CHECKING:
    import gradio as gr

LEAST_SCORE = 0.05
COCO_WIDTHS = ("a075", "a100")  # of the published detectors
MISSING = "There is no model yet: train one with `python apps/detection/train.py`, then start this page again."


class DetectionTask(Task):
    """See `task.Task`."""

    app, verb = "detection", "detect"
    tab = "Objects"
    title = "Find objects"
    lead = "Draws a box around each object that the model knows, with its name and score."
    threshold = ("Least score", LEAST_SCORE, 0.3)
    names_label = "Classes to show"
    option = None
    option_is_of_model = False
    columns = ("object", "class", "score", "x0", "y0", "x1", "y1")

    def names(self, predictor: Predictor) -> Sequence[str]:
        return predictor.detector.class_names

    def about(self, predictor: Predictor) -> str:
        detector = predictor.detector
        return f"{detector.backbone} at {detector.resolution} pixels, {len(detector.class_names)} classes"

    def computed_by(self, predictor: Predictor) -> str:
        return predictor.detector.runtime

    def find(self, predictor: Predictor, image: np.ndarray, settings: Settings) -> list[Found]:
        return [one for one in predictor(image) if settings.shows(one.name, one.score)]

    def draw(self, predictor: Predictor, image: np.ndarray, found: list[Found], settings: Settings) -> np.ndarray:
        picture, factor = fit(image, least=320)
        larger = [one._replace(box_xyxy_px=scaled(one.box_xyxy_px, factor)) for one in found]
        return draw(picture, larger)

    def say(self, found: list[Found]) -> str:
        counts = Counter(one.name for one in found)
        return f"Found: {', '.join(f'{n} {name}' for name, n in counts.items())}." if found else "Nothing found."

    def rows(self, found: list[Found]) -> list[list[Any]]:
        rows = [
            [i, one.name, round(one.score, 4), *(round(v, 1) for v in one.box_xyxy_px)]
            for i, one in enumerate(found, start=1)
        ]
        return rows or [[0, *[""] * (len(self.columns) - 1)]]

    def make_details(self) -> "gr.Dataframe":
        import gradio as gr

        return gr.Dataframe(
            headers=list(self.columns), label="Objects, boxes in pixels", interactive=False, max_height=140
        )

    def details(self, found: list[Found]) -> list[list[Any]]:
        return self.rows(found) if found else []


def make_models(
    *,
    checkpoint: Path | None = None,
    weights: str | None = None,
    backbone: str = "a075",
    device: str = "auto",
    runtime: Runtime = "torch",
) -> Models:
    """What the page offers. A model that was asked for is loaded, so that a mistake shows at once."""
    if checkpoint and weights:
        raise ValueError("give --checkpoint or --weights, not both")
    widths = dict.fromkeys((backbone, *COCO_WIDTHS))
    published = [Choice(f"published: COCO, {one}", None, "coco", one) for one in widths]
    choices = find_choices("detection", checkpoint=checkpoint, published=published)
    if weights == "coco":
        choices = [published[0], *(choice for choice in choices if choice is not published[0])]
    elif weights:
        choices.insert(0, Choice(f"given: {Path(weights).name}, {backbone}", None, weights, backbone))

    def load(choice: Choice, option: bool, runtime: Runtime) -> Predictor:
        if choice.checkpoint:
            return Predictor(choice.checkpoint, device=device, runtime=runtime, conf=LEAST_SCORE)
        name, width = choice.weights or "coco", choice.backbone
        return Predictor(weights=name, backbone=width, device=device, runtime=runtime, conf=LEAST_SCORE)

    models = Models(choices, load, missing=MISSING, runtime=runtime)
    if checkpoint or weights:
        with models.use(models.default):
            pass
    return models


def main(config: Config) -> None:
    """Serve the page until Ctrl-C."""
    from demos.page import make_page  # gradio takes seconds to import: not for --help

    check_server(config.server)
    private_room()
    models = make_models(
        checkpoint=config.checkpoint,
        weights=config.weights,
        backbone=config.backbone,
        device=config.device,
        runtime=config.runtime,
    )
    launch(make_page([(DetectionTask(), models)], title=DetectionTask.title), config.server)
