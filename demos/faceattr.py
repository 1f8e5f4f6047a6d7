"""A page that predicts attributes of faces: in a photo, in front of the webcam, in a video, in many photos.

    python demos/faceattr.py                                             your runs, the bundled model
    python demos/faceattr.py --checkpoint runs/faceattr/NAME/best
    python demos/faceattr.py --host 0.0.0.0 --auth me:secret             for others, too

From Python, while it runs:

    from gradio_client import Client, handle_file
    client = Client("http://127.0.0.1:7860")
    picture, sentence, table = client.predict(handle_file("photo.jpg"), api_name="/describe_faces")

Sensitive attributes (apps/faceattr/data/sensitive.py) are not computed for the page unless a visitor ticks a box.

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
    """Serve a page that predicts attributes of faces.

    example: python demos/faceattr.py --checkpoint runs/faceattr/NAME/best
    """

    checkpoint: Path | None = None
    """run of train.py, its best/ folder, a file of export.py, or last (the newest finished): the first model shown;
    default the newest or published ones"""
    computing: ComputingFlags = USUAL_COMPUTING
    server: ServerFlags = THIS_MACHINE


if __name__ == "__main__":  # above the slow imports: --help does not wait for torch
    run_command("demos.faceattr:main", Config)

import gradio as gr
import numpy as np

from apps.faceattr.predict import Predictor
from apps.faceattr.results import FaceAttributes, draw
from demos.page import serve
from demos.task import Choice, Settings, Task, make_table, scaled
from demos.uploads import fit


class FaceattrTask(Task):
    """See `task.Task`."""

    app, verb = "faceattr", "describe_faces"
    metric = ("mean_ap", "mean AP")
    tab = "Faces"
    title = "Face attributes"
    lead = (
        "Finds faces and describes their appearance in this picture, not the people. "
        "Ask people before you use their photos."
    )
    threshold = ("Minimum probability", 0.0, 0.0)
    threshold_info = "0: the calibrated threshold of each attribute"
    names_label, names_info = "Attributes to show", "All attributes, or those you choose"
    option = (
        "sensitive",
        "Also show predictions of sex, age, ethnicity and looks",
        "They are often wrong, more often for some groups of people than for others, and can be harmful. "
        "Do not base decisions about people on them.",
    )
    option_is_of_model = True
    columns = ("face", "attribute", "prob", "x0", "y0", "x1", "y1")

    def published(self, backbone: str) -> list[Choice]:
        return []

    def load(self, option: bool, **source: Any) -> Predictor:
        return Predictor(**source, show_sensitive=option)

    def names(self, predictor: Predictor) -> Sequence[str]:
        return predictor.tagger.attributes

    def about(self, predictor: Predictor) -> str:
        hidden = f"; hidden as sensitive unless asked for: {', '.join(predictor.hidden)}" if predictor.hidden else ""
        tagger = predictor.tagger
        return f"{tagger.backbone} at {tagger.resolution} pixels, {len(predictor.shown)} attributes{hidden}"

    def computed_by(self, predictor: Predictor) -> str:
        return predictor.tagger.session.name

    def find(self, predictor: Predictor, image: np.ndarray, settings: Settings) -> list[FaceAttributes]:
        return [
            face._replace(present=[name for name in face.present if settings.shows(name, face.probs[name])])
            for face in predictor(image)
        ]

    def draw(
        self, predictor: Predictor, image: np.ndarray, found: list[FaceAttributes], settings: Settings
    ) -> np.ndarray:
        picture, factor = fit(image, least=480)
        return draw(picture, [face._replace(box_xyxy_px=scaled(face.box_xyxy_px, factor)) for face in found])

    def say(self, found: list[FaceAttributes]) -> str:
        if not found:
            return "No face found."
        names = ", ".join(name.replace("_", " ").lower() for name in found[0].present) or "none of the attributes"
        return f"{len(found):,} {'face' if len(found) == 1 else 'faces'}. The largest appears with: {names}."

    def rows(self, found: list[FaceAttributes]) -> list[list[Any]]:
        rows = []
        for i, face in enumerate(found, start=1):
            box = [round(v, 1) for v in face.box_xyxy_px]
            rows += [[i, name, round(face.probs[name], 4), *box] for name in face.present] or [[i, "", "", *box]]
        return rows or [[0, *[""] * (len(self.columns) - 1)]]

    def make_details(self, value: Any = None) -> gr.Dataframe:
        return make_table("Faces, boxes in pixels", self.columns, value)

    def details(self, found: list[FaceAttributes]) -> list[list[Any]]:
        return self.rows(found) if found else []


def main(config: Config) -> None:
    """Serve the page until Ctrl-C."""
    asked = {"checkpoint": config.checkpoint}
    serve(FaceattrTask.title, [(FaceattrTask(), asked)], config.computing, config.server)
