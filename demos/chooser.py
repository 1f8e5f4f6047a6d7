"""The models of a page, and a loaded predictor for each."""

import importlib.util
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apps.common.checkpoint import CONFIG, DESCRIPTION, FINISHED, LAST, last_run, load_object, model_folder
from apps.common.choices import Runtime
from apps.common.cli import as_started, plain_message
from apps.common.deploy.formats import exported_format
from apps.common.deploy.sessions import MODULES
from apps.common.pretrained import is_ready
from demos.task import Choice, NotUsable, Task

BUNDLED = Path(__file__).parent / "models"
EXAMPLES = Path(__file__).parent / "examples"
PHOTOS = {
    "detection": [("matplotlib", "mpl-data/sample_data/grace_hopper.jpg")],
    "finegrained": [
        ("gradio", "media_assets/images/cheetah.jpg"),
        ("gradio", "media_assets/images/lion.jpg"),
        ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    ],
}
"""Photos in installed packages, for models that know photos."""
RUNS = Path("runs")
CALLED: dict[str, str] = {"auto": "automatic", "torch": "PyTorch", "onnx": "ONNX Runtime", "openvino": "OpenVINO"}
MAX_LOADED = 12  # predictors that stay in memory


Load = Callable[[Choice, bool, Runtime], Any]


def find_choices(
    app: str, *, checkpoint: Path | None = None, published: Sequence[Choice] = (), metric: tuple[str, str] = ("", "")
) -> list[Choice]:
    """What can be chosen: the given checkpoint, the user's finished runs newest first, the bundled model, published \
    weights, and unfinished runs.

    Raises:
        ValueError: the given checkpoint is not a model folder.
    """
    found = []
    if checkpoint:
        given = checkpoint if exported_format(checkpoint) else model_folder(checkpoint)
        found.append(Choice(f"given: {_name(given)}", given, examples=_examples_of(given)))
    runs = sorted(RUNS.glob(f"{app}/*/best/{DESCRIPTION}"), key=lambda path: path.stat().st_mtime, reverse=True)
    mine = {True: list[Choice](), False: list[Choice]()}
    for best in (path.parent for path in runs):
        is_finished = (best.parent / FINISHED).is_file()
        label = f"{'your run' if is_finished else 'unfinished'}: {_name(best)}{_score_and_day(best, metric)}"
        mine[is_finished].append(Choice(label, best, examples=_examples_of(best)))
    if (BUNDLED / app / DESCRIPTION).is_file():
        published = [Choice("bundled: drawings", BUNDLED / app, examples="drawings"), *published]
    return [*found, *mine[True], *published, *mine[False]]


def _score_and_day(best: Path, metric: tuple[str, str]) -> str:
    """A model's metric, from its description, and its date."""
    try:
        score = load_object(best / DESCRIPTION).get("metrics", {}).get(metric[0])
    except (ValueError, OSError, AttributeError):  # which is told when the model is chosen
        score = None
    said = f", {metric[1]} {score:.2f}" if isinstance(score, int | float) else ""
    return f"{said}, {time.strftime('%Y-%m-%d', time.localtime((best / DESCRIPTION).stat().st_mtime))}"


def _examples_of(folder: Path) -> str:
    """Drawings for models of the sample sets; the photos of other data are their owner's."""
    try:
        is_sample = load_object(folder.parent / CONFIG)["config"]["data"] in ("sample", ["sample"])
    except (ValueError, OSError, KeyError, TypeError):  # no run's folder
        is_sample = folder.parent.resolve() == BUNDLED.resolve()
    return "drawings" if is_sample else ""


def find_runtimes(default: Runtime = "torch") -> dict[str, Runtime]:
    """The runtimes by their label on the page: the default first, then the installed ones."""
    installed: list[Runtime] = [name for name, module in MODULES.items() if importlib.util.find_spec(module)]
    return {CALLED.get(one, one): one for one in (default, "torch", *installed)}


def example_pictures(app: str, kind: str = "drawings") -> list[Path]:
    """The example pictures of a page: drawings of this project, or photos that come with packages it needs."""
    if kind == "drawings":
        return sorted((EXAMPLES / app).glob("*.jpg"))
    return [path for package, name in PHOTOS.get(app, ()) if (path := _home_of(package) / name).is_file()]


def _home_of(package: str) -> Path:
    found = importlib.util.find_spec(package)
    return Path(found.origin).parent if found and found.origin else Path("no such package")


def _name(folder: Path) -> str:
    return folder.parent.name if folder.name == "best" else folder.name


class Models:
    """Predictors by the label of their choice, each loaded when first used; one visitor at a time uses one.

    Args:
        choices: the first is the default.
        load: makes the predictor of a choice, given the app's option (show sensitive attributes) and what computes.
        missing: the message if there is no choice.
        runtime: the default runtime.
    """

    def __init__(self, choices: Sequence[Choice], load: Load, *, missing: str, runtime: Runtime = "torch") -> None:
        self.choices = {choice.label: choice for choice in choices}
        self.runtimes = find_runtimes(runtime)
        self.missing = missing
        self._load = load
        self._loaded: dict[tuple[str, bool, str], Any] = {}
        self._locks: dict[tuple[str, bool, str], threading.Lock] = {}
        self._door = threading.Lock()

    @property
    def default(self) -> str | None:
        """The label of the first choice; None without any."""
        return next(iter(self.choices), None)

    def begin_with(self, label: str) -> None:
        """Make a choice the default, if it can be loaded."""
        try:
            with self.use(label):
                self.choices = {label: self.choices[label], **self.choices}
        except NotUsable as error:
            print(f"the page does not begin with {label}: {error}", file=sys.stderr)

    @property
    def runtime(self) -> str:
        """The label of the default runtime."""
        return next(iter(self.runtimes))

    def is_here(self, label: str) -> bool:
        """Whether a choice can be used without a download."""
        return self.choices[label].checkpoint is not None or (label, False, self.runtime) in self._loaded

    @contextmanager
    def use(self, label: str | None, option: bool = False, runtime: str | None = None) -> Iterator[Any]:
        """The predictor of a choice, for this block alone.

        Args:
            runtime: the label of what computes; None for the default.

        Raises:
            ValueError: no such choice.
            NotUsable: it cannot be loaded.
        """
        if not self.choices:
            raise ValueError(self.missing)
        if label not in self.choices:
            raise ValueError(f"there is no model {label!r}; there are: {'; '.join(self.choices)}")
        runtime = runtime or self.runtime
        if runtime not in self.runtimes:
            raise ValueError(f"there is no runtime {runtime!r}; there are: {'; '.join(self.runtimes)}")
        key = label, option, runtime
        with self._door:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._loaded:
                try:
                    self._loaded[key] = self._load(self.choices[label], option, self.runtimes[runtime])
                except (ValueError, OSError) as error:
                    raise NotUsable(plain_message(error)) from error
            predictor = self._loaded[key]
            with self._door:
                for old in [one for one in self._loaded if one != key][: max(0, len(self._loaded) - MAX_LOADED)]:
                    del self._loaded[old]
            yield predictor


def make_models(
    task: Task,
    *,
    checkpoint: Path | None = None,
    weights: str | None = None,
    backbone: str = "a075",
    device: str = "auto",
    runtime: Runtime = "torch",
    download: bool = False,
) -> Models:
    """The models that a page offers. A model that a flag names is loaded at once, so that a mistake shows at the start.

    Args:
        download: where there is neither such a model nor a finished run, begin with the first published one if it is on
            this machine or can be downloaded now.

    Raises:
        ValueError: both a checkpoint and weights are given, or they cannot be loaded.
    """
    if checkpoint and weights:
        raise ValueError("give --checkpoint or --weights, not both")
    checkpoint = last_run(task.app) if checkpoint == LAST else checkpoint
    published = task.published(backbone)
    choices = find_choices(task.app, checkpoint=checkpoint, published=published, metric=task.metric)
    if weights:
        given = Choice(f"given: {Path(weights).name}, {backbone}", None, weights, backbone)
        first = next((one for one in published if one.source() == given.source()), given)
        choices = [first, *(choice for choice in choices if choice is not first)]

    def load(choice: Choice, option: bool, runtime: Runtime) -> Any:
        if choice.checkpoint and exported_format(choice.checkpoint):  # which has a runtime of its own
            return task.load(option, **choice.source())
        return task.load(option, **choice.source(), device=device, runtime=runtime)

    models = Models(
        choices,
        load,
        missing=as_started(
            f"There is no model yet: train one with `python apps/{task.app}/train.py`, then start this page again."
        ),
        runtime=runtime,
    )
    if checkpoint or weights:
        with models.use(models.default):
            pass
    elif download and published and not choices[0].label.startswith("your run") and is_ready(published[0].files):
        models.begin_with(published[0].label)
    return models
