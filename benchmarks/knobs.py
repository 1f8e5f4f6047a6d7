"""Train an app at several widths and resolutions on your photos, and show what each of them buys.

    python benchmarks/knobs.py --app finegrained --data PATH --backbones a025 a050 --resolutions 128 224 --out OUT
    python benchmarks/knobs.py --app faceattr --data FACES --teacher none --epochs 20 --out OUT
    python benchmarks/knobs.py --app detection --data PATH --split test --runs runs/detection/* --out OUT

Each pair is one run of the app's train.py in OUT/BACKBONE-RESOLUTION, from the best published weights of its width;
flags that this script does not have are train.py's. Finished runs are kept, a stopped one goes on: give the same
command again. With --runs, finished runs are compared and none is trained. The best model of each is measured once on
--split by the app's eval.py, its mult-adds are counted, and the network is timed on one photo in the fastest runtime
that is installed. OUT/knobs.md and OUT/knobs.png show the metric over mult-adds, milliseconds and megabytes; no other
run is both as good and as cheap as those on the Pareto front. Choose settings on val; use test only for the figures
that you report.
"""

import argparse
import importlib
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.ticker import LogLocator, NullFormatter

from apps.common.checkpoint import CONFIG, FINISHED, WEIGHTS, load_json, model_folder, save_json
from apps.common.cli import parse
from apps.common.deploy.agreement import random_image
from apps.common.deploy.fastest import time_in_turn
from apps.common.deploy.runtime import start_session
from apps.common.evaluation.plots import new_figure
from apps.common.training.run_log import STATE
from backbone.cost import count_module
from backbone.files import written_whole
from backbone.mobilenet_v1 import MIN_RESOLUTION
from backbone.names import PAPER_NAMES, parse_backbone

APPS = {  # an app -> the module and class of its models, its main metric and what that is called
    "detection": ("apps.detection.model.detector", "Detector", "AP", "AP"),
    "finegrained": ("apps.finegrained.model.classifier", "Classifier", "top1", "top-1"),
    "faceattr": ("apps.faceattr.model.tagger", "Tagger", "mean_ap", "mean AP"),
}
COSTS = {"mult_adds": "million mult-adds", "ms": "milliseconds", "mb": "megabytes"}


class Point(NamedTuple):
    """A run: the metric of its best model on the split, its cost, and what is special about its training."""

    name: str
    backbone: str
    resolution: int
    way: str
    metric: float
    mult_adds: float
    ms: float
    mb: float


def parse_args(args: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The flags of this script, and those of train.py."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--app", required=True, choices=list(APPS))
    parser.add_argument("--data", nargs="+", default=["sample"], help="as train.py's (default: the sample set)")
    parser.add_argument("--backbones", nargs="+", default=list(PAPER_NAMES), help="(default: the paper's four)")
    parser.add_argument("--resolutions", nargs="+", type=int, default=[128, 224], help="(default: 128 and 224)")
    parser.add_argument("--runs", type=Path, nargs="+", default=[], help="finished runs; trains none of its own")
    parser.add_argument("--split", default="val", help="that the metric is measured on (default: val)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs, the table and the picture")
    return parser.parse_known_args(args)


def train_grid(args: argparse.Namespace, flags: Sequence[str]) -> list[Path]:
    """Train every pair that is not finished, and give the folders of all.

    Raises:
        ValueError: the folder has runs of other flags, or training fails.
    """
    pairs = [(name, side) for name in dict.fromkeys(args.backbones) for side in dict.fromkeys(args.resolutions)]
    for name, side in pairs:  # before the first is trained, which may take hours
        parse_backbone(name)
        if side < MIN_RESOLUTION:
            raise ValueError(f"--resolutions must be {MIN_RESOLUTION} or more, got {side}")
    asked, path = {"app": args.app, "data": args.data, "flags": list(flags)}, args.out / "knobs.json"
    begun = path.exists() and any(args.out.glob(f"*/{STATE}"))
    if begun and (there := load_json(path)) != asked:
        raise ValueError(f"{args.out} has runs of {json.dumps(there)}, not {json.dumps(asked)}: take another --out")
    script = importlib.import_module(f"apps.{args.app}.train")
    runs = []
    for backbone, side in pairs:
        run = args.out / f"{backbone}-{side}"
        runs.append(run)
        if (run / FINISHED).exists():
            continue
        given = ["--resolution", str(side), "--data", *args.data, "--out", str(run), *flags]
        given = ["--resume", str(run)] if (run / STATE).exists() else ["--backbone", backbone, *given]
        config = parse(script.Config, given)
        save_json(path, asked)
        print(f"training {backbone} at {side} pixels", flush=True)
        script.train(config)
    return runs


def measure(run: Path, args: argparse.Namespace) -> Point:
    """The point of a finished run.

    Raises:
        ValueError: it is none, or of another app.
    """
    module, name, key, called = APPS[args.app]
    model = getattr(importlib.import_module(module), name).load(run, device=torch.device("cpu"))
    script = importlib.import_module(f"apps.{args.app}.eval")
    data: Any = tuple(args.data) if args.app == "faceattr" else args.data[0]
    where = run / f"knobs-{args.split}"
    record = where / "knobs.json"
    if not record.exists():
        values = script.evaluate(script.Config(checkpoint=run, data=data, split=args.split, out=where))
        if values[key] is None or not math.isfinite(values[key]):
            raise ValueError(f"the split {args.split} of {' '.join(args.data)} is too small for {called}: see {where}")
        save_json(record, {"data": args.data, "metric": values[key]})
    elif (there := load_json(record))["data"] != args.data:
        raise ValueError(f"{record} is of {' '.join(there['data'])}: remove {where} to measure on other data")
    side = model.resolution
    mult_adds, _ = count_module(model.network, (1, 3, side, side))
    session = start_session(model, "auto")
    ms = 1e3 * time_in_turn({"": session}, random_image(side))[""]
    size = (model_folder(run) / WEIGHTS).stat().st_size / 1e6
    return Point(run.name, model.backbone, side, way_of(run), load_json(record)["metric"], mult_adds / 1e6, ms, size)


def way_of(run: Path) -> str:
    """What sets a run apart from training on all labels from published weights, by its record."""
    config = load_json(run / CONFIG)["config"] if (run / CONFIG).exists() else {}
    words = ["from random weights"] if config.get("weights") == "none" else []
    words += ["distilled"] if config.get("teacher") not in (None, "none") else []
    words += ["labels withheld"] if config.get("withhold") else []
    return ", ".join(words)


def front(points: Sequence[Point], cost: str) -> list[Point]:
    """Those that no other one beats in the metric and this cost, the cheapest first."""
    best, found = float("-inf"), []
    for point in sorted(points, key=lambda point: (getattr(point, cost), -point.metric)):
        if point.metric > best:
            best = point.metric
            found.append(point)
    return found


def as_markdown(points: Sequence[Point], called: str, split: str) -> str:
    """A row for each run, the dearest first, with the costs for which it is on the front."""
    header = ["run", "width", "pixels", "trained", "M mult-adds", "ms", "MB", f"{called} on {split}", "on the front of"]
    lines = ["| " + " | ".join(header) + " |", "|---|---|---:|---|---:|---:|---:|---:|---|"]
    fronts = {name: front(points, name) for name in COSTS}
    for point in sorted(points, key=lambda point: -point.mult_adds):
        costs = [f"{point.mult_adds:.1f}", f"{point.ms:.2f}", f"{point.mb:.1f}"]
        on = ", ".join(COSTS[name].removeprefix("million ") for name in COSTS if point in fronts[name])
        cells = [point.name, point.backbone, str(point.resolution), point.way, *costs, f"{point.metric:.3f}", on]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(path: Path, points: Sequence[Point], called: str, split: str) -> None:
    """Plot the metric over each cost, a colour for each width and way, the fronts as lines."""
    figure = new_figure(12.0, 3.8)
    groups = sorted({(point.backbone, point.way) for point in points})
    panels = figure.subplots(1, len(COSTS), sharey=True)
    for axes, (cost, words) in zip(panels, COSTS.items(), strict=True):
        best = front(points, cost)
        axes.step(
            *zip(*((getattr(point, cost), point.metric) for point in best), strict=True),
            where="post",
            color="gray",
            label="Pareto front",
        )
        for backbone, way in groups:
            own = [point for point in points if (point.backbone, point.way) == (backbone, way)]
            label = f"{backbone}, {way}" if way else backbone
            axes.plot([getattr(point, cost) for point in own], [point.metric for point in own], "o", label=label)
            for point in own:
                axes.annotate(f" {point.resolution}", (getattr(point, cost), point.metric), fontsize=7, va="top")
        axes.set(xscale="log", xlabel=words)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(f"{called} on {split}")
    panels[-1].legend(fontsize=7)
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def main(given: Sequence[str] | None = None) -> None:
    """Train and compare; `given` are the flags, None for the command line's."""
    args, flags = parse_args(given)
    try:
        for name in ("--backbone", "--resolution", "--out", "--resume"):
            if any(flag.partition("=")[0] == name for flag in flags):
                raise ValueError(f"{name} is set for each run: use --backbones, --resolutions and --out of this script")
        if args.runs and flags:
            raise ValueError(f"--runs trains nothing: leave out {' '.join(flags)}")
        if args.app != "faceattr" and len(args.data) > 1:
            raise ValueError(f"--data of {args.app} is one folder, got {len(args.data)}")
        points = [measure(run, args) for run in args.runs or train_grid(args, flags)]
        called = APPS[args.app][-1]
        text = as_markdown(points, called, args.split)
        print(text)
        with written_whole(args.out / "knobs.md") as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
        draw(args.out / "knobs.png", points, called, args.split)
    except (ValueError, OSError) as error:
        print(f"knobs.py: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
