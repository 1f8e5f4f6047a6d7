"""The default detector's network alone in OpenVINO: milliseconds over mult-adds, beside YOLO11n and YOLO26n.

    python benchmarks/pareto.py --out docs/pareto --page docs/latency.md     a025 to a100 at 160, 224 and 300 pixels
    python benchmarks/pareto.py --quick --out /tmp/pareto                    a025 at 160 and 224, two rounds: a trial

Each network is computed in float32, in bfloat16 where the processor supports it, and in 8 bits, quantised with the
demos' examples; weights are random, with 80 classes. All are exported and opened first. In every round each is then
computed for a fraction of a second without a pause; its figure is the median of its rounds' medians. YOLO needs the
package ultralytics (AGPL-3.0, no dependency). --out writes OUT.png, and the table between two marks of --page.
"""

import argparse
import itertools
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import contenders as c
import peers
from machine import hot_loops, machine_limits, set_threads
from pages import around_marks, as_markdown, write_1_2_5, write_between

from apps.common.deploy.formats import quantize
from apps.common.deploy.runtime import kept_onnx
from apps.common.deploy.sessions import load_session
from apps.common.evaluation.plots import new_figure
from apps.common.images import read_image, stack_images
from apps.detection.data.batches import to_square
from backbone.files import written_whole
from backbone.runtimes import processor
from backbone.text import reason_of

WAYS = {"float32": "openvino", "bf16": "openvino-bf16", "int8": "openvino-int8"}  # see contenders.WAYS
SIDES = (160, 224, 300)
YOLOS = {"YOLO11n": "#d95f02", "YOLO26n": "#b2182b"}
BESIDE = {"YOLO11n": ((0, 9), "center"), "YOLO26n": ((-9, -4), "right")}  # where their names stand; others: right
COLOURS = {"a025": "#6ba6d2", "a050": "#3a8ac4", "a075": "#1c5aa0", "a100": "#0b2a5b", **YOLOS}
SECONDS = 0.4  # of each network in each round


class Network(NamedTuple):
    """A network at a resolution in pixels and in a precision, its mult-adds, and a function that computes it once."""

    name: str
    side: int
    precision: str
    mult_adds: int
    compute: Callable[[], Any]


def ours(name: str, side: int, precision: str, settings: c.Settings) -> Network:
    """Open one of our networks; ValueError if the processor does not support its precision."""
    detector = c.make_detector(name, settings, resolution=side)
    graph, file = detector.graph(), kept_onnx(detector.graph(), resolution=side)
    photos = [stack_images([to_square(read_image(path), side)]) for path in sorted(peers.EXAMPLES.glob("*.jpg"))]
    if precision == "int8":
        exact, file = file, settings.folder / f"{name}-{side}-int8.onnx"
        quantize(exact, file, (graph.feed(photo).contiguous().numpy() for photo in photos))
    session = load_session(file, "openvino", threads=settings.threads, precision=c.WAYS[WAYS[precision]][2])
    if precision == "bf16" and not session.bf16:
        raise ValueError("this processor does not support bfloat16")
    return Network(name, side, precision, c.count_mult_adds(detector.network, side), partial(session, photos[0]))


def yolo(name: str, side: int, precision: str, settings: c.Settings) -> Network:
    """Open a peer, see `peers.yolo`."""
    found = peers.yolo(name.lower(), WAYS[precision], settings)
    photo = found.before(read_image(min(peers.EXAMPLES.glob("*.jpg"))))
    return Network(name, side, precision, found.mult_adds, partial(found.network, photo))


def open_all(names: Sequence[str], sides: Sequence[int], settings: c.Settings) -> list[Network]:
    """Export and open all networks in all precisions; what is unavailable is named and skipped."""
    found = []
    for name, precision in itertools.product(names, WAYS):
        for side in (peers.YOLO_SIDE,) if name in YOLOS else sides:
            try:
                found.append((yolo if name in YOLOS else ours)(name, side, precision, settings))
            except (ImportError, ValueError) as error:
                print(f"{name} in {precision} is skipped: {reason_of(error)}", file=sys.stderr)
    return found


def table(networks: Sequence[Network], ms: Sequence[float]) -> str:
    """A row for each network and resolution, a column for each precision."""
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    for one, value in zip(networks, ms, strict=True):
        names = one.name, str(one.side), f"{one.mult_adds / 1e6:.0f}"
        rows.setdefault(names, {})[one.precision] = f"{value:.2f}"
    cells = [[*names, *(row.get(precision, "") for precision in WAYS)] for names, row in rows.items()]
    return as_markdown(["network alone, ms", "pixels", "million mult-adds", *WAYS], cells)


def draw(path: Path, networks: Sequence[Network], ms: Sequence[float], limits: dict[str, tuple[float, str]]) -> None:
    """A panel for each precision, both axes logarithmic, with the machine's limit in GFLOP/s where it is known."""
    figure = new_figure(14, 6)
    ends = [pick(one.mult_adds for one in networks) / 1e6 for pick in (min, max)]
    for axes, precision in zip(figure.subplots(1, len(WAYS), sharey=True), WAYS, strict=True):
        found = sorted(
            (one.mult_adds / 1e6, y, one.name)
            for one, y in zip(networks, ms, strict=True)
            if one.precision == precision
        )
        for name, colour in COLOURS.items():
            line = [(x, y) for x, y, whose in found if whose == name]
            if not line:
                continue
            look = ("*", 13) if name in YOLOS else ("o", 6)
            axes.plot([x for x, _ in line], [y for _, y in line], color=colour, marker=look[0], markersize=look[1])
            at, across = BESIDE.get(name, ((8, -3), "left"))
            axes.annotate(name, line[-1], at, textcoords="offset points", ha=across, color=colour, fontsize=9)
        if precision in limits:
            at_best = [2 * x / limits[precision][0] for x in ends]
            axes.plot(ends, at_best, "--", color="gray", label="at the rate of a matrix product")
            axes.legend(loc="lower right", frameon=False)
        axes.set(title=precision, xlabel="million mult-adds", xscale="log", yscale="log")
        axes.set(xlim=(ends[0] / 2.6, ends[1] * 2.6), ylim=(min(ms) / 1.5, max(ms) * 1.5))
        write_1_2_5(axes)
    figure.axes[0].set_ylabel("milliseconds")
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="two rounds of our smallest networks")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    if args.out:
        page = args.page or args.out.with_suffix(".md")
        around_marks(page, "pareto.py")  # is refused before the work
    names, sides, rounds = (["a025"], SIDES[:2], 2) if args.quick else ([*COLOURS], SIDES, args.rounds)
    set_threads(args.threads)
    limits = machine_limits(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        networks = open_all(names, sides, c.Settings(Path(folder), args.threads, None, "pyramid", False))
        ms = hot_loops([one.compute for one in networks], rounds, SECONDS)
    text = f"{processor()}, {args.threads} threads, {rounds} rounds of {SECONDS} s:\n\n{table(networks, ms)}"
    print(text)
    if args.out:
        picture = args.out.with_suffix(".png")
        draw(picture, networks, ms, limits)
        write_between(page, "pareto.py", f"![Milliseconds over mult-adds, by precision]({picture.name})\n\n{text}")


if __name__ == "__main__":
    main()
