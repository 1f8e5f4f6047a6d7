"""Milliseconds for one photo: before, in and after the network, for each app, width and runtime, and for their peers.

    python benchmarks/latency.py --out docs/latency          all apps, a025 to a100, every runtime that is installed
    python benchmarks/latency.py --apps detection --widths a075 --detector coco --photos street.jpg park.jpg

All contenders are built first, then measured in turn, photo by photo and round by round, so that a busy moment hits
them alike; each is called once unmeasured before each measurement. Photos are decoded before. Peers are eager torch
with channels-last weights, as a careful user has them, and OpenCV's dnn module on our own ONNX file; "bare" is a
runtime's own call with its input ready. Weights are random, which costs the same but for suppression: a detector that
finds nothing above its threshold, ours or theirs, has nothing to suppress. `--detector coco` takes the published one
instead (a075 and a100), `--peer-weights` downloads torchvision's.

The machine's limit is the best rate of a float32 matrix product among the libraries at hand. Peak memory is that of a
process of its own, Python and libraries included. With --out, OUT.md and OUT.png are written.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import contenders as c
import cv2
import numpy as np
import torch
from contenders import Contender, Settings

from apps.common.export import import_openvino
from apps.common.images import read_image
from apps.common.plots import new_figure
from apps.common.runtime import MODULES
from backbone.files import written_whole

EXAMPLES = Path(__file__).resolve().parent.parent / "demos" / "examples" / "detection"
SIZE = (640, 480)  # width and height that photos are brought to
Times = list[tuple[float, float, float]]


def makers(args: argparse.Namespace, settings: Settings) -> dict[str, Callable[[], Contender]]:
    """What builds each contender, by its name."""
    found: dict[str, Callable[[], Contender]] = {}
    for app in args.apps:
        for width in args.widths:
            for runtime in args.runtimes:
                found[f"{app} {width} {runtime}"] = partial(c.OURS[app], width, runtime, settings)
                if runtime in MODULES:
                    found[f"{app} {width} bare {runtime}"] = partial(c.bare, app, width, runtime, settings)
            if not args.no_peers:
                found[f"{app} {width} OpenCV dnn"] = partial(c.opencv_dnn, app, width, settings)
        if not args.no_peers:
            found |= {name: partial(make, settings) for name, make in c.PEERS[app].items()}
    return found


@torch.inference_mode()
def measure(contender: Contender, photo: np.ndarray) -> tuple[float, float, float]:
    """Milliseconds before, in and after the network."""
    start = time.perf_counter()
    images = contender.before(photo)
    ready = time.perf_counter()
    output = contender.network(images)
    done = time.perf_counter()
    contender.after(output)
    return 1e3 * (ready - start), 1e3 * (done - ready), 1e3 * (time.perf_counter() - done)


def machine_limit(threads: int, side: int = 1536) -> tuple[float, str]:
    """The best rate of a float32 matrix product, GFLOP/s, and whose it is."""
    a, b = (np.random.default_rng(k).standard_normal((side, side), np.float32) for k in (0, 1))
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    products: dict[str, Callable] = {"torch": lambda: x @ y, "numpy": lambda: a @ b}
    try:
        openvino = import_openvino()
        node = openvino.opset13.parameter([side, side], np.float32)
        model = openvino.Model([openvino.opset13.matmul(node, openvino.opset13.constant(b), False, False)], [node])
        hints = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        request = openvino.Core().compile_model(model, "CPU", hints).create_infer_request()
        products["OpenVINO"] = lambda: request.infer([a], share_inputs=True)
    except (ImportError, ValueError):
        pass
    rates = {}
    for name, product in products.items():
        product()
        best = min(_seconds(product) for _ in range(10))
        rates[name] = 2 * side**3 / best / 1e9
    name = max(rates, key=lambda name: rates[name])
    return rates[name], name


def _seconds(call: Callable) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak_memory(name: str, folder: Path) -> float:
    """MB of a process that builds one contender, from what was exported into a folder, and uses it five times."""
    command = [sys.executable, __file__, *sys.argv[1:], "--memory-of", name, "--folder", str(folder)]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(found.stdout.splitlines()[-1])


def own_peak_memory() -> float:
    """MB of this process, on Linux; getrusage would give that of its parent, if it is larger."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3


def row(name: str, contender: Contender, times: Times, memory: float | None, limit: float) -> list[str]:
    """A line of the table."""
    totals = sorted(sum(parts) for parts in times)
    median, p95 = statistics.median(totals), totals[min(len(totals) - 1, round(0.95 * len(totals)))]
    parts = [statistics.median(part) for part in zip(*times, strict=True)]
    share = 2e-6 * contender.mult_adds / limit / parts[1]
    return [
        name,
        *(f"{part:.2f}" for part in parts),
        f"{median:.2f}",
        f"{p95:.2f}",
        f"{1e3 / median:.0f}",
        f"{100 * share:.0f} %" if contender.mult_adds else "",
        f"{memory:.0f}" if memory else "",
    ]


HEADER = ["", "before, ms", "network", "after", "in all", "95 % below", "photos/s", "of the limit", "peak MB"]


def as_markdown(rows: list[list[str]]) -> str:
    """A table."""
    lines = [HEADER, ["---"] * len(HEADER), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def draw(path: Path, medians: dict[str, float], args: argparse.Namespace) -> None:
    """In all, over the width, a line for each runtime; peers are level lines."""
    figure = new_figure(4.6 * len(args.apps), 3.8)
    for axes, app in zip(figure.subplots(1, len(args.apps), squeeze=False)[0], args.apps, strict=True):
        for runtime in [*args.runtimes, "OpenCV dnn"]:
            values = [medians.get(f"{app} {width} {runtime}") for width in args.widths]
            if any(values):
                axes.plot(args.widths, values, marker="o", label=runtime)
        for k, name in enumerate(name for name in c.PEERS[app] if name in medians):
            axes.axhline(medians[name], linestyle=(0, (4, 1 + 2 * k)), color="gray", label=name)
        axes.set(title=f"{app}, {c.SIDES[app]} pixels", ylabel="ms a photo, in all", yscale="log")
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize=7)
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    runtimes = ["torch", "torch-compile", *MODULES]
    parser.add_argument("--apps", nargs="+", default=list(c.OURS), choices=list(c.OURS))
    parser.add_argument("--widths", nargs="+", default=["a025", "a050", "a075", "a100"])
    parser.add_argument("--runtimes", nargs="+", default=["torch", *MODULES], choices=runtimes)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=20, help="times that each photo is shown")
    parser.add_argument("--photos", type=Path, nargs="+", default=None, help="default: the demos' six examples")
    parser.add_argument("--detector", default=None, help="published weights, as --weights of predict.py")
    parser.add_argument("--peer-weights", action="store_true", help="torchvision's published weights")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--memory-of", default=None, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=None, help=argparse.SUPPRESS)
    return parser.parse_args()


def build(every: dict[str, Callable[[], Contender]]) -> dict[str, Contender]:
    """All contenders that can be had here; the others are named."""
    built = {}
    for name, make in every.items():
        try:
            built[name] = make()
        except (ImportError, cv2.error) as error:
            print(f"{name} is left out: {str(error).strip().splitlines()[0]}", file=sys.stderr)
    return built


def measure_in_turn(built: dict[str, Contender], photos: list[np.ndarray], rounds: int) -> dict[str, Times]:
    """Times of each contender, photo by photo and round by round."""
    times: dict[str, Times] = {name: [] for name in built}
    for _ in range(rounds):
        for photo in photos:
            for name, contender in built.items():
                measure(contender, photo)
                times[name].append(measure(contender, photo))
    return times


def main() -> None:
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
        cv2.setNumThreads(args.threads)
    threads = torch.get_num_threads()
    photos = [cv2.resize(read_image(path), SIZE) for path in args.photos or sorted(EXAMPLES.glob("*.jpg"))]
    if args.memory_of:
        contender = makers(args, Settings(args.folder, threads, args.detector, args.peer_weights))[args.memory_of]()
        for photo in photos[:5]:
            measure(contender, photo)
        print(own_peak_memory())
        return
    with tempfile.TemporaryDirectory() as folder:
        built = build(makers(args, Settings(Path(folder), threads, args.detector, args.peer_weights)))
        limit, whose = machine_limit(threads)
        times = measure_in_turn(built, photos, args.rounds)
        rows = []
        for name, contender in built.items():
            memory = None if args.no_memory or "bare" in name else peak_memory(name, Path(folder))
            rows.append(row(name, contender, times[name], memory, limit))
    text = (
        f"{threads} CPU threads, {len(photos)} photos of {SIZE[0]}x{SIZE[1]} pixels, {args.rounds} rounds in turn, "
        f"torch {torch.__version__}; the limit is {limit:.0f} GFLOP/s, {whose}'s float32 matrix product\n\n"
        f"{as_markdown(rows)}\n"
    )
    print(text)
    if args.out:
        with written_whole(args.out.with_suffix(".md")) as temporary:
            temporary.write_text(text, encoding="utf-8")
        medians = {name: statistics.median(sum(parts) for parts in values) for name, values in times.items()}
        draw(args.out.with_suffix(".png"), medians, args)


if __name__ == "__main__":
    main()
