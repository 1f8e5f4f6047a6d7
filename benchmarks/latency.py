"""Measure the latency of one photo before, in and after the network, for each app, width and runtime, and for peers.

    python benchmarks/latency.py --out docs/latency          all apps, a025 to a100, every runtime that is installed
    python benchmarks/latency.py --quick --out /tmp/latency  one width for each app, two rounds: a trial
    python benchmarks/latency.py --apps detection --widths a075 --detector coco --photos street.jpg park.jpg

Each contender has its own process, which starts once. In every round the contenders of one app and width, and the peers
of that width, take turns: one computes while all others wait. At its turn a contender runs on one photo as a warm-up,
then on all photos, which are decoded beforehand. At the end each has a hot loop: it runs on all photos for two seconds
without a pause. Peers are eager torch with channels-last weights, OpenCV's dnn module on our ONNX file and, where the
package ultralytics is installed (AGPL-3.0, no dependency of this project), YOLO11n and YOLO26n in our runtimes. Weights
are random, which takes the same time except for NMS: a detector, ours or theirs, that finds no box above its threshold
has nothing to suppress. `--detector coco` uses the published detector instead (a075 and a100), `--peer-weights`
downloads torchvision's weights.

The machine's limit is the best rate of a matrix product, in float32 or bfloat16, among the installed libraries. Peak
memory is that of the contender's process, including Python and libraries. With --out, OUT.png is written, and the
tables between the two marks of OUT.md, which is made if it is not there.
"""

import argparse
import dataclasses
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, get_args

import contenders as c
import cv2
import numpy as np
import peers
import torch
from contenders import Contender, Settings
from machine import machine_limits, peak_memory_mb, set_threads
from pages import around_marks, as_markdown, write_1_2_5, write_between

from apps.common.evaluation.plots import new_figure
from apps.common.images import read_image
from apps.detection.choices import Head
from backbone.files import written_whole
from backbone.runtimes import processor
from backbone.text import reason_of

ONE_ROUND, HOT_SECONDS = 1e-9, 2.0  # seconds that a contender goes on; each photo once, at least
SIZE = (640, 480)  # width and height of the photos after resizing
HEADLINES = {"detection": "a075", "finegrained": "a100", "faceattr": "a025"}  # the widths that are compared with peers
RIVALS = (
    ("detection", "torchvision ssdlite320_mobilenet_v3_large", "in all"),
    ("detection", "yolo11n", "in all"),
    ("detection", "yolo26n", "in all"),
    ("finegrained", "timm mobilenetv1_100", "network"),
)
"""The peers that an app's headline width is compared with, a YOLO in the same way, and which of their times counts."""
PROCESSES = multiprocessing.get_context("forkserver")  # forks of a process that has imported and computed nothing
PROCESSES.set_forkserver_preload([f"apps.{app}.predict" for app in c.MODELS])


class Times(NamedTuple):
    """Milliseconds before, in and after the network, for one photo."""

    before: float
    network: float
    after: float


@dataclasses.dataclass
class Measured:
    """Measurements of a contender: times of every photo and round, and of a hot loop, peak memory in MB, mult-adds."""

    times: list[Times] = dataclasses.field(default_factory=list)
    hot: list[Times] = dataclasses.field(default_factory=list)
    peak_mb: float = 0
    mult_adds: int = 0

    @property
    def in_all(self) -> float:
        """Median milliseconds from photo to answer."""
        return statistics.median(sum(times) for times in self.times)

    @property
    def in_hot_loop(self) -> float:
        """Median milliseconds from photo to answer, without pauses."""
        return statistics.median(sum(times) for times in self.hot)

    @property
    def parts(self) -> Times:
        """Median milliseconds of each step."""
        return Times(*(statistics.median(part) for part in zip(*self.times, strict=True)))

    @property
    def p95(self) -> float:
        """95th percentile of the total, in milliseconds."""
        totals = sorted(sum(times) for times in self.times)
        return totals[min(len(totals) - 1, round(0.95 * len(totals)))]


def makers(app: str, width: str, args: argparse.Namespace) -> dict[str, Callable[[Settings], Contender]]:
    """The function that builds each contender for an app and width, by the contender's name."""
    found: dict[str, Callable[[Settings], Contender]] = {}
    for way in args.ways:
        found[f"{app} {width} {c.WAYS[way][0]}"] = partial(c.ours, app, width, way)
    if not args.no_peers and width == HEADLINES[app]:
        found |= peers.PEERS[app]
        found[f"{app} {width} OpenCV dnn"] = partial(c.opencv_dnn, app, width)
    return found


@torch.inference_mode()
def measure(contender: Contender, photo: np.ndarray) -> Times:
    """Time the three steps on one photo."""
    start = time.perf_counter()
    images = contender.before(photo)
    ready = time.perf_counter()
    output = contender.network(images)
    done = time.perf_counter()
    contender.after(output)
    return Times(1e3 * (ready - start), 1e3 * (done - ready), 1e3 * (time.perf_counter() - done))


def contend(pipe: Connection, make: Callable[[Settings], Contender], settings: Settings, photos: Sequence) -> None:
    """Run a contender's process: send its mult-adds or an error, times as long as asked for, and peak memory."""
    set_threads(settings.threads)
    try:
        contender = make(settings)
    except (ImportError, ValueError, cv2.error) as error:
        pipe.send(reason_of(error))
        return
    pipe.send(contender.mult_adds)
    while seconds := pipe.recv():
        measure(contender, photos[0])
        times, end = [], time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            times += [measure(contender, photo) for photo in photos]
        pipe.send(times)
    pipe.send(peak_memory_mb())


def run_group(
    makers: dict[str, Callable[[Settings], Contender]], settings: Settings, photos: Sequence, rounds: int
) -> dict[str, Measured]:
    """Start contenders, let them take turns, and end them; unavailable contenders are named and skipped."""
    processes, pipes = [], {}
    found: dict[str, Measured] = {}
    for name, make in makers.items():
        ours, theirs = PROCESSES.Pipe()
        process = PROCESSES.Process(target=contend, args=(theirs, make, settings, photos), daemon=True)
        process.start()
        processes.append(process)
        theirs.close()  # if the process dies, recv then ends
        answer = ours.recv()
        if isinstance(answer, str):
            print(f"{name} is skipped: {answer}", file=sys.stderr)
        else:
            pipes[name], found[name] = ours, Measured(mult_adds=answer)
    for _ in range(rounds):
        for name, pipe in pipes.items():
            pipe.send(ONE_ROUND)
            found[name].times += pipe.recv()
    for name, pipe in pipes.items():
        pipe.send(HOT_SECONDS)
        found[name].hot = pipe.recv()
        pipe.send(0)
        found[name].peak_mb = pipe.recv()
    for process in processes:
        process.join()
    return found


def in_a_process(call: Callable, *args: Any) -> Any:
    """Call a function in a new process, apart from the memory and threads of this one, and return its result."""
    with PROCESSES.Pool(1) as pool:
        result = pool.apply(call, args)
        pool.close()
        pool.join()
    return result


def overview(found: dict[str, Measured], args: argparse.Namespace) -> str:
    """A row for each of our networks, a column for each way: total milliseconds, in turns and in a hot loop."""
    names = [c.WAYS[way][0] for way in args.ways]
    rows = []
    for app in args.apps:
        for width in args.widths[app]:
            cells = [found.get(f"{app} {width} {name}") for name in names]
            rows.append(
                [f"{app} {width}", *(f"{one.in_all:.2f}, {one.in_hot_loop:.2f}" if one else "" for one in cells)]
            )
    return as_markdown(["in turns, in a hot loop; ms", *names], rows)


def details(found: dict[str, Measured], limits: dict[str, tuple[float, str]]) -> str:
    """A row for each contender: its steps, the share of the machine's limit, and peak memory."""
    rows = []
    for name, one in found.items():
        rate = None if "int8" in name else limits["bf16" if "bf16" in name else "float32"][0]
        share = f"{2e-4 * one.mult_adds / rate / one.parts.network:.0f} %" if one.mult_adds and rate else ""
        times = (*one.parts, one.in_all, one.p95, one.in_hot_loop)
        rows.append([name, *(f"{value:.2f}" for value in times), share, f"{one.peak_mb:.0f}"])
    return as_markdown(
        ["ms", "before", "network", "after", "in all", "95 % below", "in a hot loop", "of the limit", "peak MB"], rows
    )


def ratios(found: dict[str, Measured], args: argparse.Namespace) -> str:
    """A row for each rival: how many times as fast our network is, in each way."""
    names = [c.WAYS[way][0] for way in args.ways]
    rows = []
    for app, rival, what in RIVALS:
        ours = f"{app} {HEADLINES[app]}"
        cells = []
        for name in names:
            one, peer = found.get(f"{ours} {name}"), found.get(rival) or found.get(f"{rival} {name}")
            theirs = peer and (peer.in_all if what == "in all" else peer.parts.network)
            cells.append(f"{theirs / one.in_all:.2f}" if one and theirs else "")
        if any(cells):
            rows.append([f"{ours} as {rival}{', its network' if what == 'network' else ''}", *cells])
    return as_markdown(["times as fast, in turns", *names], rows) if rows else ""


def draw(path: Path, found: dict[str, Measured], args: argparse.Namespace) -> None:
    """Plot the total time over the width, a line for each way; peers are horizontal lines."""
    figure = new_figure(4.6 * len(args.apps), 3.8)
    for axes, app in zip(figure.subplots(1, len(args.apps), squeeze=False)[0], args.apps, strict=True):
        for name in (c.WAYS[way][0] for way in args.ways):
            every = [(width, found.get(f"{app} {width} {name}")) for width in args.widths[app]]
            points = [(width, one.in_all) for width, one in every if one]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", label=name)
        some = [name for name in peers.PEERS[app] if not name.startswith("yolo") or name.endswith("OpenVINO")]
        for k, name in enumerate(name for name in some if name in found):
            axes.axhline(found[name].in_all, linestyle=(0, (4, 1 + 2 * k)), color="gray", label=name)
        axes.set(title=f"{app}, {c.SIDES[app]} pixels", ylabel="ms a photo, in all", yscale="log")
        write_1_2_5(axes)
        axes.legend(fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.08))
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png", bbox_inches="tight")


def parse_args() -> argparse.Namespace:
    """Parse the command line; `widths` becomes a dict by app."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = [way for way in c.WAYS if way != "torch-compile"]
    parser.add_argument("--apps", nargs="+", default=list(c.MODELS), choices=list(c.MODELS))
    parser.add_argument("--widths", nargs="+", default=["a025", "a050", "a075", "a100"])
    parser.add_argument("--ways", nargs="+", default=default, choices=list(c.WAYS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=10, help="how often each photo is measured")
    parser.add_argument("--photos", type=Path, nargs="+", default=None, help="default: the demos' six examples")
    parser.add_argument("--detector", default=None, help="published weights, as --weights of predict.py")
    parser.add_argument("--head", default="pyramid", choices=get_args(Head), help="of detectors with random weights")
    parser.add_argument("--peer-weights", action="store_true", help="torchvision's published weights")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--quick", action="store_true", help="two rounds of one width for each app")
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    args.widths = {app: [HEADLINES[app]] if args.quick else args.widths for app in args.apps}
    args.rounds = 2 if args.quick else args.rounds
    return args


def main() -> None:
    args = parse_args()
    if args.out:
        around_marks(args.out.with_suffix(".md"), "latency.py")  # is refused before the work
    photos = [cv2.resize(read_image(path), SIZE) for path in args.photos or sorted(peers.EXAMPLES.glob("*.jpg"))]
    limits = in_a_process(machine_limits, args.threads)
    found: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(Path(folder), args.threads, args.detector, args.head, args.peer_weights)
        for app in args.apps:
            for width in args.widths[app]:
                in_a_process(c.prepare, app, width, settings, photos)
                found |= run_group(makers(app, width, args), settings, photos, args.rounds)
    limit = ", ".join(f"{rate:.0f} in {number} ({whose})" for number, (rate, whose) in limits.items())
    about = (
        f"{processor()}, {args.threads} CPU threads, --head {args.head}, {len(photos)} photos of {SIZE[0]}x{SIZE[1]} "
        f"pixels, {args.rounds} rounds in turn, torch {torch.__version__}; the limit is the best matrix product's "
        f"GFLOP/s: {limit}"
    )
    tables = overview(found, args), ratios(found, args), details(found, limits)
    text = "\n\n".join((about, *filter(None, tables)))
    print(text)
    if args.out:
        write_between(args.out.with_suffix(".md"), "latency.py", text)
        draw(args.out.with_suffix(".png"), found, args)


if __name__ == "__main__":
    main()
