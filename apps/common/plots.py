"""Pictures of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    """Names as matplotlib can draw them, see `pictures.drawable`; it is told of fonts that have their letters."""
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
