"""The tables and the picture of the paper's study, from the records of its finished runs."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter
from paper_runs import TEACHER, Setting, Study
from paper_tables import Row, is_papers, title_of

from apps.common.evaluation.plots import new_figure
from backbone.files import written_whole
from backbone.names import PAPER_NAMES

Done = dict[Setting, list[dict[str, Any]]]  # the records of a setting's finished runs
OURS = (
    "network",
    "pixels",
    "runs",
    "top-1 here",
    "against the first",
    "training loss",
    "M mult-adds here",
    "M params here",
)
THEIRS = ("ImageNet top-1", "against the first", "M mult-adds, paper", "counted", "M params, paper", "counted")


class Spread(NamedTuple):
    """Top-1 in percent over the seeds: how many, mean, and standard deviation (None of one)."""

    count: int
    mean: float
    deviation: float | None

    def __str__(self) -> str:
        return f"{self.mean:.1f}" + (f" ± {self.deviation:.1f}" if self.deviation is not None else "")


def spread_of(runs: Sequence[Mapping[str, Any]]) -> Spread:
    """Of the top-1 of some runs."""
    values = [100 * run["top1"] for run in runs]
    return Spread(len(values), statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def difference(one: Spread, other: Spread) -> str:
    """Points that `one` is above `other`, with the standard error of that where both have several runs."""
    text = f"{one.mean - other.mean:+.1f}"
    if one.deviation is None or other.deviation is None:
        return text
    return f"{text} ± {math.hypot(one.deviation / one.count**0.5, other.deviation / other.count**0.5):.1f}"


class Line(NamedTuple):
    """A line fitted by least squares: top-1 in percent over the logarithm of mult-adds.

    Attributes:
        per_doubling: points for twice the mult-adds.
        at_one: points at one mult-add.
        r2: share of the variance that it explains.
        below: points that the networks of width 0.25 lie below the line of the others, on average.
    """

    per_doubling: float
    at_one: float
    r2: float
    below: float


def fit_line(widths: Sequence[str], mult_adds: Sequence[float], top1: Sequence[float]) -> Line:
    """Through all points; `below` by the line through all but width 0.25."""
    x, y = np.log2(np.asarray(mult_adds, float)), np.asarray(top1, float)
    slope, start = np.polyfit(x, y, 1)
    rest = y - (slope * x + start)
    thin = np.array([width == PAPER_NAMES[0] for width in widths])
    below = math.nan
    if thin.any() and (~thin).sum() > 1:
        others = np.polyfit(x[~thin], y[~thin], 1)
        below = float((np.polyval(others, x[thin]) - y[thin]).mean())
    return Line(float(slope), float(start), float(1 - (rest**2).sum() / ((y - y.mean()) ** 2).sum()), below)


def report(tables: Mapping[str, Sequence[Row]], done: Done, study: Study) -> str:
    """All tables in Markdown, with what the study is.

    Raises:
        ValueError: no run is finished.
    """
    some = next((runs[0] for runs in done.values() if runs), None)
    if some is None:
        raise ValueError("no run is finished")
    photos = " and ".join(f"{number:,} photos of {split}" for split, number in some["num_photos"].items())
    images = study.steps * study.batch_size
    lines = [
        f"{photos}, {some['num_classes']} classes, {study.side} pixels for the paper's 224; {study.steps:,} steps of "
        f"{study.batch_size} photos ({images / some['num_photos']['train']:.1f} epochs), {study.optimizer} at "
        f"{study.lr:g}, augmentation {study.augment}; top-1 in percent: mean and standard deviation over the seeds, "
        "and the difference to the first row with its standard error",
    ]
    for table, rows in tables.items():
        lines += ["", f"### {title_of(table)}", "", *table_lines(table, rows, done)]
    if "figures-4-5" in tables and (said := about_lines(tables["figures-4-5"], done)):
        lines += ["", *said]
    seconds = sum(run["cpu_seconds"] for runs in done.values() for run in runs)
    lines += ["", f"{sum(map(len, done.values()))} runs, {seconds / 60:.0f} minutes of CPU"]
    return "\n".join(lines)


def table_lines(table: str, rows: Sequence[Row], done: Done) -> list[str]:
    """A table in Markdown; rows that are not finished say so. The paper's own tables have its figures beside ours."""
    first = next((spread_of(done[row.setting]) for row in rows[:1] if done[row.setting]), None)
    header = (*OURS, *THEIRS) if is_papers(table) else OURS
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    for row in rows:
        cells = [row.label, *_our_cells(done[row.setting], first, is_first=row is rows[0])]
        cells += _their_cells(row, rows[0]) if is_papers(table) else []
        lines.append("| " + " | ".join(cells) + " |")
    if is_papers(table) and any(row.published_top1 is not None and row.net is None for row in rows):
        lines += ["", "\\* not printed in the paper: of the weight files that its authors published"]
    return lines


def _their_cells(row: Row, first: Row) -> list[str]:
    published, top, net = row.published_top1, first.published_top1, row.net
    top1, gap = "", ""
    if published is not None:
        top1 = f"{published:.1f}" + "*" * (net is None)
        gap = "" if row is first or top is None else f"{published - top:+.1f}"
    mult_adds, weights = row.paper_cost
    printed = (net.mult_adds, net.params) if net else ("", "")
    return [top1, gap, printed[0], f"{mult_adds:.1f}", printed[1], f"{weights:.2f}"]


def _our_cells(runs: Sequence[Mapping[str, Any]], first: Spread | None, *, is_first: bool) -> list[str]:
    if not runs:
        return ["", "0", "not finished", "", "", "", ""]
    spread = spread_of(runs)
    gap = "" if is_first or first is None else difference(spread, first)
    cost = [f"{runs[0]['mult_adds'] / 1e6:.1f}", f"{runs[0]['params'] / 1e6:.2f}"]
    loss = f"{statistics.fmean(run['loss'] for run in runs):.2f}"
    return [str(runs[0]["resolution"]), str(spread.count), str(spread), gap, loss, *cost]


def points_of(rows: Sequence[Row], done: Done) -> list[tuple[str, float, float, float]]:
    """(width, million mult-adds, million parameters, top-1 in percent) of the finished rows, ours."""
    runs = [(row.setting.backbone, done[row.setting]) for row in rows if done[row.setting]]
    return [(name, some[0]["mult_adds"] / 1e6, some[0]["params"] / 1e6, spread_of(some).mean) for name, some in runs]


def published_points(rows: Sequence[Row]) -> list[tuple[str, float, float, float]]:
    """The same of the paper's networks on ImageNet."""
    found = [(row.setting.backbone, *row.paper_cost, row.published_top1) for row in rows]
    return [(name, mult_adds, params, top1) for name, mult_adds, params, top1 in found if top1 is not None]


def about_lines(rows: Sequence[Row], done: Done) -> list[str]:
    """A sentence each about the fitted lines, here and on ImageNet."""
    lines = []
    for where, points in (("here", points_of(rows, done)), ("on ImageNet", published_points(rows))):
        if len({mult_adds for _, mult_adds, _, _ in points}) > 2:
            names, mult_adds, _, top1 = zip(*points, strict=True)
            line = fit_line(names, mult_adds, top1)
            lines.append(
                f"- {where}, {len(points)} networks: {line.per_doubling:+.2f} points for twice the mult-adds "
                f"(R² {line.r2:.3f}); width 0.25 lies {line.below:.1f} points below the line of the others"
            )
    return lines


def draw(path: Path, rows: Sequence[Row], done: Done, study: Study) -> None:
    """Plot top-1 over mult-adds, with the fitted line, and over parameters: here and on ImageNet."""
    figure = new_figure(9.6, 7.2)
    axes = figure.subplots(2, 2, sharey="row")
    here = f"top-1 here, % ({study.side} pixels for 224)"
    for pair, points, label in (
        (axes[0], points_of(rows, done), here),
        (axes[1], published_points(rows), "top-1 on ImageNet, %, published"),
    ):
        for name in PAPER_NAMES:
            own = [point for point in points if point[0] == name]
            for axis, column in zip(pair, (1, 2), strict=True):
                axis.plot([p[column] for p in own], [p[3] for p in own], "o", label=f"width {int(name[1:]) / 100:g}")
        if len({point[1] for point in points}) > 2:
            line = fit_line([p[0] for p in points], [p[1] for p in points], [p[3] for p in points])
            ends = np.array([min(p[1] for p in points), max(p[1] for p in points)])
            pair[0].plot(ends, line.at_one + line.per_doubling * np.log2(ends), "--", color="gray")
            pair[0].set_title(f"{line.per_doubling:+.1f} points for twice the mult-adds, R² {line.r2:.2f}", fontsize=9)
        pair[0].set(xlabel="million mult-adds", ylabel=label)
        pair[1].set(xlabel="million parameters")
        for axis in pair:
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.grid(alpha=0.3)
        pair[1].legend(fontsize=8, loc="lower right")
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")


def draw_taught(path: Path, rows: Sequence[Row], done: Done, study: Study) -> None:
    """Plot top-1 over width, with and without a teacher, means and standard deviations; the teacher as a line."""
    figure = new_figure(5.6, 3.8)
    axes = figure.subplots()
    for taught, label in ((False, "alone"), (True, "taught by width 1")):
        own = [
            row.setting for row in rows if row.setting.taught == taught and done[row.setting] and row.setting != TEACHER
        ]
        spreads = [spread_of(done[setting]) for setting in own]
        widths = [int(setting.backbone[1:]) / 100 for setting in own]
        errors = [spread.deviation or 0.0 for spread in spreads]
        axes.errorbar(widths, [spread.mean for spread in spreads], errors, marker="o", capsize=3, label=label)
    if done[TEACHER]:
        axes.axhline(spread_of(done[TEACHER]).mean, linestyle="--", color="gray", label="the teacher")
    axes.set(xlabel="width", ylabel=f"top-1 here, % ({study.steps:,} steps)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")
