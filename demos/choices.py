"""Which models a page offers, and one loaded predictor for each."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from apps.common.checkpoint import DESCRIPTION, load_json, model_folder

BUNDLED = Path(__file__).parent / "models"
EXAMPLES = Path(__file__).parent / "examples"
RUNS = Path("runs")


class Choice(NamedTuple):
    """A model on offer: a model folder, or the name of published weights and their width."""

    label: str
    checkpoint: Path | None = None
    weights: str | None = None
    backbone: str = "a075"


Load = Callable[[Choice, bool], Any]


def find_choices(app: str, *, checkpoint: Path | None = None, published: Sequence[Choice] = ()) -> list[Choice]:
    """What can be chosen: the given checkpoint, the user's runs newest first, the bundled model, published weights.

    Raises:
        ValueError: the given checkpoint is not a model folder.
    """
    found = [Choice(f"given: {_name(model_folder(checkpoint))}", model_folder(checkpoint))] if checkpoint else []
    runs = sorted(RUNS.glob(f"{app}/*/best/{DESCRIPTION}"), key=lambda path: path.stat().st_mtime, reverse=True)
    found += [Choice(f"your run: {_name(path.parent)}", path.parent) for path in runs]
    if (BUNDLED / app / DESCRIPTION).is_file():
        about = load_json(BUNDLED / app / DESCRIPTION)
        found.append(Choice(f"bundled: {about.get('backbone')}, trained on the sample set", BUNDLED / app))
    return [*found, *published]


def example_pictures(app: str) -> list[Path]:
    """The pictures that a page has ready."""
    return sorted((EXAMPLES / app).glob("*.jpg"))


def _name(folder: Path) -> str:
    return folder.parent.name if folder.name == "best" else folder.name


class Models:
    """Predictors by the label of their choice, each loaded when first used; one visitor at a time uses one.

    Args:
        choices: the first is the default.
        load: makes the predictor of a choice; its second argument is the app's option (show sensitive attributes).
        missing: a sentence for people if there is no choice.
    """

    def __init__(self, choices: Sequence[Choice], load: Load, *, missing: str) -> None:
        self.choices = {choice.label: choice for choice in choices}
        self.missing = missing
        self._load = load
        self._loaded: dict[tuple[str, bool], Any] = {}
        self._locks: dict[tuple[str, bool], threading.Lock] = {}
        self._door = threading.Lock()

    @property
    def default(self) -> str | None:
        """The label of the first choice; None without any."""
        return next(iter(self.choices), None)

    def is_here(self, label: str) -> bool:
        """Whether a choice can be used without a download."""
        return self.choices[label].checkpoint is not None or (label, False) in self._loaded

    @contextmanager
    def use(self, label: str | None, option: bool = False) -> Iterator[Any]:
        """The predictor of a choice, for this block alone.

        Raises:
            ValueError: no such choice, or it cannot be loaded.
        """
        if not self.choices:
            raise ValueError(self.missing)
        if label not in self.choices:
            raise ValueError(f"there is no model {label!r}; there are: {'; '.join(self.choices)}")
        key = label, option
        with self._door:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._loaded:
                self._loaded[key] = self._load(self.choices[label], option)
            yield self._loaded[key]
