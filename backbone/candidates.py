"""The candidates of `python -m backbone choose`, and the rules of the choice."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from backbone.cost import backbone_cost
from backbone.files import cache_dir
from backbone.mobilenet_v1 import create_backbone
from backbone.names import backbone_name
from backbone.runtimes import Run, make_runs
from backbone.weights.figures import ALPHAS, GOOGLE_QUANT_TOP1, GOOGLE_TOP1, RESOLUTIONS

LIMITS = ("max_ms", "max_mb", "max_mult_adds")
Times = dict[str, dict[str, float]]  # runtime -> "a100-224" -> milliseconds


@dataclass(frozen=True, kw_only=True)
class Net:
    """A network that can be chosen.

    Attributes:
        name: its width, and its head if it has one.
        mult_adds, params: in millions; params with norms and biases.
        figures: its accuracy, one for each of the kind's columns, None if unknown; the first one decides.
    """

    name: str
    resolution: int
    mult_adds: float
    params: float
    figures: tuple[float | None, ...]

    @property
    def mb(self) -> float:
        """Size of the parameters in 32-bit floats; 8 bits take a quarter."""
        return 4 * self.params

    @property
    def key(self) -> str:
        """Its key in `Times`."""
        return f"{self.name}-{self.resolution}"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A network, with the time per image in the fastest runtime of this machine, and which one that is."""

    net: Net
    ms: float
    runtime: str

    @property
    def accuracy(self) -> float | None:
        """The figure by which it is chosen."""
        return self.net.figures[0]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of networks to choose from.

    Attributes:
        name: value of the flag `--for`.
        nets: the networks, widest and largest first.
        make_runs: takes a runtime and a number of threads; gives a function for each key that runs one image.
        columns: headers of the figures.
        words: the figures as a phrase, with a placeholder for each.
    """

    name: str
    nets: Callable[[], Sequence[Net]]
    make_runs: Callable[[str, int], dict[str, Run]]
    columns: tuple[str, ...]
    words: str

    @property
    def cache(self) -> Path:
        """The file of cached times."""
        return cache_dir() / f"choose-{self.name}.json"


@functools.cache
def published_nets() -> tuple[Net, ...]:
    """The 16 networks of Figure 4, with the top-1 of the authors' files on ImageNet, in percent, floats and 8 bits."""
    found = []
    for alpha, floats, quant in zip(ALPHAS, GOOGLE_TOP1, GOOGLE_QUANT_TOP1, strict=True):
        for side, figures in zip(RESOLUTIONS, zip(floats, quant, strict=True), strict=True):
            cost = backbone_cost(backbone_name(alpha), side)
            millions = {"mult_adds": cost.mult_adds / 1e6, "params": cost.params / 1e6}
            found.append(Net(name=backbone_name(alpha), resolution=side, figures=figures, **millions))
    return tuple(found)


def published_runs(runtime: str, threads: int) -> dict[str, Run]:
    """Those networks with random weights in a runtime."""
    return {
        f"{backbone_name(alpha)}-{side}": run
        for alpha in ALPHAS
        for side, run in make_runs(runtime, create_backbone(alpha).eval(), RESOLUTIONS, threads).items()
    }


CLASSIFIERS = Kind(
    name="imagenet",
    nets=published_nets,
    make_runs=published_runs,
    columns=("top-1", "8 bits"),
    words="top-1 {} % ({} % in 8 bits)",
)


def candidates(nets: Sequence[Net], times: Times) -> list[Candidate]:
    """The networks, each with the fastest of the runtimes."""
    fastest = [min((of[net.key], runtime) for runtime, of in times.items()) for net in nets]
    return [Candidate(net=net, ms=ms, runtime=runtime) for net, (ms, runtime) in zip(nets, fastest, strict=True)]


def pareto_front(found: Sequence[Candidate]) -> list[Candidate]:
    """The candidates that no other one dominates (at least as fast and as accurate, and better in one of the two)."""
    known = [(one, one.ms, one.accuracy) for one in found if one.accuracy is not None]
    return [
        one
        for one, ms, accuracy in known
        if not any((m <= ms and a >= accuracy) and (m < ms or a > accuracy) for _, m, a in known)
    ]


def choose(found: Sequence[Candidate], limits: dict[str, float]) -> Candidate:
    """The most accurate candidate within all limits; of equally accurate ones the fastest; of unmeasured the largest.

    Raises:
        ValueError: there is none; the message has the smallest value for each limit.
    """
    fitting = [one for one in found if fits(one, limits)]
    if not fitting:
        least = ", ".join(f"{min(value_of(one, name) for one in found):.3g} {unit_of(name)}" for name in limits)
        raise ValueError(f"no network is within {limits_in_words(limits)}: the smallest is {least}")
    known = [(one.accuracy, -one.ms, one) for one in fitting if one.accuracy is not None]
    return max(known, key=lambda row: row[:2])[-1] if known else max(fitting, key=lambda one: one.net.mult_adds)


def fits(one: Candidate, limits: dict[str, float]) -> bool:
    """Whether a network is within all limits."""
    return all(value_of(one, name) <= limit for name, limit in limits.items())


def value_of(one: Candidate, limit: str) -> float:
    """The value that a limit bounds."""
    return one.ms if limit == "max_ms" else getattr(one.net, limit.removeprefix("max_"))


def unit_of(limit: str) -> str:
    """The unit of a limit."""
    return {"max_ms": "ms", "max_mb": "MB", "max_mult_adds": "million mult-adds"}[limit]


def limits_in_words(limits: dict[str, float]) -> str:
    """All limits with their units."""
    return " and ".join(f"{limit:g} {unit_of(name)}" for name, limit in limits.items())
