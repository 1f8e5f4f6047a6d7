"""Figures of runs and of reports."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apps.common.pictures import drawable, fonts_of
from backbone.files import written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, sides in inches, of matplotlib without pyplot: no display, no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # half a second to import

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def with_letters(names: Sequence[str]) -> list[str]:
    """Names as matplotlib can draw them, see `pictures.drawable`; fonts for their characters are registered."""
    from matplotlib import font_manager, rcParams

    families = list(rcParams["font.family"])
    for path in sorted({path for name in names for path in fonts_of(name)}):
        try:
            font_manager.fontManager.addfont(path)
            families.append(font_manager.FontProperties(fname=path).get_name())
        except (OSError, RuntimeError):  # of a kind that matplotlib does not read
            continue
    rcParams["font.family"] = list(dict.fromkeys(families))
    return [drawable(name) for name in names]


def confusion_figure(matrix: np.ndarray, names: Sequence[str] | None, *, total: np.ndarray | None = None) -> "Figure":
    """A confusion matrix, true class by predicted class.

    Args:
        names: of rows and columns, with the counts in the cells; None for colours alone.
        total: the sum of each row, if the matrix is a part of a larger one.
    """
    total = matrix.sum(axis=1) if total is None else total
    shares = matrix / np.maximum(total, 1)[:, None]
    size = 7.0 if names is None else 2.5 + 0.32 * len(matrix)
    figure = new_figure(size + 1, size)
    axes = figure.subplots()
    figure.colorbar(axes.imshow(shares, vmin=0, vmax=1, cmap="Blues", interpolation="nearest"), ax=axes, shrink=0.6)
    axes.set(xlabel="predicted", ylabel="true")
    if names is not None:
        axes.set_xticks(range(len(names)), with_letters(names), rotation=90, fontsize=8, parse_math=False)
        axes.set_yticks(range(len(names)), with_letters(names), fontsize=8, parse_math=False)
        for true, predicted in zip(*matrix.nonzero(), strict=True):
            colour = "white" if shares[true, predicted] > 0.5 else "black"
            count = matrix[true, predicted]
            axes.text(predicted, true, count, ha="center", va="center", fontsize=8, color=colour)
    return figure


def plot_curves(path: Path, lines: list[dict[str, Any]], *, panels: dict[str, list[str]]) -> None:
    """Draw values of metrics.jsonl over the step, one panel for each title.

    Args:
        path: the PNG to write.
        lines: the result of `run_log.read_metrics`.
        panels: title -> names of the values drawn in it.
    """
    figure = new_figure(5 * len(panels), 3.6)
    for axes, (title, names) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for name in names:
            points = [(line["step"], line[name]) for line in lines if name in line]
            axes.plot(*zip(*points, strict=True), marker="." if len(points) < 40 else "", label=name)
        axes.set(title=title, xlabel="step", ylim=(0, None))
        if axes.lines:  # a short run may have logged none of them
            axes.legend()
        axes.grid(alpha=0.3)
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=110)
