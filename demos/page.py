"""The page of an app: photo, webcam, video, many photos. What differs between the apps is a `task.Task`.

Letters in shapes: H W height and width.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
from gradio.data_classes import ImageData

from demos.answers import Handlers, as_data_url, guarded, names_of, path_of, raw_of
from demos.choices import Models, example_pictures
from demos.serving import new_blocks
from demos.task import Task

LIVE: dict[str, Any] = {
    "concurrency_id": "live",
    "concurrency_limit": 4,
}  # webcams hold their place as long as they run
FILES: dict[str, Any] = {"concurrency_id": "files", "concurrency_limit": 1}
STREAM_EVERY, STREAM_LIMIT = 0.1, 60  # seconds between frames, and until the next in the queue has a turn
HEIGHT = 320  # of pictures, pixels
EMPTY = "Drop a photo, paste one, or click an example below."


class Controls(NamedTuple):
    """The settings on a page: model, threshold, names, and the option if the app has one."""

    model: gr.Dropdown
    threshold: gr.Slider
    only: gr.Dropdown
    option: gr.Checkbox | None

    def inputs(self) -> list[Any]:
        """In the order of the handlers' last parameters."""
        return [one for one in self if one is not None]

    def changes(self) -> list[Any]:
        """The events after which a photo is looked at again."""
        ticked = [self.option.change] if self.option else []
        return [self.model.change, self.threshold.release, self.only.change, *ticked]


def make_page(tasks: Sequence[tuple[Task, Models]], *, title: str) -> gr.Blocks:
    """A page with one task, or a tab for each of several."""
    with new_blocks(title) as page:
        gr.Markdown(f"# {title}")
        if len(tasks) == 1:
            fill(*tasks[0])
        else:
            with gr.Tabs():
                for task, models in tasks:
                    with gr.Tab(task.tab):
                        fill(task, models)
        gr.Markdown(
            "Frames of the camera are not stored. Uploads and results are removed after ten minutes and when the page's"
            " program ends."
        )
    return page


def fill(task: Task, models: Models) -> None:
    """Put a task into the page that is being made."""
    gr.Markdown(task.lead)
    handlers = Handlers(task, models)
    names, about, problem = handlers.describe(models.default)
    with gr.Row(equal_height=False):
        model = gr.Dropdown(
            list(models.choices), value=models.default, label="Model", info=about, interactive=True, min_width=300
        )
        label, least, default = task.threshold
        threshold = gr.Slider(least, 1, value=default, step=0.01, label=label, min_width=300)
        only = gr.Dropdown(
            names, value=[], multiselect=True, label=task.names_label, info="none chosen: all", min_width=300
        )
    only.preprocess = names_of  # type: ignore[method-assign]
    option = None
    if task.option:
        option = gr.Checkbox(False, label=task.option[1], info=task.option[2])
    notice = gr.Markdown(problem)
    controls = Controls(model, threshold, only, option)
    model.change(guarded(handlers.choose), model, [only, model, notice], api_visibility="private")
    with gr.Tabs():
        with gr.Tab("Photo"):
            _photo_tab(task, handlers, controls)
        with gr.Tab("Webcam"):
            _webcam_tab(task, handlers, controls)
        with gr.Tab("Video"):
            _video_tab(task, handlers, controls)
        with gr.Tab("Many photos"):
            _many_tab(task, handlers, controls)


def _photo_tab(task: Task, handlers: Handlers, controls: Controls) -> None:
    with gr.Row():
        with gr.Column(min_width=300):
            photo = gr.Image(
                label="Photo", type="filepath", image_mode=None, sources=["upload", "clipboard"], height=HEIGHT
            )
            photo.preprocess = path_of  # type: ignore[method-assign]  # no decoding before the check
            if pictures := example_pictures(task.app):
                gr.Examples([[str(path)] for path in pictures], inputs=[photo], label="Examples", cache_examples=False)
        with gr.Column(min_width=300):
            picture = gr.Image(
                label="Result", interactive=False, format="jpeg", height=HEIGHT, buttons=["download", "fullscreen"]
            )
            sentence = gr.Markdown(EMPTY, label="Sentence")
            details = task.make_details()
    gr.on(
        [photo.change, *controls.changes()],
        guarded(handlers.photo, task.option),
        [photo, *controls.inputs()],
        [picture, sentence, details],
        api_name=task.verb,
        api_description=f"{task.lead} Returns a picture, a sentence and {details.label or 'details'}.",
        trigger_mode="always_last",
        show_progress_on=picture,
    )


def _webcam_tab(task: Task, handlers: Handlers, controls: Controls) -> None:
    gr.Markdown(
        "Click the picture to allow the camera, then Record on it to start and Stop to stop. "
        "The settings above may be changed while it runs."
    )
    with gr.Row():
        with gr.Column(min_width=300):
            camera = gr.Image(
                label="Camera",
                sources=["webcam"],
                streaming=True,
                height=HEIGHT,
                webcam_options=gr.WebcamOptions(mirror=False),
            )
            camera.preprocess = raw_of  # type: ignore[method-assign,assignment]
            mirror = gr.Checkbox(True, label="Mirror")
        with gr.Column(min_width=300):
            picture = gr.Image(label="Result", interactive=False, height=HEIGHT, buttons=[])
            picture.postprocess = _not_stored  # type: ignore[method-assign,assignment]
            sentence = gr.Markdown("The camera is off.", label="Sentence")
            details = task.make_details()
    clock = gr.State(None)
    camera.stream(
        guarded(handlers.frame, task.option),
        [camera, mirror, clock, *controls.inputs()],
        [picture, sentence, details, clock],
        stream_every=STREAM_EVERY,
        time_limit=STREAM_LIMIT,
        show_progress="hidden",
        api_visibility="private",
        **LIVE,
    )


def _not_stored(value: np.ndarray | None) -> ImageData | None:
    """A picture (H, W, 3) within the answer itself instead of in a file."""
    return None if value is None else ImageData(url=as_data_url(value))


def _video_tab(task: Task, handlers: Handlers, controls: Controls) -> None:
    with gr.Row():
        with gr.Column(min_width=300):
            video = gr.Video(label="Video: MP4, MOV, WebM, MKV, AVI", sources=["upload"], height=HEIGHT)
            start = gr.Button("Start", variant="primary")
        with gr.Column(min_width=300):
            result = gr.Video(label="Result, without sound", interactive=False, height=HEIGHT)
            sentence = gr.Markdown("Choose a video, then press Start.", label="Sentence")
    start.click(
        guarded(handlers.video, task.option),
        [video, *controls.inputs()],
        [result, sentence],
        api_name=f"{task.verb}_video",
        **FILES,
    )


def _many_tab(task: Task, handlers: Handlers, controls: Controls) -> None:
    with gr.Row():
        with gr.Column(min_width=300):
            files = gr.File(label="Photos, or zip archives of photos", file_count="multiple", height=HEIGHT // 2)
            folder = gr.UploadButton("Choose a folder", file_count="directory", size="sm")
            start = gr.Button("Start", variant="primary")
        with gr.Column(min_width=300):
            table = gr.File(label="Table (CSV)", interactive=False, height=HEIGHT // 2)
            sentence = gr.Markdown("Choose photos, then press Start.", label="Sentence")
    folder.upload(lambda paths: paths, folder, files, api_visibility="private")
    start.click(
        guarded(handlers.photos, task.option),
        [files, *controls.inputs()],
        [table, sentence],
        api_name=f"{task.verb}_photos",
        **FILES,
    )
