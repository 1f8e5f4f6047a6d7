"""A page that detects objects: in a photo, in front of the webcam, in a video, in many photos.

    python demos/detection.py                                            your runs, COCO's, the bundled model
    python demos/detection.py --checkpoint runs/detection/NAME/best
    python demos/detection.py --weights coco --backbone a100             the published detector first
    python demos/detection.py --host 0.0.0.0 --auth me:secret            for others, too

From Python, while it runs:

    from gradio_client import Client, handle_file
    picture, sentence, table = Client("http://127.0.0.1:7860").predict(handle_file("photo.jpg"), api_name="/detect")

Letters in shapes: H W height and width.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apps.common.cli import run_command
from demos.serving import THIS_MACHINE, USUAL_COMPUTING, ComputingFlags, ServerFlags


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Serve a page that detects objects.

    example: python demos/detection.py --checkpoint runs/detection/NAME/best
    """

    checkpoint: Path | None = None
    """run of train.py, its best/ folder, a file of export.py, or last (the newest finished): the first model shown;
    default the newest or published ones"""
    weights: str | None = None
    """published detector as the first model, instead of --checkpoint: coco, a TFLite detector's file, or a catalog
    name; default none"""
    backbone: str = "a075"
    """width of --weights, and of the first COCO detector in the chooser"""
    computing: ComputingFlags = USUAL_COMPUTING
    server: ServerFlags = THIS_MACHINE


if __name__ == "__main__":  # above the slow imports: --help does not wait for torch
    run_command("demos.detection:main", Config)

import gradio as gr
import numpy as np

from apps.detection.predict import Predictor
from apps.detection.results import Found, draw, one_name_each
from demos.page import serve
from demos.task import Choice, Settings, Task, counted, make_table, scaled
from demos.uploads import fit

LEAST_SCORE = 0.05
MOST_CANDIDATES, MOST_SHOWN = 400, 100  # boxes, before and after each object has one name
COCO_FILES = {"a075": ("coco-a075", "coco-a075-tflite"), "a100": ("coco-a100",)}  # the catalog's names, by width


class DetectionTask(Task):
    """See `task.Task`."""

    app, verb = "detection", "detect"
    metric = ("AP", "AP")
    tab = "Objects"
    title = "Find objects"
    lead = "Draws a box around each object that the model knows, with its name and score."
    threshold = ("Minimum score", LEAST_SCORE, 0.3)
    names_label, names_info = "Classes to show", "All classes, or those you choose"
    option = None
    option_is_of_model = False
    columns = ("object", "class", "score", "x0", "y0", "x1", "y1")

    def published(self, backbone: str) -> list[Choice]:
        widths = dict.fromkeys((backbone, *COCO_FILES))
        return [
            Choice(f"published: COCO, {one}", None, "coco", one, "photos", COCO_FILES.get(one, ())) for one in widths
        ]

    def load(self, option: bool, **source: Any) -> Predictor:
        return Predictor(**source, conf=LEAST_SCORE, all_names=True, max_detections=MOST_CANDIDATES)

    def names(self, predictor: Predictor) -> Sequence[str]:
        return predictor.detector.class_names

    def about(self, predictor: Predictor) -> str:
        detector = predictor.detector
        return f"{detector.backbone} at {detector.resolution} pixels, {len(detector.class_names)} classes"

    def computed_by(self, predictor: Predictor) -> str:
        return predictor.detector.session.name

    def usual_threshold(self, predictor: Predictor) -> float:
        return max(LEAST_SCORE, math.floor(100 * predictor.threshold) / 100)  # the slider's steps

    def find(self, predictor: Predictor, image: np.ndarray, settings: Settings) -> list[Found]:
        shown = [one for one in predictor(image) if settings.shows(one.name, one.score)]
        return one_name_each(shown, iou=predictor.detector.postprocess.nms_iou)[:MOST_SHOWN]

    def draw(self, predictor: Predictor, image: np.ndarray, found: list[Found], settings: Settings) -> np.ndarray:
        picture, factor = fit(image, least=640)
        larger = [one._replace(box_xyxy_px=scaled(one.box_xyxy_px, factor)) for one in found]
        return draw(picture, larger)

    def say(self, found: list[Found]) -> str:
        counts = Counter(one.name for one in found)
        return f"Found: {', '.join(counted(n, name) for name, n in counts.items())}." if found else "Nothing found."

    def rows(self, found: list[Found]) -> list[list[Any]]:
        rows = [
            [i, one.name, round(one.score, 4), *(round(v, 1) for v in one.box_xyxy_px)]
            for i, one in enumerate(found, start=1)
        ]
        return rows or [[0, *[""] * (len(self.columns) - 1)]]

    def make_details(self, value: Any = None) -> gr.Dataframe:
        return make_table("Objects, boxes in pixels", self.columns, value)

    def details(self, found: list[Found]) -> list[list[Any]]:
        return self.rows(found) if found else []


def main(config: Config) -> None:
    """Serve the page until Ctrl-C."""
    asked = {"checkpoint": config.checkpoint, "weights": config.weights, "backbone": config.backbone}
    serve(DetectionTask.title, [(DetectionTask(), asked)], config.computing, config.server)
