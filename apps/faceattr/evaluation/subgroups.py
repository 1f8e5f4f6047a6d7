"""Whether attributes are predicted as well for one group of faces as for another.

A group is the faces that have an attribute (Male, Eyeglasses, ...), the other those that have it not.

Letters in shapes: N photos, A attributes.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from apps.faceattr.data.listing import UNKNOWN
from apps.faceattr.evaluation.metrics import FEW, AttributeMetrics, attribute_metrics, mean

GAPS = ("ap", "balanced_accuracy", "f1", "accuracy")


class SubgroupRow(NamedTuple):
    """One attribute in two groups of faces.

    Attributes:
        with_it, without: its metrics among the faces that have the grouping attribute, and that have not.
        said_with_it, said_without: share of them, where it is known, that is predicted to have the attribute.
    """

    name: str
    with_it: AttributeMetrics
    without: AttributeMetrics
    said_with_it: float
    said_without: float

    def gap(self, what: str) -> float | None:
        """`what` of those with the grouping attribute less that of those without; None where one has no such number."""
        first, second = getattr(self.with_it, what), getattr(self.without, what)
        return None if first is None or second is None else first - second

    @property
    def is_small(self) -> bool:
        """Whether a group has fewer than 10 faces of one value, so that the gap says little."""
        return min(self.with_it.few, self.without.few) < FEW


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subgroups:
    """All other attributes among the faces that have, and that have not, the attribute `by`.

    Attributes:
        num_with_it, num_without, num_unknown: faces in each group, and in neither.
        rows: of the attributes that are known in both groups.
        values: mean_ap_with_it, mean_ap_without, and so for balanced_accuracy and f1, each over the `num_compared`
            attributes that both groups have present and absent; None if there are none.
    """

    by: str
    num_with_it: int
    num_without: int
    num_unknown: int
    rows: list[SubgroupRow]
    values: dict[str, float | None]

    def as_json(self) -> dict[str, Any]:
        """Plain types, with all gaps."""
        rows = [
            {
                "name": row.name,
                "with_it": {**row.with_it._asdict(), "said": row.said_with_it},
                "without": {**row.without._asdict(), "said": row.said_without},
                "gaps": {what: row.gap(what) for what in GAPS},
                "is_small": row.is_small,
            }
            for row in self.rows
        ]
        sizes = {name: getattr(self, name) for name in ("num_with_it", "num_without", "num_unknown")}
        return {"by": self.by, **sizes, **self.values, "rows": rows}

    def describe(self) -> list[str]:
        """Lines of text: the sizes, the means, and the widest gap that more than a few faces show."""
        unknown = f", {self.num_unknown:,} unknown" if self.num_unknown else ""
        lines = [f"by {self.by}: {self.num_with_it:,} faces have it, {self.num_without:,} have not{unknown}"]
        num_compared = self.values["num_compared"]
        if not num_compared:
            return [*lines, "  no attribute is known both present and absent in both groups"]
        parts = [
            f"{words} {self.values[f'mean_{what}_with_it']:.3f} against {self.values[f'mean_{what}_without']:.3f}"
            for what, words in (("ap", "mean AP"), ("balanced_accuracy", "balanced accuracy"), ("f1", "F1"))
        ]
        lines.append(f"  over {num_compared} attributes: {', '.join(parts)}")
        gaps = [(gap, row.name) for row in self.rows if (gap := row.gap("balanced_accuracy")) and not row.is_small]
        if gaps:
            gap, name = max(gaps, key=lambda pair: abs(pair[0]))
            lines.append(f"  widest gap of balanced accuracy: {name}, {gap:+.3f} for those with {self.by}")
        if small := [row.name for row in self.rows if row.is_small]:
            names = ", ".join(small[:5]) + f" and {len(small) - 5} more" * (len(small) > 5)
            lines.append(f"  fewer than {FEW} faces of one value in a group, little is sure: {names}")
        return lines


def subgroup_metrics(
    logits: Tensor, labels: Tensor, attributes: Sequence[str], *, probs: Tensor, present: Tensor, by: str, group: Tensor
) -> Subgroups:
    """Metrics within two groups; see `metrics.attribute_metrics` for what is not here.

    Args:
        by: the attribute that makes the groups, not among the rows.
        group: (N,) its labels, of 1, 0 and -1.

    Raises:
        ValueError: one of the groups is empty.
    """
    insides = [group == 1, group == 0]
    sizes = [int(inside.sum()) for inside in insides]
    if not all(sizes):
        raise ValueError(f"--subgroup {by}: {sizes[0]:,} faces have it and {sizes[1]:,} have not; both must occur")
    with_it, without = (
        attribute_metrics(logits[inside], labels[inside], attributes, probs=probs[inside], present=present[inside])
        for inside in insides
    )
    rows = []
    for a, (one, other) in enumerate(zip(with_it.per_attribute, without.per_attribute, strict=True)):
        if attributes[a] != by and one.known and other.known:
            known = labels[:, a] != UNKNOWN
            said = [present[inside & known, a].double().mean().item() for inside in insides]
            rows.append(SubgroupRow(attributes[a], one, other, *said))
    compared = [row for row in rows if row.with_it.few and row.without.few]
    values: dict[str, float | None] = {"num_compared": len(compared)}
    for what in ("ap", "balanced_accuracy", "f1"):
        values[f"mean_{what}_with_it"] = mean([getattr(row.with_it, what) for row in compared])
        values[f"mean_{what}_without"] = mean([getattr(row.without, what) for row in compared])
    return Subgroups(
        by=by, num_with_it=sizes[0], num_without=sizes[1], num_unknown=len(group) - sum(sizes), rows=rows, values=values
    )
