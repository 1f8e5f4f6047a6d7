"""The handlers of a page: the functions behind its buttons and its public API.

Letters in shapes: H W height and width.
"""

import csv
import functools
import html
import inspect
import shutil
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import numpy as np

from demos.chooser import Models, NotUsable
from demos.payloads import as_text
from demos.rooms import new_result
from demos.task import Settings, Task
from demos.uploads import count_photos, decode_frame, has_more_pictures, open_photos, read_photo
from demos.videos import annotate

NO_PHOTO = "Drop a photo, paste one, or click an example."
SMOOTHING = 0.8  # of the frames a second, over frames
PAUSE = 3.0  # seconds without a frame after which they are counted anew
SHOWN_PROBLEMS = 3


class About(NamedTuple):
    """Class names of a model, a description, its runtime, the reason if it cannot be used, its default threshold."""

    names: list[str]
    words: str
    by: str
    problem: str
    threshold: float


class Looked(NamedTuple):
    """A picture (H, W, 3) uint8 RGB with the predictions drawn, the predictions, and a sentence with their time."""

    picture: np.ndarray
    found: Any
    sentence: str


class Handlers:
    """The functions of one task's page."""

    def __init__(self, task: Task, models: Models) -> None:
        self.task = task
        self.models = models

    def describe(self, model: str | None) -> About:
        """The description of the first model of the page."""
        if model in self.models.choices and not self.models.is_here(model):
            problem = f"{self.models.missing} Or choose a published model: it is downloaded when first used."
            return About([], "", "", problem, self.task.threshold[2])
        return self._describe(model, None)

    def _describe(self, model: str | None, runtime: str | None) -> About:
        try:
            with self.models.use(model, runtime=runtime) as predictor:
                names, about = list(self.task.names(predictor)), self.task.about(predictor)
                by = as_text(self.task.computed_by(predictor))
                return About(names, as_text(about), by, "", self.task.usual_threshold(predictor))
        except ValueError as error:
            return About([], "", "", for_visitors(error), self.task.threshold[2])

    def warm_up(self) -> None:
        """Run the model on a blank picture, so that the first visitor does not wait for lazy imports."""
        if self.models.default is not None and self.models.is_here(self.models.default):
            self._look(np.zeros((120, 160, 3), np.uint8), Settings(self.models.default, 1.0, []))

    def choose(self, model: str | None, runtime: str | None) -> tuple[Any, Any, Any, str, Any]:
        """Update the class list, the captions and the threshold after the model was changed."""
        about = self._describe(model, runtime)
        return (
            gr.Dropdown(about.names, value=[]),
            gr.Dropdown(info=about.words),
            gr.Dropdown(info=about.by),
            about.problem,
            gr.Slider(value=about.threshold),
        )

    def compute(self, model: str | None, runtime: str | None) -> tuple[Any, str]:
        """Update the captions after the runtime was changed."""
        about = self._describe(model, runtime)
        return gr.Dropdown(info=about.by), about.problem

    def photo(
        self,
        photo: str | None,
        settings: Settings,
    ) -> tuple[np.ndarray | None, str, Any]:
        """Picture, sentence and details of one photo."""
        if photo is None:
            return None, NO_PHOTO, None
        path = Path(photo)
        image = read_photo(path)
        if has_more_pictures(path):
            gr.Warning("This file has several pictures: only the first is used.")
        picture, found, sentence = self._look(image, settings)
        return picture, sentence, self.task.details(found)

    def frame(
        self,
        frame: bytes | None,
        mirror: bool,
        clock: tuple[float, float] | None,
        settings: Settings,
    ) -> tuple[Any, str, Any, tuple[float, float] | None]:
        """The same for a frame of the webcam; `clock` has the last frame's time and the smoothed time between two."""
        if frame is None:
            return None, "The camera is off.", None, None
        now = time.monotonic()
        if clock is not None and now - clock[0] > PAUSE:
            clock = None
        try:
            image = decode_frame(frame)
            image = np.ascontiguousarray(image[:, ::-1]) if mirror else image
            picture, found, sentence = self._look(image, settings)
        except ValueError as error:  # in the page, not one message for each frame
            return None, for_visitors(error), None, None
        between, rate = None, ""
        if clock is not None:
            last, before = clock
            between = now - last if before == 0 else SMOOTHING * before + (1 - SMOOTHING) * (now - last)
            rate = f" {1 / max(between, 1e-3):.1f} frames a second."
        return picture, sentence + rate, self.task.details(found), (now, between or 0)

    def video(
        self,
        video: str | None,
        settings: Settings,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[str | None, str]:
        """A video with the predictions drawn on it, and a sentence."""
        if video is None:
            return None, "Choose a video first."
        out = new_result(".webm")
        started = time.monotonic()
        done, total = annotate(
            Path(video),
            out,
            lambda frame: self._look(frame, settings)[0],
            progress=lambda i, n: progress((i, n or None), unit="frames"),
        )
        left = f" The first {done:,} of {total:,}: longer videos are cut." if total > done else ""
        return str(out), f"{done:,} frames, {done / (time.monotonic() - started):.1f} a second.{left}"

    def photos(
        self,
        files: list[str] | None,
        settings: Settings,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[str | None, str]:
        """A CSV table of the predictions for many photos, and a sentence with the number of unreadable ones."""
        if not files:
            return None, "Choose photos first."
        paths = [Path(file) for file in files]
        num_photos, problems = count_photos(paths), []
        out = new_result(".csv")
        room = Path(tempfile.mkdtemp(dir=out.parent))
        try:
            with out.open("w", encoding="utf-8", errors="replace", newline="") as file:
                table = csv.writer(file)
                table.writerow(["file", *self.task.columns, "problem"])
                for i, sent in enumerate(open_photos(paths, room), start=1):
                    if sent.image is None:
                        problems.append(sent.problem)
                        table.writerow([_cell(sent.name), *[""] * len(self.task.columns), _cell(sent.problem)])
                    else:
                        for row in self._rows(sent.image, settings):
                            table.writerow([_cell(sent.name), *map(_cell, row), ""])
                    progress((i, num_photos), unit="photos")
        finally:
            shutil.rmtree(room, ignore_errors=True)
        return str(out), f"{num_photos - len(problems):,} of {num_photos:,} photos are in the table.{_first(problems)}"

    def _look(self, image: np.ndarray, settings: Settings) -> Looked:
        with self._predictor(settings) as predictor:
            started = time.perf_counter()
            found = self.task.find(predictor, image, settings)
            sentence = f"{self.task.say(found)} {1000 * (time.perf_counter() - started):.0f} ms."
            if unknown := [name for name in settings.only if name not in self.task.names(predictor)]:
                sentence += f" The model does not know {', '.join(unknown)}."
            return Looked(self.task.draw(predictor, image, found, settings), found, sentence)

    def _rows(self, image: np.ndarray, settings: Settings) -> list[list[Any]]:
        with self._predictor(settings) as predictor:
            return self.task.rows(self.task.find(predictor, image, settings))

    def _predictor(self, settings: Settings) -> AbstractContextManager[Any]:
        """The chosen model, for a block."""
        option = settings.option and self.task.option_is_of_model
        return self.models.use(settings.model, option, settings.runtime)


def one_by_one(handler: Callable, option: tuple[str, str, str] | None) -> Callable:
    """A handler that takes what `Settings` holds one by one where it took `settings`: so Gradio gives and names it.

    Args:
        option: the app's; its parameter bears its name in the public API, and is left out if there is none.
    """
    signature = inspect.signature(handler)
    parameters = list(signature.parameters.values())
    at = list(signature.parameters).index("settings")
    *loose, last = inspect.signature(Settings).parameters.values()
    loose += [last.replace(name=option[0])] if option else []
    end = at + len(loose)

    @functools.wraps(handler)
    def run(*args: Any) -> Any:
        return handler(*args[:at], Settings(*args[at:end]), *args[end:])

    run.__signature__ = signature.replace(parameters=[*parameters[:at], *loose, *parameters[at + 1 :]])  # type: ignore[attr-defined]
    return run


def guarded(handler: Callable) -> Callable:
    """A handler that shows users' mistakes on the page, and bugs on the console alone."""

    @functools.wraps(handler)
    def run(*args: Any) -> Any:
        try:
            return handler(*args)
        except gr.Error:
            raise
        except ValueError as error:
            words = html.escape(for_visitors(error), quote=False)  # the page shows it as HTML
            raise gr.Error(words, title="This did not work", duration=60, print_exception=False) from None
        except Exception:
            traceback.print_exc()
            raise gr.Error("Something broke here; the server's console says what.", print_exception=False) from None

    return run


def for_visitors(error: ValueError) -> str:
    """The message about a mistake for visitors; details go to the console, once."""
    if not isinstance(error, NotUsable):
        return str(error)
    warnings.warn(str(error), stacklevel=2)
    return "This model cannot be loaded, or not downloaded, now: the server's console says why. Choose another."


def _first(problems: Sequence[str]) -> str:
    if not problems:
        return ""
    more = f"; and {len(problems) - SHOWN_PROBLEMS:,} more, see the table" if len(problems) > SHOWN_PROBLEMS else ""
    return f" {len(problems):,} could not be read: {'; '.join(problems[:SHOWN_PROBLEMS])}{more}"


def _cell(value: Any) -> Any:
    """A cell that a spreadsheet does not run as a formula: names are untrusted."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t") else value
