"""Choose width and resolution for this machine: the 16 published networks, timed with the runtimes that are installed.

python -m backbone choose --max-ms 10                     the most accurate network within 10 milliseconds
python -m backbone choose --max-mb 4 --max-mult-adds 100  other limits; they can be combined
python -m backbone choose --threads 1 --out choice.png    on one core, with a plot
python -m backbone choose --for detection --max-ms 20     detectors, by their measured AP

Milliseconds are the time of one image in float32, the network alone, in the fastest runtime: the median of a loop with
warm caches, the best of four rounds. They are measured once, which takes up to two minutes, and cached for these
versions, threads and processor. Weights are random, which takes the same time. Top-1 is the ImageNet accuracy that the
authors published for their files. The AP of a detector is that of ten epochs on Pascal VOC, where somebody measured it,
with the published AP on COCO beside it. A star marks the Pareto front of time and accuracy.
"""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import json
import math
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from backbone.candidates import (
    CLASSIFIERS,
    LIMITS,
    Candidate,
    Kind,
    Times,
    candidates,
    choose,
    fits,
    limits_in_words,
    pareto_front,
)
from backbone.files import written_whole
from backbone.runtimes import NEEDED, installed, milliseconds, processor
from backbone.tables import Parser, columns

ROUNDS = 4  # spread over the measurement, so that other work on the machine does not disturb all of them
MOST_THREADS = 1024  # far beyond any use; a million would bring the machine to its knees
SECONDS = 0.12  # per network, runtime and round
DOORS = {"detection": "apps.detection"}  # other kinds, chosen by `python -m apps.detection choose`


def main(args: Sequence[str] | None = None, kind: Kind = CLASSIFIERS) -> None:
    """Print the table and the choice; a mistake, or limits that no network meets, ends in one line and exit code 2."""
    parser = make_parser(kind)
    flags = parser.parse_args(args)
    if flags.kind != kind.name:
        return open_door(DOORS[flags.kind], sys.argv[1:] if args is None else args, parser)
    try:
        threads = torch.get_num_threads() if flags.threads is None else flags.threads
        if not 1 <= threads <= MOST_THREADS:
            raise ValueError(f"--threads must be 1 to {MOST_THREADS}, got {threads}")
        limits = {name: getattr(flags, name) for name in LIMITS if getattr(flags, name) is not None}
        for name, limit in limits.items():
            if not 0 < limit < math.inf:
                raise ValueError(f"--{name.replace('_', '-')} must be a number above 0, got {limit:g}")
        if flags.out and (flags.out.suffix.lower() != ".png" or flags.out.is_dir()):
            raise ValueError(f"--out must be the name of a .png file, got {flags.out}")
        runtimes = flags.runtimes or installed()
        if missing := [name for name in runtimes if name not in installed()]:
            raise ValueError(f"--runtimes {missing[0]} needs {', '.join(NEEDED[missing[0]])}: pip install -e '.[fast]'")
        nets = kind.nets()
        found = candidates(nets, measured(kind, {net.key for net in nets}, runtimes, threads, again=flags.again))
        print("\n".join(line.rstrip() for line in table(kind, found, runtimes, threads)), flush=True)
        best = choose(found, limits)
        if flags.out:
            draw(flags.out, kind, found, limits, best)
        print(sentence(kind, found, best, limits))
    except (ValueError, OSError, ImportError) as error:  # ImportError: a runtime that is there and does not load
        parser.error(" ".join(str(error).split()))


def open_door(module: str, args: Sequence[str], parser: Parser) -> None:
    """Run `python -m module choose` in this process: the backbone imports no app, it knows its command."""
    if not importlib.util.find_spec(module.partition(".")[0]):
        parser.error(f"this is a choice of the package {module}, which is not installed here")
    before, sys.argv = sys.argv, [module, "choose", *args]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        sys.argv = before


def make_parser(kind: Kind = CLASSIFIERS) -> Parser:
    """The flags, documented by their help."""
    parser = Parser(
        prog="python -m backbone choose",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    kinds = [kind.name] if kind is not CLASSIFIERS else [kind.name, *DOORS]
    parser.add_argument(
        "--for", dest="kind", choices=kinds, default=kind.name, help="networks to choose from (default: %(default)s)"
    )
    parser.add_argument("--max-ms", type=float, help="maximum milliseconds per image")
    parser.add_argument("--max-mb", type=float, help="maximum megabytes of parameters, in 32-bit floats")
    parser.add_argument("--max-mult-adds", type=float, help="maximum mult-adds per image, in millions")
    parser.add_argument(
        "--runtimes", nargs="+", choices=list(NEEDED), help="runtimes to time (default: all that are installed)"
    )
    parser.add_argument("--threads", type=int, help="compute threads (default: as many as torch uses)")
    parser.add_argument("--again", action="store_true", help="measure again, even if the times are cached")
    parser.add_argument("--out", type=Path, help="plot accuracy over milliseconds to this PNG file; needs matplotlib")
    return parser


def measured(kind: Kind, names: set[str], runtimes: Sequence[str], threads: int, *, again: bool) -> Times:
    """Milliseconds of all networks in these runtimes, from the cache, or measured now and cached."""
    kept = _read(kind.cache, names)
    keys = {runtime: circumstances(runtime, threads) for runtime in runtimes}
    found: Times = {}
    for runtime, key in keys.items():
        if again or key not in kept:
            print(f"measuring {len(names)} networks in {runtime} ...", file=sys.stderr, flush=True)
            kept[key] = measure(kind, runtime, threads)
            with contextlib.suppress(OSError), written_whole(kind.cache) as temporary:  # else measured again next time
                temporary.write_text(json.dumps(kept, indent=1), encoding="utf-8")
        found[runtime] = kept[key]
    return found


def _read(place: Path, names: set[str]) -> Times:
    """The cached times that have the form of `measure`'s result; anything else is ignored."""
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return {
        key: times
        for key, times in (content.items() if isinstance(content, dict) else ())
        if isinstance(times, dict)
        and set(times) == names
        and all(isinstance(ms, float) and 0 < ms < math.inf for ms in times.values())
    }


def measure(kind: Kind, runtime: str, threads: int) -> dict[str, float]:
    """Milliseconds of all networks in a runtime, the minimum over the rounds."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        runs = kind.make_runs(runtime, threads)
        rounds = [{name: milliseconds(run, SECONDS) for name, run in runs.items()} for _ in range(ROUNDS)]
        return {name: min(times[name] for times in rounds) for name in runs}
    finally:
        torch.set_num_threads(before)


def circumstances(runtime: str, threads: int) -> str:
    """Everything that the times depend on, as one line: the key in the cache."""
    versions = [_version(name) for name in (NEEDED[runtime][-1], "torch")]
    return "; ".join([*dict.fromkeys(versions), f"{threads} threads", processor()])


def _version(module: str) -> str:
    """Package and version of a module: onnxruntime, for one, is in onnxruntime-gpu, too."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return f"{module} {importlib.metadata.version(module)}"
    packages = sorted(set(importlib.metadata.packages_distributions().get(module, [])))
    return " ".join(f"{name} {importlib.metadata.version(name)}" for name in packages) or f"{module}, version unknown"


def sentence(kind: Kind, found: Sequence[Candidate], best: Candidate, limits: dict[str, float]) -> str:
    """The choice as a sentence, and the largest network within the limits if its accuracy was not measured."""
    within = f" within {limits_in_words(limits)}" if limits else ""
    if best.accuracy is None:
        return f"The largest{within}: {_named(best)}; no accuracy within these limits was measured."
    said = f"The most accurate{within}: {_named(best)}, {kind.words.format(*best.net.figures)}."
    others = [one for one in found if one.accuracy is None and fits(one, limits)]
    largest = max([best, *others], key=lambda one: one.net.mult_adds)
    return said if largest is best else f"{said}\nLarger, but its accuracy was not measured: {_named(largest)}."


def _named(one: Candidate) -> str:
    return f"{one.net.name} at {one.net.resolution} pixels, {one.ms:.2f} ms in {one.runtime}"


def table(kind: Kind, found: Sequence[Candidate], runtimes: Sequence[str], threads: int) -> list[str]:
    """All networks; a star marks the Pareto front of time and accuracy."""
    front = pareto_front(found)
    rows: list[tuple[str, ...]] = [
        ("name", "pixels", "ms", "", "runtime", "M mult-adds", "M params", "MB", *kind.columns)
    ]
    for one in found:
        net, measures = one.net, (f"{one.ms:.2f}", "*" if one in front else "", one.runtime)
        costs = (f"{net.mult_adds:.1f}", f"{net.params:.2f}", f"{net.mb:.1f}")
        figures = ("" if figure is None else str(figure) for figure in net.figures)
        rows.append((net.name, str(net.resolution), *measures, *costs, *figures))
    title = f"{processor()}, {threads} threads, {', '.join(runtimes)}; one image, float32, the network alone"
    align = "lrrllrrr" + "r" * len(kind.columns)
    return [title, "", *columns(rows, align), "* Pareto front: no other network is as fast and as accurate", ""]


def draw(path: Path, kind: Kind, found: Sequence[Candidate], limits: dict[str, float], best: Candidate) -> None:
    """Plot known accuracies over milliseconds, with the front as a line and the limit and the choice marked.

    Raises:
        ValueError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, NullFormatter
    except ModuleNotFoundError:
        raise ValueError("--out draws with matplotlib, which is not installed") from None
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    known = [(one.net, one.ms, one.accuracy) for one in found if one.accuracy is not None]
    for name in dict.fromkeys(net.name for net, _, _ in known):
        own = [(ms, accuracy, net.resolution) for net, ms, accuracy in known if net.name == name]
        axes.plot([one[0] for one in own], [one[1] for one in own], "o", label=name)
        for ms, accuracy, side in own:
            axes.annotate(f" {side}", (ms, accuracy), fontsize=7, va="top")
    front = sorted((one.ms, one.accuracy) for one in pareto_front(found) if one.accuracy is not None)
    axes.plot([ms for ms, _ in front], [y for _, y in front], color="gray", zorder=0, label="Pareto front")
    if best.accuracy is not None:
        axes.plot(best.ms, best.accuracy, "o", markersize=13, fillstyle="none", color="black", label="chosen")
    if "max_ms" in limits:
        axes.axvline(limits["max_ms"], linestyle="--", color="black")
    axes.set(xscale="log", xlabel="milliseconds per image", ylabel=kind.columns[0])
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
