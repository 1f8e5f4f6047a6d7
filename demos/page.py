"""The page of an app: photo, webcam, video, many photos. What differs between the apps is a `task.Task`.

Letters in shapes: H W height and width.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import gradio as gr

from demos.chooser import Models, example_pictures
from demos.handlers import NO_PHOTO, Handlers, guarded
from demos.payloads import names_of, not_stored, path_of, raw_of, stored_apart
from demos.serving import new_blocks
from demos.task import Task

LIVE: dict[str, Any] = {
    "concurrency_id": "live",
    "concurrency_limit": 4,
}  # webcams hold their place as long as they run
FILES: dict[str, Any] = {"concurrency_id": "files", "concurrency_limit": 1}
STREAM_EVERY, STREAM_LIMIT = 0.1, 60  # seconds between frames, and until the next in the queue has a turn
CAMERA = {"video": {"width": {"ideal": 640}, "height": {"ideal": 480}}}  # more would cost time in every frame
GIVEN_HEIGHT, RESULT_HEIGHT = 260, 300  # of pictures, pixels; page.css has less for phones
LIST_HEIGHT = 170  # of chosen files
HOW_TO_RECORD = """Click the picture to allow the camera, then Record to start and Stop to switch the camera off.
The settings may be changed while it runs."""
NO_FRAME = f"What is found comes here. {LIVE['concurrency_limit']} cameras run at once; more wait for their turn."
HOW_TO_VIDEO = """Choose a video, then press Start.
Some that the browser calls "not playable" can be read all the same."""
GIVEN: dict[str, Any] = {"height": GIVEN_HEIGHT, "elem_classes": ["picture", "given"]}
RESULT: dict[str, Any] = {"height": RESULT_HEIGHT, "elem_classes": "picture", "interactive": False}
SAYS: dict[str, Any] = {"label": "Sentence", "elem_classes": "says"}
LEFT: dict[str, Any] = {"scale": 3, "min_width": 300}
RIGHT: dict[str, Any] = {"scale": 4, "min_width": 300}  # what was found is larger
NOTE = "Frames of the camera are not stored. Uploads and results go after ten minutes, and when the program ends."


class Controls(NamedTuple):
    """The settings on a page: model, threshold, names, what computes, and the option if the app has one."""

    model: gr.Dropdown
    threshold: gr.Slider
    only: gr.Dropdown
    runtime: gr.Dropdown
    option: gr.Checkbox | None

    def inputs(self) -> list[Any]:
        """In the order of the handlers' last parameters."""
        return [one for one in self if one is not None]

    def changes(self) -> list[Any]:
        """The events after which a photo is looked at again."""
        ticked = [self.option.change] if self.option else []
        return [self.model.change, self.threshold.release, self.only.change, self.runtime.change, *ticked]


def make_page(tasks: Sequence[tuple[Task, Models]], *, title: str) -> gr.Blocks:
    """A page with one task, or a tab for each of several."""
    with new_blocks(title) as page:
        if len(tasks) == 1:
            gr.Markdown(f"# {title}\n{tasks[0][0].lead}", elem_classes="lead")
            pages = [fill(*tasks[0])]
        else:
            pages = []
            gr.Markdown(f"# {title}\n{' · '.join(task.title for task, _ in tasks)}", elem_classes="lead")
            with gr.Tabs():
                for task, models in tasks:
                    with gr.Tab(task.tab):
                        gr.Markdown(task.lead, elem_classes="lead")
                        pages.append(fill(task, models))
        for handlers in pages:
            page.load(guarded(handlers.warm_up), api_visibility="private", show_progress="hidden")
        gr.Markdown(NOTE, elem_classes="note")
    return page


def fill(task: Task, models: Models) -> Handlers:
    """Put a task into the page that is being made, and return the functions behind it."""
    handlers = Handlers(task, models)
    with gr.Row(equal_height=False, elem_classes="task"):
        with gr.Column(scale=1, min_width=230, elem_classes="settings"):
            controls = _settings(task, handlers)
        with gr.Column(scale=4, min_width=300), gr.Tabs():
            with gr.Tab("Photo"):
                _photo_tab(task, handlers, controls)
            with gr.Tab("Webcam"):
                _webcam_tab(task, handlers, controls)
            with gr.Tab("Video"):
                _video_tab(task, handlers, controls)
            with gr.Tab("Folder"):
                _many_tab(task, handlers, controls)
    return handlers


def _settings(task: Task, handlers: Handlers) -> Controls:
    models = handlers.models
    about = handlers.describe(models.default)
    model = gr.Dropdown(list(models.choices), value=models.default, label="Model", info=about.words, interactive=True)
    label, least, default = task.threshold
    threshold = gr.Slider(least, 1, value=default, step=0.01, label=label)
    only = gr.Dropdown(about.names, value=[], multiselect=True, label=task.names_label, info="none chosen: all")
    only.preprocess = names_of  # type: ignore[method-assign]
    runtimes = list(models.runtimes)
    runtime = gr.Dropdown(runtimes, value=models.runtime, label="Runtime", info=about.by, interactive=True)
    option = gr.Checkbox(False, label=task.option[1], info=task.option[2]) if task.option else None
    notice = gr.Markdown(about.problem)
    hidden: dict[str, Any] = {"api_visibility": "private", "show_progress_on": notice}
    model.change(guarded(handlers.choose), [model, runtime], [only, model, runtime, notice], **hidden)
    runtime.change(guarded(handlers.compute), [model, runtime], [runtime, notice], **hidden)
    return Controls(model, threshold, only, runtime, option)


def _photo_tab(task: Task, handlers: Handlers, controls: Controls) -> None:
    with gr.Row():
        with gr.Column(**LEFT):
            photo = gr.Image(label="Photo", type="filepath", image_mode=None, sources=["upload", "clipboard"], **GIVEN)
            photo.preprocess = path_of  # type: ignore[method-assign]  # no decoding before the check
            if pictures := example_pictures(task.app):
                gr.Examples([[str(path)] for path in pictures], inputs=[photo], label="Examples", cache_examples=False)
        with gr.Column(**RIGHT):
            picture = gr.Image(
                label="Result", show_label=False, format="jpeg", **RESULT, buttons=["download", "fullscreen"]
            )
            picture.postprocess = stored_apart  # type: ignore[method-assign,assignment]
            sentence = gr.Markdown(NO_PHOTO, **SAYS)
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
    with gr.Row():
        with gr.Column(**LEFT):
            camera = gr.Image(
                label="Camera",
                sources=["webcam"],
                streaming=True,
                **GIVEN,
                webcam_options=gr.WebcamOptions(mirror=False, constraints=CAMERA),
            )
            camera.preprocess = raw_of  # type: ignore[method-assign,assignment]
            mirror = gr.Checkbox(True, label="Mirror", elem_classes="mirror")
            gr.Markdown(HOW_TO_RECORD, elem_classes="camera-says")
        with gr.Column(**RIGHT):
            picture = gr.Image(label="Result", show_label=False, **RESULT, buttons=[])
            picture.postprocess = not_stored  # type: ignore[method-assign,assignment]
            sentence = gr.Markdown(NO_FRAME, **SAYS)
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


def _video_tab(task: Task, handlers: Handlers, controls: Controls) -> None:
    with gr.Row():
        with gr.Column(**LEFT):
            video = gr.Video(label="Video: MP4, MOV, WebM, MKV, AVI", sources=["upload"], **GIVEN)
            start = gr.Button("Start", variant="primary")
        with gr.Column(**RIGHT):
            result = gr.Video(label="Result, without sound", **RESULT)
            sentence = gr.Markdown(HOW_TO_VIDEO, **SAYS)
    start.click(
        guarded(handlers.video, task.option),
        [video, *controls.inputs()],
        [result, sentence],
        api_name=f"{task.verb}_video",
        show_progress_on=result,
        **FILES,
    )


def _many_tab(task: Task, handlers: Handlers, controls: Controls) -> None:
    with gr.Row():
        with gr.Column(**LEFT):
            files = gr.File(label="Photos, or zip archives of photos", file_count="multiple", height=LIST_HEIGHT)
            folder = gr.UploadButton("Choose a folder", file_count="directory", size="sm")
            start = gr.Button("Start", variant="primary")
        with gr.Column(**RIGHT):
            table = gr.File(label="Table (CSV)", interactive=False, height=LIST_HEIGHT)
            sentence = gr.Markdown("Choose photos, then press Start.", **SAYS)
    folder.upload(lambda paths: paths, folder, files, api_visibility="private")
    start.click(
        guarded(handlers.photos, task.option),
        [files, *controls.inputs()],
        [table, sentence],
        api_name=f"{task.verb}_photos",
        show_progress_on=table,
        **FILES,
    )
