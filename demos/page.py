"""The page of an app: photo, webcam, video, many photos. A `task.Task` holds the differences of the apps.

Letters in shapes: H W height and width.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import gradio as gr
from gradio.events import Dependency

from apps.common.deploy.web import find_runtime
from demos.blocks import Page, new_blocks
from demos.browser import InBrowser
from demos.chooser import Models, example_pictures, make_models
from demos.handlers import NO_RESULT, Handlers
from demos.payloads import Camera, Names, OneName, PictureInAnswer, PictureInFile, Sentence, Threshold, UploadedPhoto
from demos.rooms import private_room
from demos.serving import Computing, Server, check_server, find_port, launch
from demos.task import Task
from demos.wrapping import guarded, one_by_one

Kind = TypeVar("Kind")

# Webcams keep their place as long as they run.
LIVE: dict[str, Any] = {"concurrency_id": "live", "concurrency_limit": 4}
FILES: dict[str, Any] = {"concurrency_id": "files", "concurrency_limit": 1}
STREAM_EVERY, STREAM_LIMIT = 0.04, 60  # seconds between frames at least, and until the next in the queue has a turn
CAMERA = {"video": {"width": {"ideal": 640}, "height": {"ideal": 480}}}  # more would cost time in every frame
GIVEN_HEIGHT, RESULT_HEIGHT = 260, 300  # of pictures, pixels; page.css has less for phones
LIST_HEIGHT, GALLERY_HEIGHT, FILE_HEIGHT = 170, 330, 100  # of chosen files, of their pictures, and of the table's file
HOW_TO_RECORD = """Click the picture to allow the camera, then Record to start and Stop to switch the camera off.
Nothing is stored. You can change the settings while it runs. The blue bar is your turn; if nobody waits, the next
begins at once."""
NO_FRAME = f"The results appear here. {LIVE['concurrency_limit']} cameras run at once; more wait for their turn."
HOW_TO_VIDEO = """Choose a video, then press Start.
The result has no sound. Some videos that the browser calls "not playable" can still be read."""
NOTE = "Camera frames are not stored. Uploads and results are deleted after ten minutes and when the program ends."


def serve(title: str, asked: Sequence[tuple[Task, Mapping[str, Any]]], computing: Computing, server: Server) -> None:
    """Serve a page with some tasks until Ctrl-C, each with its models by `make_models`."""
    check_server(server)
    find_port(server)
    find_runtime(computing.ort)
    private_room()
    device, runtime = computing.device, computing.runtime
    options: dict[str, Any] = {"device": device, "runtime": runtime, "download": not computing.bundled}
    tasks = [(task, make_models(task, **flags, **options)) for task, flags in asked]
    page = make_page(tasks, title=title)
    page.in_browser.ort = computing.ort
    launch(page, server)


class Controls(NamedTuple):
    """The settings on a page: model, threshold, names, runtime, and the option if the app has one."""

    model: OneName
    threshold: Threshold
    only: Names
    runtime: OneName
    option: gr.Checkbox | None

    def inputs(self) -> list[Any]:
        """In the order of the handlers' last parameters."""
        return [one for one in self if one is not None]

    def changes(self) -> list[Any]:
        """The events after which a photo is predicted again."""
        ticked = [self.option.change] if self.option else []
        return [self.model.change, self.threshold.change, self.only.change, self.runtime.change, *ticked]


def make_page(tasks: Sequence[tuple[Task, Models]], *, title: str) -> Page:
    """A page with one task, or a tab for each of several."""
    with new_blocks(title) as page:
        if len(tasks) == 1:
            gr.Markdown(f"# {title}\n{tasks[0][0].lead}", elem_classes="lead")
            fill(*tasks[0], page.in_browser)
        else:
            gr.Markdown(f"# {title}\n{' · '.join(task.title for task, _ in tasks)}", elem_classes="lead")
            with gr.Tabs():
                for task, models in tasks:
                    with gr.Tab(task.tab):
                        gr.Markdown(task.lead, elem_classes="lead")
                        fill(task, models, page.in_browser)
        gr.Markdown(NOTE, elem_classes="note")
    return page


def fill(task: Task, models: Models, in_browser: InBrowser) -> None:
    """Put a task into the page that is being made."""
    handlers = Handlers(task, models, in_browser)
    with gr.Row(equal_height=False, elem_classes="task"):
        with gr.Column(scale=1, min_width=230, elem_classes="settings"):
            controls, notice, chosen = _settings(task, handlers)
        with gr.Column(scale=4, min_width=300), gr.Tabs():
            with gr.Tab("Photo"):
                _photo_tab(task, handlers, controls, notice, chosen)
            with gr.Tab("Webcam"):
                _webcam_tab(task, handlers, controls)
            with gr.Tab("Video"):
                _video_tab(task, handlers, controls)
            with gr.Tab("Folder"):
                _many_tab(task, handlers, controls)


def _settings(task: Task, handlers: Handlers) -> tuple[Controls, Sentence, Dependency]:
    models = handlers.models
    about = handlers.describe(models.default)
    model = OneName(list(models.choices), value=models.default, label="Model", info=about.words, interactive=True)
    label, least, _ = task.threshold
    threshold = Threshold(least, 1, value=about.threshold, step=0.01, label=label, info=task.threshold_info)
    only = Names(about.names, value=[], multiselect=True, label=task.names_label, info=task.names_info)
    runtimes = list(models.runtimes)
    runtime = OneName(runtimes, value=models.runtime, label="Runtime", info=about.by, interactive=True)
    option = gr.Checkbox(False, label=task.option[1], info=task.option[2]) if task.option else None
    notice = Sentence(about.problem, elem_classes="problem", latex_delimiters=[])
    chosen = model.change(
        guarded(handlers.choose), [model, runtime], [only, model, runtime, notice, threshold], **_hidden(notice)
    )
    runtime.change(guarded(handlers.compute), [model, runtime], [runtime, notice], **_hidden(notice))
    return Controls(model, threshold, only, runtime, option), notice, chosen


def _hidden(notice: Sentence) -> dict[str, Any]:
    """Options of events that are not of the public API, and take a while."""
    return {"api_visibility": "private", "show_progress_on": notice}


def _left() -> gr.Column:
    """The column of inputs."""
    return gr.Column(scale=3, min_width=300)


def _right() -> gr.Column:
    """The column of results, which is wider."""
    return gr.Column(scale=4, min_width=300)


def _given(kind: Callable[..., Kind], label: str, **options: Any) -> Kind:
    """A photo, camera or video that a visitor gives."""
    return kind(label=label, height=GIVEN_HEIGHT, elem_classes=["picture", "given"], **options)


def _result(kind: Callable[..., Kind], label: str = "Result", **options: Any) -> Kind:
    """The picture or video of the result."""
    return kind(label=label, height=RESULT_HEIGHT, elem_classes="picture", interactive=False, **options)


def _sentence(words: str) -> Sentence:
    """The sentence below a result."""
    return Sentence(words, label="Sentence", elem_classes="says", latex_delimiters=[])


def _photo_tab(task: Task, handlers: Handlers, controls: Controls, notice: Sentence, chosen: Dependency) -> None:
    given, answer, says, table = handlers.first_answer() or (None, None, handlers.invite(handlers.models.default), None)
    with gr.Row(elem_classes="result-first"):
        with _left():
            options: dict[str, Any] = {"type": "filepath", "image_mode": None, "sources": ["upload", "clipboard"]}
            photo = _given(UploadedPhoto, "Photo", value=given, **options)
            taken = gr.UploadButton("Take a photo", file_types=["image"], size="sm", elem_classes="take-photo")
            columns: list[gr.Column] = []
            examples: dict[str, gr.Dataset] = {}  # an update of the examples themselves would send their files anew
            for kind in ("photos", "drawings"):
                if pictures := example_pictures(task.app, kind):
                    samples = [[str(path)] for path in pictures]
                    with gr.Column(visible=pictures == handlers.examples(handlers.models.default)) as column:
                        one = gr.Examples(samples, inputs=[photo], label="Examples", cache_examples=False)
                    examples[kind] = one.dataset
                    columns.append(column)
        with _right():
            look: dict[str, Any] = {"show_label": False, "format": "jpeg", "buttons": ["download", "fullscreen"]}
            picture = _result(PictureInFile, value=answer, **look)
            sentence = _sentence(says)
            details = task.make_details(table)
    taken.upload(lambda path: path, taken, photo, api_visibility="private")
    swap = guarded(handlers.swapper(examples))
    chosen.then(swap, [controls.model, photo, notice], [photo, *columns], **_hidden(notice))
    looked = gr.on(
        [photo.change, *controls.changes()],
        guarded(one_by_one(handlers.photo, task.option)),
        [photo, *controls.inputs()],
        [picture, sentence, details],
        api_name=task.verb,
        api_description=f"{task.lead} Returns a picture, a sentence and {details.label or 'details'}.",
        trigger_mode="always_last",
        show_progress_on=picture,
    )
    old = [picture, sentence, details]  # of another photo or model
    looked.failure(lambda: (None, NO_RESULT, None), None, old, api_visibility="private", show_progress="hidden")


def _webcam_tab(task: Task, handlers: Handlers, controls: Controls) -> None:
    with gr.Row(elem_classes="webcam"):
        with _left():
            options = gr.WebcamOptions(mirror=False, constraints=CAMERA)
            camera = _given(Camera, "Camera", sources=["webcam"], streaming=True, webcam_options=options)
            mirror = gr.Checkbox(True, label="Mirror", elem_classes="mirror")
            gr.Markdown(HOW_TO_RECORD, elem_classes="camera-says")
            alone = gr.Button("Webcam in this browser", size="sm", elem_classes="alone")
            link = gr.HTML()
        with _right():
            picture = _result(PictureInAnswer, show_label=False, buttons=[])
            sentence = _sentence(NO_FRAME)
            details = task.make_details()
    alone.click(guarded(handlers.page_alone), controls.model, link, api_visibility="private", **FILES)
    clock = gr.State(None)
    camera.stream(
        guarded(one_by_one(handlers.frame, task.option)),
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
        with _left():
            video = _given(gr.Video, "Video: MP4, MOV, WebM, MKV, AVI", sources=["upload"])
            start = gr.Button("Start", variant="primary")
        with _right():
            result = _result(gr.Video, show_label=False)
            sentence = _sentence(HOW_TO_VIDEO)
    start.click(
        guarded(one_by_one(handlers.video, task.option)),
        [video, *controls.inputs()],
        [result, sentence],
        api_name=f"{task.verb}_video",
        show_progress_on=result,
        **FILES,
    )


def _many_tab(task: Task, handlers: Handlers, controls: Controls) -> None:
    with gr.Row():
        with _left():
            files = gr.File(label="Photos, or zip archives of photos", file_count="multiple", height=LIST_HEIGHT)
            folder = gr.UploadButton("Choose a folder", file_count="directory", size="sm")
            start = gr.Button("Start", variant="primary")
        with _right():
            look: dict[str, Any] = {"columns": 3, "object_fit": "contain", "buttons": ["download", "fullscreen"]}
            pictures = gr.Gallery(label="The first photos", height=GALLERY_HEIGHT, interactive=False, **look)
            sentence = _sentence("Choose photos, then press Start.")
            table = gr.File(label="Table (CSV)", interactive=False, height=FILE_HEIGHT)
    folder.upload(lambda paths: paths, folder, files, api_visibility="private")
    start.click(
        guarded(one_by_one(handlers.photos, task.option)),
        [files, *controls.inputs()],
        [table, sentence, pictures],
        api_name=f"{task.verb}_photos",
        show_progress_on=pictures,
        **FILES,
    )
