"""The interface between an app and its page, and the settings of a visitor.

Letters in shapes: H W height and width.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import gradio as gr
import numpy as np


class Choice(NamedTuple):
    """A model on offer: a model folder, or the name of published weights and their width."""

    label: str
    checkpoint: Path | None = None
    weights: str | None = None
    backbone: str = "a075"

    def source(self) -> dict[str, Any]:
        """The arguments of an app's Predictor for this model."""
        return (
            {"checkpoint": self.checkpoint} if self.checkpoint else {"weights": self.weights, "backbone": self.backbone}
        )


class Settings(NamedTuple):
    """The settings of a visitor, in the order of the controls on a page.

    Attributes:
        model, runtime: their labels; None for the page's default runtime.
        threshold: the lowest score that is shown.
        only: the names to show; empty for all.
        option: whether the app's tick box is ticked.
    """

    model: str | None
    threshold: float
    only: Sequence[str]
    runtime: str | None = None
    option: bool = False

    def shows(self, name: str, score: float) -> bool:
        """Whether a prediction of this name and score is shown."""
        return score >= self.threshold and (not self.only or name in self.only)


class Task(Protocol):
    """The interface between an app and its page.

    Attributes:
        app: its name, also of its folders in runs, models and examples.
        verb: what the functions of the public API are called: /verb, /verb_video, /verb_photos.
        tab, title, lead: a word for a tab, the heading, and what the page does, for people.
        threshold: label, least and default value of the slider; see `usual_threshold`.
        names_label: what `only` is a choice of.
        option: name in the API, label and explanation of a tick box; None for none.
        option_is_of_model: whether the option is for loading a model, or for what is shown.
        columns: of the table that `rows` fills, without "file" and "problem".
    """

    app: str
    verb: str
    tab: str
    title: str
    lead: str
    threshold: tuple[str, float, float]
    names_label: str
    option: tuple[str, str, str] | None
    option_is_of_model: bool
    columns: Sequence[str]

    def published(self, backbone: str) -> Sequence[Choice]:
        """Published models on offer; of several widths, the one of this name first."""
        ...

    def load(self, option: bool, **source: Any) -> Any:
        """An app's Predictor; the option counts only where it `option_is_of_model`."""
        ...

    def names(self, predictor: Any) -> Sequence[str]:
        """All class names of a model."""
        ...

    def about(self, predictor: Any) -> str:
        """A sentence about a model; may be empty."""
        ...

    def computed_by(self, predictor: Any) -> str:
        """The runtime in use, with its version."""
        ...

    def usual_threshold(self, predictor: Any) -> float:
        """Where the slider of `threshold` stands when a model is chosen."""
        return self.threshold[2]

    def find(self, predictor: Any, image: np.ndarray, settings: Settings) -> Any:
        """The predictions for an image (H, W, 3) uint8 RGB that are shown."""
        ...

    def draw(self, predictor: Any, image: np.ndarray, found: Any, settings: Settings) -> np.ndarray:
        """The image with predictions drawn, not much larger than `uploads.SHOWN_SIDE`."""
        ...

    def say(self, found: Any) -> str:
        """A sentence about the predictions."""
        ...

    def rows(self, found: Any) -> list[list[Any]]:
        """Rows of cells; one row with empty cells if nothing was found."""
        ...

    def make_details(self) -> gr.components.Component:
        """The component that `details` fills."""
        ...

    def details(self, found: Any) -> Any:
        """Bars or a table of the predictions."""
        ...


def scaled(box: tuple[float, float, float, float], factor: float) -> tuple[float, float, float, float]:
    """A box in pixels of a picture that is `factor` times as large."""
    x0, y0, x1, y1 = box
    return factor * x0, factor * y0, factor * x1, factor * y1


def make_table(label: str, columns: Sequence[str]) -> gr.Dataframe:
    """The table below a result."""
    return gr.Dataframe(headers=list(columns), label=label, interactive=False, max_height=140)
