"""Compare students with their teacher, with and without labels: the paper's Table 12 on your own faces.

    python benchmarks/faceattr_tradeoff.py --runs runs/faceattr/* --data FACES MORE --split test --out docs/faces

The script measures best/ of each run once on the split. A run's record tells how it was trained: on labels, distilled,
or distilled with some labels withheld; runs of teacher.py are shown as teachers. The figures are mean AP over the
attributes, as in the paper's section 4.5, with mean AP on val in brackets. The script writes OUT.md and OUT.png. Choose
settings on val; use test only for the figures that you report.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from apps.common.evaluation.plots import new_figure
from apps.faceattr.data.load import load_split
from apps.faceattr.evaluation.calibration import decide
from apps.faceattr.evaluation.metrics import attribute_metrics
from apps.faceattr.model.inference import predict_photos
from apps.faceattr.model.tagger import Tagger
from backbone.cost import count_module
from backbone.files import written_whole

WAYS = ("labels only", "distilled", "distilled, labels withheld")


class Row(NamedTuple):
    """One run: its network, how it was trained, its cost in millions, and its mean AP.

    Attributes:
        from_random: training started from random weights; do not compare such runs with those from published weights.
    """

    network: str
    resolution: int
    way: str
    from_random: bool
    mult_adds: float
    parameters: float
    val: float
    mean_ap: float
    by_attribute: dict[str, float | None]


def measure(run: Path, data: Sequence[str], split_name: str) -> Row:
    """Measure cost and mean AP of a run."""
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))["config"]
    if "withhold" not in config:
        way = "teacher"
    elif config["teacher"] in (None, "none"):
        way = "teacher, labels withheld" if config["withhold"] else WAYS[0]
    else:
        way = WAYS[2] if config["withhold"] else WAYS[1]
    tagger = Tagger.load(run, device=torch.device("cpu"))
    split = load_split(data, split_name, attributes=tagger.attributes, bad_data="skip")
    logits = predict_photos(tagger, split.paths, name=run.name, batch_size=32, num_workers=0)
    labels = torch.from_numpy(split.labels)
    said = decide(tagger, logits)
    metrics = attribute_metrics(logits, labels, tagger.attributes, probs=said.probs, present=said.present)
    side = tagger.resolution
    mult_adds, parameters = count_module(tagger.network, (1, 3, side, side))
    return Row(
        tagger.backbone,
        side,
        way,
        config["weights"] == "none",
        mult_adds / 1e6,
        parameters / 1e6,
        json.loads((run / "metrics.json").read_text(encoding="utf-8"))["mean_ap"],
        metrics.values["mean_ap"],
        {one.name: one.ap for one in metrics.per_attribute},
    )


def as_markdown(rows: list[Row], split: str) -> str:
    """A table of teachers and then students, with a column for each way, and a table of each attribute's AP."""
    students = [row for row in rows if row.way in WAYS]
    lines = [
        "| network | pixels | M mult-adds | M parameters | " + " | ".join(WAYS) + " |",
        "|---|---|---|---|" + "---|" * len(WAYS),
    ]
    for row in rows:
        if row not in students:
            name, cells = f"{row.network}, {row.way}", [_cell(row), "", ""]
        elif row.way != next(other.way for other in students if _same(row, other)):
            continue
        else:
            name = row.network + (" from random weights" if row.from_random else "")
            found = {other.way: other for other in students if _same(row, other)}
            cells = [_cell(found[way]) if way in found else "" for way in WAYS]
        lines.append(
            f"| {name} | {row.resolution} | {row.mult_adds:.0f} | {row.parameters:.2f} | {' | '.join(cells)} |"
        )
    names = list(rows[0].by_attribute)
    lines += ["", f"AP on {split} | " + " | ".join(names), "---|" + "---|" * len(names)]
    for row in rows:
        values = " | ".join(f"{row.by_attribute[name]:.3f}" for name in names)
        lines.append(f"{row.network}, {row.resolution}, {row.way} | {values}")
    return "\n".join(lines)


def _cell(row: Row) -> str:
    return f"{row.mean_ap:.3f} ({row.val:.3f})"


def _same(one: Row, other: Row) -> bool:
    return one[:2] == other[:2] and one.from_random == other.from_random


def draw(path: Path, rows: list[Row], split: str) -> None:
    """Plot mean AP over mult-adds, one line for each way and start; teachers are horizontal lines."""
    figure = new_figure(5.6, 3.8)
    axes = figure.subplots()
    for number, way in enumerate(WAYS):
        for from_random in (False, True):
            points = sorted(
                (row.mult_adds, row.mean_ap, f" {row.network}, {row.resolution}")
                for row in rows
                if row.way == way and row.from_random == from_random
            )
            style = {"linestyle": ":", "markerfacecolor": "white"} if from_random else {"label": way}
            axes.plot([p[0] for p in points], [p[1] for p in points], color=f"C{number}", marker="o", **style)
            if way == WAYS[1]:
                for x, y, text in points:
                    axes.annotate(text + ", random at first" * from_random, (x, y), fontsize=7, va="bottom")
    for row in rows:
        if row.way.startswith("teacher"):
            style = ":" if "withheld" in row.way else "--"
            axes.axhline(row.mean_ap, linestyle=style, color="gray", label=f"{row.way} ({row.network})")
    axes.margins(x=0.14)
    axes.set(xscale="log", xlabel="million mult-adds", ylabel=f"mean AP on {split}", title="Students of one teacher")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", required=True)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    rows = [measure(run, args.data, args.split) for run in args.runs]
    rows.sort(key=lambda row: ("teacher" not in row.way, -row.mult_adds, -row.parameters))
    text = as_markdown(rows, args.split)
    print(text)
    with written_whole(args.out.with_suffix(".md")) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    draw(args.out.with_suffix(".png"), rows, args.split)


if __name__ == "__main__":
    main()
