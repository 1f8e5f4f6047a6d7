"""Two models on the same photos: the paired differences of their figures, and the photos won and lost.

Letters in shapes: N photos.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from apps.common.data.problems import some_of
from apps.common.evaluation.intervals import LABELS, Figures, count
from apps.common.evaluation.report import Page

NUM_SHOWN = 12  # photos won, and as many lost
COMPARE = "compare.html"


def check_names(ours: Sequence[str], theirs: Sequence[str], other: Path, *, what: str) -> None:
    """Raise ValueError unless two models predict the same names in the same order; `what` they are, e.g. "classes"."""
    if list(ours) != list(theirs):
        alone = some_of(sorted(set(ours) ^ set(theirs)))
        differ = f"only one of the two knows {alone}" if alone else "their order differs"
        raise ValueError(f"--compare {other} has other {what} than the model ({differ}): name a run on the same data")


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """A model compared with another one.

    Attributes:
        model, other: their names.
        figures, other_figures: on the same photos.
        gains: (N,) by how much the model is better on each photo; negative if it is worse.
    """

    model: str
    other: str
    figures: Figures
    other_figures: Figures
    gains: np.ndarray

    @property
    def won(self) -> np.ndarray:
        """Indices of the photos on which the model is better, the clearest first."""
        order = np.argsort(-self.gains, kind="stable")
        return order[self.gains[order] > 0]

    @property
    def lost(self) -> np.ndarray:
        """Indices of the photos on which it is worse, the clearest first."""
        order = np.argsort(self.gains, kind="stable")
        return order[self.gains[order] < 0]

    def as_json(self) -> dict[str, Any]:
        """An entry of metrics.json."""
        differences = {name: one._asdict() for name, one in (self.figures - self.other_figures).intervals().items()}
        compared = {"model": self.other, "difference": differences, "won": len(self.won), "lost": len(self.lost)}
        return {"compare": compared}

    def describe(self) -> str:
        """The differences, their meaning, and the numbers of photos, as lines of text."""
        lines = []
        for name, one in (self.figures - self.other_figures).intervals().items():
            values = f"{self.figures.values[name]:.3f} against {self.other_figures.values[name]:.3f}"
            verdict = "better" if one.low > 0 else "worse" if one.high < 0 else "no significant difference"
            lines.append(
                f"{LABELS.get(name, name)} {values} of {self.other}: difference {one.value:+.3f}, 95 % interval "
                f"{one.low:+.3f} to {one.high:+.3f}: {verdict}"
            )
        return "\n".join([*lines, f"better on {count(len(self.won))}, worse on {len(self.lost):,}"])

    def write(self, path: Path, photo: Callable[[int], tuple[np.ndarray, str]]) -> None:
        """Write a page with the differences, and photos won and lost.

        Args:
            photo: a picture of both models' predictions on a photo, the model's on the left, and its caption.
        """
        page = Page(f"{self.model} against {self.other}")
        for line in self.describe().split("\n"):
            page.paragraph(line)
        if meaning := self.figures.meaning():
            page.paragraph(meaning)
        for what, indices, model in (("won", self.won, self.model), ("lost", self.lost, self.other)):
            page.heading(f"Photos {what}: {len(indices):,}")
            if len(indices):
                page.paragraph(f"{model} is better on these; left {self.model}, right {self.other}.")
            page.gallery(photo(int(i)) for i in indices[:NUM_SHOWN])
        page.save(path)
