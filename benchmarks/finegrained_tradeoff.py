"""Compare fine-grained classifiers over width and resolution: a table and a plot of several runs.

    python benchmarks/finegrained_tradeoff.py --runs runs/finegrained/* --data PATH --split test --out docs/finegrained

The script measures best/ of each run once on the split and counts mult-adds and parameters (paper, sections 3.1 to
3.3). It writes OUT.md and OUT.png. Choose settings on val; use test only for the figures that you report.
"""

import argparse
import json
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from apps.finegrained.data.load import load_split
from apps.finegrained.evaluation.metrics import classification_metrics
from apps.finegrained.model.classifier import Classifier
from apps.finegrained.model.inference import predict_photos
from backbone.cost import network_cost
from backbone.files import written_whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="+", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    rows = sorted((measure(run, args.data, args.split) for run in args.runs), key=lambda row: -row["mult_adds"])
    lines = [
        f"| width | pixels | M mult-adds | M parameters | val top-1 | {args.split} top-1 | top-5 |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['backbone']} | {row['resolution']} | {row['mult_adds']:.0f} | {row['parameters']:.2f} "
            f"| {row['val']:.3f} | {row['top1']:.3f} | {row['top5']:.3f} |"
        )
    print("\n".join(lines))
    with written_whole(args.out.with_suffix(".md")) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with written_whole(args.out.with_suffix(".png")) as temporary:
        draw(rows, args.split).savefig(temporary, dpi=110, format="png")


def measure(run: Path, data: str, split_name: str) -> dict:
    """Measure cost and accuracy of a run."""
    classifier = Classifier.load(run, device=torch.device("cpu"))
    split = load_split(data, split_name, class_names=classifier.class_names)
    logits = predict_photos(classifier, split.photos, name=split.name, batch_size=32, num_workers=2)
    labels = torch.tensor([photo.label for photo in split.photos])
    values = classification_metrics(logits, labels, split.class_names).values
    side = classifier.resolution
    cost = network_cost(classifier.network, side)
    return {
        "backbone": classifier.backbone,
        "resolution": side,
        "mult_adds": cost.mult_adds / 1e6,
        "parameters": cost.params / 1e6,
        "val": json.loads((run / "metrics.json").read_text(encoding="utf-8"))["top1"],
        "top1": values["top1"],
        "top5": values["top5"],
    }


def draw(rows: list[dict], split: str) -> Figure:
    """Plot top-1 over mult-adds, one line for each width."""
    least, most = (f(row["mult_adds"] for row in rows) for f in (min, max))
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.subplots()
    for backbone in dict.fromkeys(row["backbone"] for row in rows):
        points = [row for row in rows if row["backbone"] == backbone]
        axes.plot([p["mult_adds"] for p in points], [p["top1"] for p in points], marker="o", label=backbone)
        for point in points:
            position = (point["mult_adds"], point["top1"])
            axes.annotate(f" {point['resolution']}", position, fontsize=8, va="top")
    axes.set(xscale="log", xlabel="million mult-adds", ylabel=f"top-1 on {split}", title="Width and resolution")
    axes.xaxis.set_minor_formatter(NullFormatter())
    ticks = [tick for tick in (5, 10, 20, 50, 100, 200, 500, 1000) if 0.8 * least < tick < 1.2 * most]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


if __name__ == "__main__":
    main()
