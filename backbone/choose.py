"""Choose width and resolution for this machine: the 16 published networks, timed with the runtimes that are installed.

python -m backbone choose --max-ms 10                     the most accurate network within 10 milliseconds
python -m backbone choose --max-mb 4 --max-mult-adds 100  other limits; they can be combined
python -m backbone choose --threads 1 --out choice.png    on one core, with a plot

Milliseconds are the time of one image in float32, the network alone, in the fastest runtime: the median of a loop with
warm caches, the best of four rounds. They are measured once, which takes up to two minutes, and cached for these
versions, threads and processor. Weights are random, which takes the same time. Top-1 is the ImageNet accuracy that the
authors published for their files. A star marks the Pareto front of time and accuracy.
"""

import argparse
import contextlib
import importlib.metadata
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from backbone.cost import backbone_cost
from backbone.files import cache_dir, written_whole
from backbone.mobilenet_v1 import create_backbone
from backbone.names import PAPER_NAMES, backbone_name
from backbone.runtimes import NEEDED, installed, make_runs, milliseconds, processor
from backbone.tables import Parser, columns
from backbone.weights.figures import ALPHAS, GOOGLE_QUANT_TOP1, GOOGLE_TOP1, RESOLUTIONS

ROUNDS = 4  # spread over the measurement, so that other work on the machine does not disturb all of them
SECONDS = 0.12  # per network, runtime and round
CACHE = "choose.json"
LIMITS = ("max_ms", "max_mb", "max_mult_adds")
Times = dict[str, dict[str, float]]  # runtime -> "a100-224" -> milliseconds


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A published network.

    Attributes:
        ms, runtime: time per image in the fastest runtime of this machine, and which one that is.
        mult_adds, params: in millions; params with norms and biases.
        mb: size of the parameters in 32-bit floats; 8 bits take a quarter.
        top1, top1_8bit: ImageNet accuracy of the authors' files, in percent.
    """

    name: str
    resolution: int
    ms: float
    runtime: str
    mult_adds: float
    params: float
    mb: float
    top1: float
    top1_8bit: float


def main(args: Sequence[str] | None = None) -> None:
    """Print the table and the choice; a mistake, or limits that no network meets, ends in one line and exit code 2."""
    parser = make_parser()
    flags = parser.parse_args(args)
    try:
        threads = torch.get_num_threads() if flags.threads is None else flags.threads
        if threads < 1:
            raise ValueError(f"--threads must be 1 or more, got {threads}")
        limits = {name: getattr(flags, name) for name in LIMITS if getattr(flags, name) is not None}
        for name, limit in limits.items():
            if not 0 < limit < math.inf:
                raise ValueError(f"--{name.replace('_', '-')} must be above 0, got {limit:g}")
        runtimes = flags.runtimes or installed()
        if missing := [name for name in runtimes if name not in installed()]:
            raise ValueError(f"--runtimes {missing[0]} needs {', '.join(NEEDED[missing[0]])}: pip install -e '.[fast]'")
        found = candidates(measured(runtimes, threads, again=flags.again))
        print("\n".join(line.rstrip() for line in table(found, runtimes, threads)), flush=True)
        best = choose(found, limits)
        if flags.out:
            draw(flags.out, found, limits, best)
        print(sentence(best, limits))
    except (ValueError, OSError) as error:
        parser.error(str(error))


def make_parser() -> Parser:
    """The flags, documented by their help."""
    parser = Parser(
        prog="python -m backbone choose",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--max-ms", type=float, help="maximum milliseconds per image")
    parser.add_argument("--max-mb", type=float, help="maximum megabytes of parameters, in 32-bit floats")
    parser.add_argument("--max-mult-adds", type=float, help="maximum mult-adds per image, in millions")
    parser.add_argument(
        "--runtimes", nargs="+", choices=list(NEEDED), help="runtimes to time (default: all that are installed)"
    )
    parser.add_argument("--threads", type=int, help="compute threads (default: as many as torch uses)")
    parser.add_argument("--again", action="store_true", help="measure again, even if the times are cached")
    parser.add_argument("--out", type=Path, help="plot top-1 over milliseconds to this PNG file; needs matplotlib")
    return parser


def measured(runtimes: Sequence[str], threads: int, *, again: bool) -> Times:
    """Milliseconds of all networks in these runtimes, from the cache, or measured now and cached."""
    place = cache_dir() / CACHE
    kept = _read(place)
    keys = {runtime: circumstances(runtime, threads) for runtime in runtimes}
    found: Times = {}
    for runtime, key in keys.items():
        if again or key not in kept:
            print(f"measuring {len(ALPHAS) * len(RESOLUTIONS)} networks in {runtime} ...", file=sys.stderr, flush=True)
            kept[key] = measure(runtime, threads)
            with contextlib.suppress(OSError), written_whole(place) as temporary:  # else measured again next time
                temporary.write_text(json.dumps(kept, indent=1), encoding="utf-8")
        found[runtime] = kept[key]
    return found


def _read(place: Path) -> Times:
    """The cached times that have the form of `measure`'s result; anything else is ignored."""
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    names = {f"{backbone_name(alpha)}-{side}" for alpha in ALPHAS for side in RESOLUTIONS}
    return {
        key: times
        for key, times in (content.items() if isinstance(content, dict) else ())
        if isinstance(times, dict)
        and set(times) == names
        and all(isinstance(ms, float) and 0 < ms < math.inf for ms in times.values())
    }


def measure(runtime: str, threads: int) -> dict[str, float]:
    """Milliseconds of all networks in a runtime, the minimum over the rounds."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        runs = {
            f"{backbone_name(alpha)}-{side}": run
            for alpha in ALPHAS
            for side, run in make_runs(runtime, create_backbone(alpha).eval(), RESOLUTIONS, threads).items()
        }
        rounds = [{name: milliseconds(run, SECONDS) for name, run in runs.items()} for _ in range(ROUNDS)]
        return {name: min(times[name] for times in rounds) for name in runs}
    finally:
        torch.set_num_threads(before)


def circumstances(runtime: str, threads: int) -> str:
    """Everything that the times depend on, as one line: the key in the cache."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in (NEEDED[runtime][-1], "torch")]
    return "; ".join([*dict.fromkeys(versions), f"{threads} threads", processor()])


def candidates(times: Times) -> list[Candidate]:
    """The 16 networks, widest and largest first, each with the fastest of the runtimes."""
    found = []
    for row, alpha in enumerate(ALPHAS):
        for column, side in enumerate(RESOLUTIONS):
            name = backbone_name(alpha)
            ms, runtime = min((of[f"{name}-{side}"], runtime) for runtime, of in times.items())
            cost = backbone_cost(name, side)
            millions = {"mult_adds": cost.mult_adds / 1e6, "params": cost.params / 1e6, "mb": 4 * cost.params / 1e6}
            published = {"top1": GOOGLE_TOP1[row][column], "top1_8bit": GOOGLE_QUANT_TOP1[row][column]}
            found.append(Candidate(name=name, resolution=side, ms=ms, runtime=runtime, **millions, **published))
    return found


def pareto_front(found: Sequence[Candidate]) -> list[Candidate]:
    """The candidates that no other one dominates (at least as fast and as accurate, and better in one of the two)."""
    return [
        one
        for one in found
        if not any(
            (other.ms <= one.ms and other.top1 >= one.top1) and (other.ms < one.ms or other.top1 > one.top1)
            for other in found
        )
    ]


def choose(found: Sequence[Candidate], limits: dict[str, float]) -> Candidate:
    """The most accurate candidate within all limits; of equally accurate ones the fastest.

    Raises:
        ValueError: there is none; the message has the smallest value for each limit.
    """
    fitting = [one for one in found if all(_value(one, name) <= limit for name, limit in limits.items())]
    if not fitting:
        least = ", ".join(f"{min(_value(one, name) for one in found):.3g} {_unit(name)}" for name in limits)
        raise ValueError(f"no network is within {_words(limits)}: the smallest is {least}")
    return max(fitting, key=lambda one: (one.top1, -one.ms))


def _value(one: Candidate, limit: str) -> float:
    return asdict(one)[limit.removeprefix("max_")]


def _unit(limit: str) -> str:
    return {"max_ms": "ms", "max_mb": "MB", "max_mult_adds": "million mult-adds"}[limit]


def _words(limits: dict[str, float]) -> str:
    return " and ".join(f"{limit:g} {_unit(name)}" for name, limit in limits.items())


def sentence(best: Candidate, limits: dict[str, float]) -> str:
    """The choice as a sentence."""
    within = f" within {_words(limits)}" if limits else ""
    return (
        f"The most accurate{within}: {best.name} at {best.resolution} pixels, {best.ms:.2f} ms in {best.runtime}, "
        f"top-1 {best.top1} % ({best.top1_8bit} % in 8 bits)."
    )


def table(found: Sequence[Candidate], runtimes: Sequence[str], threads: int) -> list[str]:
    """All networks; a star marks the Pareto front of time and accuracy."""
    front = pareto_front(found)
    rows: list[tuple[str, ...]] = [
        ("name", "pixels", "ms", "", "runtime", "M mult-adds", "M params", "MB", "top-1", "8 bits")
    ]
    for one in found:
        measures = (f"{one.ms:.2f}", "*" if one in front else "", one.runtime)
        costs = (f"{one.mult_adds:.1f}", f"{one.params:.2f}", f"{one.mb:.1f}")
        rows.append((one.name, str(one.resolution), *measures, *costs, str(one.top1), str(one.top1_8bit)))
    title = f"{processor()}, {threads} threads, {', '.join(runtimes)}; one image, float32, the network alone"
    return [title, "", *columns(rows, "lrrllrrrrr"), "* Pareto front: no other network is as fast and as accurate", ""]


def draw(path: Path, found: Sequence[Candidate], limits: dict[str, float], best: Candidate) -> None:
    """Plot top-1 over milliseconds, with the front as a line and the limit and the choice marked.

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
    for name in PAPER_NAMES:
        own = [one for one in found if one.name == name]
        axes.plot([one.ms for one in own], [one.top1 for one in own], "o", label=name)
        for one in own:
            axes.annotate(f" {one.resolution}", (one.ms, one.top1), fontsize=7, va="top")
    front = sorted(pareto_front(found), key=lambda one: one.ms)
    axes.plot([one.ms for one in front], [one.top1 for one in front], color="gray", zorder=0, label="Pareto front")
    axes.plot(best.ms, best.top1, "o", markersize=13, fillstyle="none", color="black", label="chosen")
    if "max_ms" in limits:
        axes.axvline(limits["max_ms"], linestyle="--", color="black")
    axes.set(xscale="log", xlabel="milliseconds per image", ylabel="top-1 on ImageNet, %")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
