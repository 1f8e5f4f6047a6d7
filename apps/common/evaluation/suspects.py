"""Labels that a trained model disagrees with, the most confident first: a page to work through, and JSON."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from apps.common.checkpoint import save_json, with_last
from apps.common.cli import is_set, say
from apps.common.data.groups import grouping
from apps.common.device import choose_device
from apps.common.evaluation.report import Page

MOST_SHOWN = 300  # suspects with a picture; the JSON file has all
Box = tuple[float, float, float, float]
Model = TypeVar("Model")


class Suspect(NamedTuple):
    """A label that may be wrong, or an object without a label.

    Attributes:
        kind: "other class", "missing box", "attribute", ...
        score: the model's confidence that the label is wrong, 0 to 1; within one list larger is more suspicious.
        split: the photo's split.
        path: the photo.
        object: which of its labels: "labels/a.txt line 3", "annotation 17", an attribute; "" if it has only one.
        label, predicted: the label and the prediction; "" for nothing.
        box_xyxy_px: the region to look at, in pixels of the photo: the label's box, or the missing one; None for all.
        predicted_box_xyxy_px: the model's box for the labelled object, if it is elsewhere.
    """

    kind: str
    score: float
    split: str
    path: Path
    object: str
    label: str
    predicted: str
    box_xyxy_px: Box | None = None
    predicted_box_xyxy_px: Box | None = None

    @property
    def sentence(self) -> str:
        """The suspect as a caption."""
        says = f"labelled {self.label or 'nothing'}, the model says {self.predicted or 'nothing'}"
        where = f"{self.path}:{self.object}" if self.object else str(self.path)
        return f"{self.kind} {self.score:.2f}: {says}; {where} ({self.split})"


def load_reviewer(config: Any, app: str, load: Callable[..., Model]) -> Model | None:
    """The model of check.py's --checkpoint, None without the flag.

    Raises:
        ValueError: there is no such model, or flags contradict each other.
    """
    if config.checkpoint is None:
        if is_set(config, "device"):
            raise ValueError("--device is for --checkpoint: without it, no network runs")
        return None
    config = with_last(config, app)
    grouping(config)
    return load(config.checkpoint, device=choose_device(config.device))


def write_suspects(
    out: Path, suspects: Sequence[Suspect], *, about: dict[str, Any], draw: Callable[[Suspect], np.ndarray], shown: int
) -> list[Suspect]:
    """Write suspects.json and suspects.html, print the first, and return all, the most suspicious first.

    Args:
        about: the model and the data, for both files.
        draw: a suspect's picture (H, W, 3) uint8 RGB.
        shown: the number of suspects to print.
    """
    ranked = sorted(suspects, key=lambda one: -one.score)
    entries = [
        {"rank": rank, **one._asdict(), "score": round(one.score, 4), "file": str(one.path)}
        for rank, one in enumerate(ranked, start=1)
    ]
    save_json(
        out / "suspects.json", {**about, "suspects": [{k: v for k, v in e.items() if k != "path"} for e in entries]}
    )
    page = Page("Suspicious labels")
    page.paragraph("; ".join(f"{name}: {value}" for name, value in about.items()))
    page.paragraph(
        "Labels that the model disagrees with, the most confident first. Check each, and correct it if it is wrong. "
        "Many are right: the model makes mistakes, too, most of all on rare classes and small objects."
    )
    kinds = Counter(one.kind for one in ranked)
    page.table(["kind", "suspects"], kinds.most_common())
    if len(ranked) > MOST_SHOWN:
        page.paragraph(f"Shown are the first {MOST_SHOWN}; suspects.json has all {len(ranked):,}.")
    first = tqdm(ranked[:MOST_SHOWN], desc="drawing suspects", leave=False, disable=None)
    page.gallery((draw(one), f"{rank}. {one.sentence}") for rank, one in enumerate(first, start=1))
    page.save(out / "suspects.html")
    print(f"{len(ranked):,} suspicious labels" + ", the most confident first:" * bool(ranked and shown))
    for one in ranked[:shown]:
        say(f"      {one.sentence}")
    print(f"they are in {out / 'suspects.html'} and suspects.json")
    return ranked
