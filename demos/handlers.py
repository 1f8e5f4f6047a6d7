"""The handlers of a page: the functions behind its buttons and its public API.

Letters in shapes: H W height and width.
"""

import csv
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import numpy as np

from apps.common.data.tables import harmless_cell
from apps.common.pictures import encode_picture
from demos.browser import InBrowser
from demos.chooser import Models, example_pictures
from demos.payloads import as_text
from demos.rooms import kept_file, kept_if_done, new_result
from demos.task import Settings, Task, some_of
from demos.uploads import count_photos, decode_frame, fit, has_more_pictures, open_photos, read_photo
from demos.videos import annotate
from demos.wrapping import for_visitors

NO_PHOTO = "Drop a photo, paste one, or click an example."
NO_RESULT = "No result: the message says why."
NO_EXAMPLE = "Drop a photo of yours, or paste one."
SMOOTHING = 0.8  # of the frames a second, over frames
OPEN_PAGE = "Open: the model runs in your browser, and no frame leaves this device."
PAUSE = 3.0  # seconds without a frame after which they are counted anew
TELL_EVERY = 0.25  # seconds between two sentences and tables of the camera: nobody reads faster, and they cost time
SHOWN_PROBLEMS, SHOWN_PHOTOS, GALLERY_SIDE = 3, 60, 800  # of many photos; pixels
BUSY_DRAWING = 4  # of six


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


class Clock(NamedTuple):
    """When a camera's last frame came, the smoothed time between two (0: unknown), and when something was last told."""

    last: float
    between: float
    told: float


class Handlers:
    """The functions of one task's page."""

    def __init__(self, task: Task, models: Models, in_browser: InBrowser | None = None) -> None:
        self.task, self.models, self.in_browser = task, models, in_browser

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
                if self.models.choices[str(model)].examples == "drawings":
                    about += f"; trained on drawings only: {some_of(names)}".replace("_", " ")
                by = as_text(self.task.computed_by(predictor))
                return About(names, as_text(about), by, "", self.task.usual_threshold(predictor))
        except ValueError as error:
            return About([], "", "", for_visitors(error), self.task.threshold[2])

    def examples(self, model: str | None) -> list[Path]:
        """The example pictures of a model."""
        kind = self.models.choices[model].examples if model in self.models.choices else ""
        return example_pictures(self.task.app, kind) if kind else []

    def first_example(self, model: str | None) -> str | None:
        """The example picture of a model that shows most of what it can do."""
        pictures = self.examples(model)
        return str(pictures[BUSY_DRAWING % len(pictures)]) if pictures else None

    def first_answer(self) -> tuple[str, Path, str, Any] | None:
        """The first example of the page's first model with its answer, for all visitors; None without one.

        It is found twice, so that the time that is shown is a usual one, and a model without examples runs on a blank
        picture, so that no visitor waits for lazy imports. The picture of the answer is kept as long as the page runs.
        """
        label = self.models.default
        if label is None or not self.models.is_here(label):
            return None
        try:
            settings = Settings(label, self._describe(label, None).threshold, [])
            first = self.first_example(label)
            image = read_photo(Path(first)) if first else np.zeros((120, 160, 3), np.uint8)
            self._look(image, settings)
            if first is None:
                return None
            picture, found, sentence = self._look(image, settings)
            kept = kept_file(encode_picture(picture), ".jpg")
            return first, kept, sentence, self.task.details(found)
        except ValueError:  # the page says it where the model is chosen
            return None

    def invite(self, model: str | None) -> str:
        """What is said where there is no photo yet."""
        return NO_PHOTO if self.examples(model) else NO_EXAMPLE

    def choose(self, model: str | None, runtime: str | None) -> tuple[Any, Any, Any, str, Any]:
        """Update the class list, the captions and the threshold after the model was changed."""
        about = self._describe(model, runtime)
        if about.problem:  # each other change would be told as a failure of its own
            return gr.skip(), gr.Dropdown(info=""), gr.skip(), about.problem, gr.skip()
        return (
            gr.Dropdown(about.names, value=[]),
            gr.Dropdown(info=about.words),
            gr.Dropdown(info=about.by),
            about.problem,
            gr.Slider(value=about.threshold),
        )

    def swapper(self, examples: Mapping[str, gr.Dataset]) -> Callable:
        """What shows the examples of a model that was chosen, and the first of them instead of another's example.

        Args:
            examples: the pictures to click by what they are for.
        """
        files = {kind: [one["path"] for (one,) in dataset.samples] for kind, dataset in examples.items()}  # in the room
        known = {str(Path(path).resolve()) for paths in files.values() for path in paths}

        def swap(model: str | None, photo: str | None, problem: str | None) -> tuple[Any, ...]:
            if problem:  # a new photo would tell the same again
                return (gr.skip(), *(gr.skip() for _ in examples))
            kind = self.models.choices[model].examples if model in self.models.choices else ""
            is_own = photo is not None and str(Path(photo).resolve()) not in known
            here = files.get(kind)
            shown = gr.skip() if is_own else here[BUSY_DRAWING % len(here)] if here else None
            return (shown, *(gr.Column(visible=kind == one) for one in examples))

        return swap

    def compute(self, model: str | None, runtime: str | None) -> tuple[Any, str]:
        """Update the captions after the runtime was changed."""
        about = self._describe(model, runtime)
        return gr.Dropdown(info=about.by), about.problem

    def photo(self, photo: str | None, settings: Settings) -> tuple[np.ndarray | None, str, Any]:
        """Picture, sentence and details of one photo."""
        if photo is None:
            return None, self.invite(settings.model), None
        path = Path(photo)
        image = read_photo(path)
        if has_more_pictures(path):
            gr.Warning("This file has several pictures: only the first is used.")
        picture, found, sentence = self._look(image, settings)
        return picture, sentence, self.task.details(found)

    def frame(
        self, frame: bytes | None, mirror: bool, clock: Clock | None, settings: Settings
    ) -> tuple[Any, Any, Any, Clock | None]:
        """The same for a frame of the webcam; sentence and details stay as they are if they are new."""
        if frame is None:
            return None, "The camera is off.", None, None
        now = time.monotonic()
        if clock is not None and now - clock.last > PAUSE:
            clock = None
        try:
            image = decode_frame(frame)
            image = np.ascontiguousarray(image[:, ::-1]) if mirror else image
            picture, found, sentence = self._look(image, settings)
        except ValueError as error:  # in the page, not one message for each frame
            return None, for_visitors(error), None, None
        if clock is None:
            return picture, sentence, self.task.details(found), Clock(now, 0, now)
        between = now - clock.last
        if clock.between:
            between = SMOOTHING * clock.between + (1 - SMOOTHING) * between
        if now - clock.told < TELL_EVERY:
            return picture, gr.skip(), gr.skip(), Clock(now, between, clock.told)
        rate = f" {1 / max(between, 1e-3):.1f} frames a second."
        return picture, sentence + rate, self.task.details(found), Clock(now, between, now)

    def page_alone(self, model: str | None, request: gr.Request) -> str:
        """A link to the page that runs a model in the visitor's browser; it is for this visitor alone."""
        with self.models.use(model):  # it is one of those on offer, and can be loaded
            pass
        assert self.in_browser and model is not None and request.request is not None
        visitor = request.request.scope["visitor"]
        address = self.in_browser.address(self.task.app, self.models.choices[model], visitor)
        return f'<a href="{address}" target="_blank" rel="noopener">{OPEN_PAGE}</a>'

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
        with kept_if_done(out):
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
    ) -> tuple[str | None, str, list[tuple[str, str]]]:
        """A CSV table of the predictions for many photos, a sentence with the number of unreadable ones, and pictures.

        Pictures are the files of the first photos with the predictions drawn, and what is said of each.
        """
        if not files:
            return None, "Choose photos first.", []
        paths = [Path(file) for file in files]
        num_photos, problems, pictures = count_photos(paths), [], list[tuple[str, str]]()
        out = new_result(".csv")
        with (
            kept_if_done(out),
            tempfile.TemporaryDirectory(dir=out.parent, ignore_cleanup_errors=True) as room,
            out.open("w", encoding="utf-8", errors="replace", newline="") as file,
        ):
            table = csv.writer(file)
            table.writerow(["file", *self.task.columns, "problem"])
            for i, sent in enumerate(open_photos(paths, Path(room)), start=1):
                if sent.image is None:
                    problems.append(sent.problem)
                    table.writerow(
                        [harmless_cell(sent.name), *[""] * len(self.task.columns), harmless_cell(sent.problem)]
                    )
                else:
                    picture, found, _ = self._look(sent.image, settings)
                    for row in self.task.rows(found):
                        table.writerow([harmless_cell(sent.name), *map(harmless_cell, row), ""])
                    if len(pictures) < SHOWN_PHOTOS:
                        path = out.with_name(f"{len(pictures) + 1}.jpg")
                        path.write_bytes(encode_picture(fit(picture, side=GALLERY_SIDE)[0]))
                        pictures.append((str(path), f"{sent.name}: {self.task.say(found)}"))
                progress((i, num_photos), unit="photos")
        words = f"{num_photos - len(problems):,} of {num_photos:,} photos are in the table.{_first(problems)}"
        return str(out), words, pictures

    def _look(self, image: np.ndarray, settings: Settings) -> Looked:
        with self._predictor(settings) as predictor:
            started = time.perf_counter()
            found = self.task.find(predictor, image, settings)
            sentence = f"{self.task.say(found)} {1000 * (time.perf_counter() - started):.0f} ms."
            if unknown := [name for name in settings.only if name not in self.task.names(predictor)]:
                sentence += f" The model does not know {', '.join(unknown)}."
            return Looked(self.task.draw(predictor, image, found, settings), found, sentence)

    def _predictor(self, settings: Settings) -> AbstractContextManager[Any]:
        """The chosen model, for a block."""
        option = settings.option and self.task.option_is_of_model
        return self.models.use(settings.model, option, settings.runtime)


def _first(problems: Sequence[str]) -> str:
    if not problems:
        return ""
    more = f"; and {len(problems) - SHOWN_PROBLEMS:,} more, see the table" if len(problems) > SHOWN_PROBLEMS else ""
    return f" {len(problems):,} could not be read: {'; '.join(problems[:SHOWN_PROBLEMS])}{more}"
