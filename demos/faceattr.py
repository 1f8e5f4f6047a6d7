"""A page that says how faces appear: in a photo, in front of the webcam, in a video, in many photos.

    python demos/faceattr.py                                             runs of yours, the bundled model
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
from typing import TYPE_CHECKING, Any

from apps.common.choices import Runtime
from apps.common.cli import run_command
from demos.serving import THIS_MACHINE, ServerFlags


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Serve a page that says how faces appear."""

    checkpoint: Path | None = None
    """a run of train.py, or its best/: the model to begin with"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps"""
    runtime: Runtime = "torch"
    """what computes: torch, onnx, openvino, or auto for the fastest installed, which takes a minute when first used"""
    server: ServerFlags = THIS_MACHINE


if __name__ == "__main__":  # above the slow imports: --help does not wait for torch
    run_command("demos.faceattr:main", Config)

import numpy as np

from apps.faceattr.predict import FaceAttributes, Predictor, draw
from demos.chooser import Choice, Models, find_choices
from demos.serving import check_server, launch, private_room
from demos.task import Settings, Task, scaled
from demos.uploads import fit

if TYPE_CHECKING:
    import gradio as gr

MISSING = "There is no model yet: train one with `python apps/faceattr/train.py`, then start this page again."


class FaceattrTask(Task):
    """See `task.Task`."""

    app, verb = "faceattr", "describe_faces"
    tab = "Faces"
    title = "See how faces appear"
    lead = (
        "Finds faces and says how each appears in this picture, not who or what a person is. "
        "Ask people before you show this their photos."
    )
    threshold = ("Least probability", 0.0, 0.0)
    names_label = "Attributes to show"
    option = (
        "sensitive",
        "Also show guesses at sex, age, ethnicity and looks",
        "They are often wrong, more often for some groups of people than for others, and can hurt. "
        "Do not decide anything about anybody by them.",
    )
    option_is_of_model = True
    columns = ("face", "attribute", "prob", "x0", "y0", "x1", "y1")

    def names(self, predictor: Predictor) -> Sequence[str]:
        return predictor.tagger.attributes

    def about(self, predictor: Predictor) -> str:
        hidden = f"; hidden as sensitive unless asked for: {', '.join(predictor.hidden)}" if predictor.hidden else ""
        tagger = predictor.tagger
        return f"{tagger.backbone} at {tagger.resolution} pixels, {len(predictor.shown)} attributes{hidden}"

    def computed_by(self, predictor: Predictor) -> str:
        return predictor.tagger.runtime

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

    def make_details(self) -> "gr.Dataframe":
        import gradio as gr

        return gr.Dataframe(
            headers=list(self.columns), label="Faces, boxes in pixels", interactive=False, max_height=140
        )

    def details(self, found: list[FaceAttributes]) -> list[list[Any]]:
        return self.rows(found) if found else []


def make_models(*, checkpoint: Path | None = None, device: str = "auto", runtime: Runtime = "torch") -> Models:
    """What the page offers. A model that was asked for is loaded, so that a mistake shows at once."""

    def load(choice: Choice, option: bool, runtime: Runtime) -> Predictor:
        assert choice.checkpoint is not None
        return Predictor(choice.checkpoint, device=device, runtime=runtime, show_sensitive=option)

    models = Models(find_choices("faceattr", checkpoint=checkpoint), load, missing=MISSING, runtime=runtime)
    if checkpoint:
        with models.use(models.default):
            pass
    return models


def main(config: Config) -> None:
    """Serve the page until Ctrl-C."""
    from demos.page import make_page  # gradio takes seconds to import: not for --help

    check_server(config.server)
    private_room()
    models = make_models(checkpoint=config.checkpoint, device=config.device, runtime=config.runtime)
    launch(make_page([(FaceattrTask(), models)], title=FaceattrTask.title), config.server)
