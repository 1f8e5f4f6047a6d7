"""Bootstrap intervals of figures over photos, and of the difference between two models.

The photos are resampled with replacement `NUM_RESAMPLES` times, with a fixed seed; the interval is the middle 95 % of a
figure's values on these resamples (Efron and Tibshirani, "An Introduction to the Bootstrap", chapter 13). Two models
are evaluated on the same resamples, so that their differences are paired.

Letters in shapes: N photos, R resamples.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

NUM_RESAMPLES, SEED = 1000, 0
AT_ONCE = 4_000_000  # largest number of counts passed to a measure at once, if there are fewer photos
FEW_PHOTOS = 200  # with fewer, the text says what an interval means
LABELS = {"top1": "top-1", "mean_ap": "mean AP"}  # of figures that have another name in metrics.json

Measure = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""From the weights of the photos, (R, N) float64, to figures (R,) by name; NaN where one is undefined."""


class Interval(NamedTuple):
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """Figures by name on N photos, and on each of the R resamples of these photos, (R,).

    A figure that is undefined on the photos is left out.
    """

    num_photos: int
    values: dict[str, float]
    resampled: dict[str, np.ndarray]

    @classmethod
    def of(cls, measure: Measure, num_photos: int) -> "Figures":
        """The results of `measure` on the photos and on their resamples."""
        values = {name: float(value[0]) for name, value in measure(np.ones((1, num_photos))).items()}
        rng, at_once = np.random.default_rng(SEED), max(1, AT_ONCE // num_photos)
        parts: list[Mapping[str, np.ndarray]] = []
        for start in range(0, NUM_RESAMPLES, at_once):
            size = min(at_once, NUM_RESAMPLES - start), num_photos
            drawn = rng.integers(num_photos, size=size)
            parts.append(measure(np.stack([np.bincount(row, minlength=num_photos) for row in drawn]).astype(float)))
        known = [name for name, value in values.items() if np.isfinite(value)]
        return cls(
            num_photos=num_photos,
            values={name: values[name] for name in known},
            resampled={name: np.concatenate([part[name] for part in parts]) for name in known},
        )

    def __sub__(self, other: "Figures") -> "Figures":
        """The paired differences to another model on the same photos."""
        assert self.num_photos == other.num_photos
        names = [name for name in self.values if name in other.values]
        return Figures(
            num_photos=self.num_photos,
            values={name: self.values[name] - other.values[name] for name in names},
            resampled={name: self.resampled[name] - other.resampled[name] for name in names},
        )

    def intervals(self) -> dict[str, Interval]:
        """The figures with their intervals, over the resamples on which they are defined."""
        return {
            name: Interval(value, *np.nanpercentile(self.resampled[name], (2.5, 97.5)).tolist())
            for name, value in self.values.items()
        }

    def note(self, name: str) -> str:
        """The interval of a figure, for a table's last column; "" if it has none."""
        one = self.intervals().get(name)
        return f"; 95 % interval {one.low:.3f} to {one.high:.3f}" if one else ""

    def as_json(self) -> dict[str, dict[str, Any]]:
        """An entry of metrics.json."""
        return {"intervals": {name: {"low": one.low, "high": one.high} for name, one in self.intervals().items()}}

    def describe(self) -> str:
        """The intervals in words; "" if no figure is defined."""
        intervals = self.intervals().items()
        shown = ", ".join(f"{LABELS.get(name, name)} {one.low:.3f} to {one.high:.3f}" for name, one in intervals)
        return shown and f"95 % interval over {count(self.num_photos)}: {shown}. {self.meaning()}".rstrip()

    def meaning(self) -> str:
        """A sentence about the meaning of the intervals, if there are few photos."""
        if self.num_photos >= FEW_PHOTOS or not self.values:
            return ""
        if any(one.low == one.high for one in self.intervals().values()):
            rare = f"3 in {self.num_photos:,} photos" if self.num_photos > 3 else "most photos"
            return f"No spread shows among so few photos: by chance, a fault that {rare} have may not be among them."
        return (
            "So few photos make rough figures: the mean over many such sets of photos most likely lies somewhere in "
            "the interval."
        )


def count(num_photos: int) -> str:
    """In words."""
    return f"{num_photos:,} photo{'s' * (num_photos != 1)}"
