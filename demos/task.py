"""The interface between an app and its page, and the settings of a visitor.

Letters in shapes: H W height and width.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import gradio as gr
import numpy as np


class NotUsable(ValueError):
    """A model that cannot be loaded; the reason goes to the console alone, as it may name folders."""


class Choice(NamedTuple):
    """A model on offer: a model folder, or the name of published weights and their width.

    Attributes:
        examples: what pictures it is for, "drawings" or "photos"; empty where only its owner knows.
        files: of published weights: the catalog's entries, any of which will do.
    """

    label: str
    checkpoint: Path | None = None
    weights: str | None = None
    backbone: str = "a075"
    examples: str = ""
    files: Sequence[str] = ()

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
        metric: the key of the main metric in a model's description, and its name.
        verb: the name of the functions of the public API: /verb, /verb_video, /verb_photos.
        tab, title, lead: a word for a tab, the heading, and what the page does, for people.
        threshold: label, least and default value of the slider; see `usual_threshold`.
        threshold_info: an explanation of the slider; may be empty.
        names_label, names_info: what `only` is a choice of, and what it means to choose none.
        option: name in the API, label and explanation of a tick box; None for none.
        option_is_of_model: whether the option is for loading a model, or for what is shown.
        columns: of the table that `rows` fills, without "file" and "problem".
    """

    app: str
    metric: tuple[str, str]
    verb: str
    tab: str
    title: str
    lead: str
    threshold: tuple[str, float, float]
    threshold_info: str | None = None
    names_label: str
    names_info: str
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

    def make_details(self, value: Any = None) -> gr.components.Component:
        """The component that `details` fills, at first with what it gave."""
        ...

    def details(self, found: Any) -> Any:
        """Bars or a table of the predictions."""
        ...


def scaled(box: tuple[float, float, float, float], factor: float) -> tuple[float, float, float, float]:
    """A box in pixels of a picture that is `factor` times as large."""
    x0, y0, x1, y1 = box
    return factor * x0, factor * y0, factor * x1, factor * y1


def make_table(label: str, columns: Sequence[str], value: Any = None) -> gr.Dataframe:
    """The table below a result."""
    return gr.Dataframe(value, headers=list(columns), label=label, interactive=False, max_height=140)


PLAIN_NAME = re.compile(r"[a-z]+( [a-z]+)*")
SAME = {"fish", "sheep", "scissors", "skis", "jellyfish", "broccoli", "deer"}
OTHERS = {"person": "people", "mouse": "mice", "knife": "knives", "child": "children", "man": "men", "woman": "women"}


def counted(number: int, name: str) -> str:
    """How many of a class: "2 horses". Names that are no plain English words stay as they are."""
    *before, last = name.split(" ")
    if number == 1 or last in SAME or not PLAIN_NAME.fullmatch(name):
        return f"{number:,} {name}"
    if last.endswith(("s", "x", "z", "ch", "sh")):
        ending = f"{last}es"
    else:
        ending = f"{last[:-1]}ies" if re.search(r"[^aeiou]y$", last) else f"{last}s"
    return " ".join([f"{number:,}", *before, OTHERS.get(last, ending)])


def some_of(names: Sequence[str], most: int = 6) -> str:
    """The first of some names, and whether there are more."""
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")
