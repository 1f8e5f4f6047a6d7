"""Which models a page offers, and one loaded predictor for each."""

import importlib.util
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apps.common.checkpoint import DESCRIPTION, LAST, last_run, model_folder
from apps.common.choices import Runtime
from apps.common.cli import as_started, plain_message
from apps.common.deploy.formats import exported_format
from apps.common.deploy.sessions import MODULES
from demos.task import Choice, Task

BUNDLED = Path(__file__).parent / "models"
EXAMPLES = Path(__file__).parent / "examples"
RUNS = Path("runs")
CALLED: dict[str, str] = {"auto": "the fastest", "torch": "PyTorch", "onnx": "ONNX Runtime", "openvino": "OpenVINO"}
MAX_LOADED = 12  # predictors that stay in memory


class NotUsable(ValueError):
    """A model that cannot be loaded; the reason goes to the console alone, as it may name folders."""


Load = Callable[[Choice, bool, Runtime], Any]


def find_choices(app: str, *, checkpoint: Path | None = None, published: Sequence[Choice] = ()) -> list[Choice]:
    """What can be chosen: the given checkpoint, the user's runs newest first, the bundled model, published weights.

    Raises:
        ValueError: the given checkpoint is not a model folder.
    """
    found = []
    if checkpoint:
        given = checkpoint if exported_format(checkpoint) else model_folder(checkpoint)
        found.append(Choice(f"given: {_name(given)}", given))
    runs = sorted(RUNS.glob(f"{app}/*/best/{DESCRIPTION}"), key=lambda path: path.stat().st_mtime, reverse=True)
    found += [Choice(f"your run: {_name(path.parent)}", path.parent) for path in runs]
    if (BUNDLED / app / DESCRIPTION).is_file():
        found.append(Choice("bundled: sample set", BUNDLED / app))
    return [*found, *published]


def find_runtimes(default: Runtime = "torch") -> dict[str, Runtime]:
    """The runtimes by their label on the page: the default first, then the installed ones."""
    installed: list[Runtime] = [name for name, module in MODULES.items() if importlib.util.find_spec(module)]
    return {CALLED.get(one, one): one for one in (default, "torch", *installed)}


def example_pictures(app: str) -> list[Path]:
    """The example pictures of a page."""
    return sorted((EXAMPLES / app).glob("*.jpg"))


def _name(folder: Path) -> str:
    return folder.parent.name if folder.name == "best" else folder.name


class Models:
    """Predictors by the label of their choice, each loaded when first used; one visitor at a time uses one.

    Args:
        choices: the first is the default.
        load: makes the predictor of a choice, given the app's option (show sensitive attributes) and what computes.
        missing: a sentence for people if there is no choice.
        runtime: what computes unless a visitor chooses something else.
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
) -> Models:
    """The models that a page offers. A model that a flag names is loaded at once, so that a mistake shows at the start.

    Raises:
        ValueError: both a checkpoint and weights are given, or they cannot be loaded.
    """
    if checkpoint and weights:
        raise ValueError("give --checkpoint or --weights, not both")
    checkpoint = last_run(task.app) if checkpoint == LAST else checkpoint
    published = task.published(backbone)
    choices = find_choices(task.app, checkpoint=checkpoint, published=published)
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
    return models
