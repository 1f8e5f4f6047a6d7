"""The detectors that `python -m backbone choose --for detection` chooses from, and their measured AP."""

import functools
from typing import NamedTuple

import torch

from apps.detection.choices import Head
from apps.detection.model.create import Network, create_detector
from backbone.candidates import Kind, Net
from backbone.cost import count_module
from backbone.names import PAPER_NAMES
from backbone.runtimes import Run, make_runs

NUM_CLASSES = 90  # COCO's numbers
SIDES = (300, 192, 128)


class Known(NamedTuple):
    """Measured AP of a detector.

    Attributes:
        voc: on 400 photos of Pascal VOC 2007 after 10 epochs of 2,600 others, from ImageNet weights; the mean where
            there are several seeds (docs/detection_recipe.md).
        coco: published by the TensorFlow Object Detection API's model zoo (docs/coco.md).
    """

    voc: float | None = None
    coco: float | None = None


KNOWN: dict[tuple[str, Head, int], Known] = {
    ("a100", "pyramid", 192): Known(voc=0.276),
    ("a100", "ssd", 300): Known(coco=0.21),
    ("a100", "ssd", 192): Known(voc=0.156),
    ("a075", "pyramid", 300): Known(voc=0.269),
    ("a075", "ssd", 300): Known(voc=0.175, coco=0.18),
    ("a025", "pyramid", 128): Known(voc=0.079),
    ("a025", "ssd", 128): Known(voc=0.032),
}


def settings() -> list[tuple[str, Head, int]]:
    """Width, head and side of each: all pyramids, which are the default, and the SSDs with a measured AP."""
    heads: tuple[Head, ...] = ("pyramid", "ssd")
    grid = [(backbone, head, side) for head in heads for backbone in reversed(PAPER_NAMES) for side in SIDES]
    return [one for one in grid if one[1] == "pyramid" or one in KNOWN]


def _create(backbone: str, head: Head, side: int) -> Network:
    return create_detector(backbone, num_classes=NUM_CLASSES, resolution=side, head=head).eval()


@functools.cache
def cost_of(backbone: str, head: Head, side: int) -> tuple[float, float]:
    """Million mult-adds and million parameters."""
    with torch.device("meta"):
        mult_adds, params = count_module(_create(backbone, head, side), (1, 3, side, side))
    return mult_adds / 1e6, params / 1e6


def nets() -> list[Net]:
    """Their cost and accuracy."""
    found = []
    for backbone, head, side in settings():
        mult_adds, params = cost_of(backbone, head, side)
        figures = tuple(KNOWN.get((backbone, head, side), Known()))
        found.append(
            Net(name=f"{backbone} {head}", resolution=side, mult_adds=mult_adds, params=params, figures=figures)
        )
    return found


def runs(runtime: str, threads: int) -> dict[str, Run]:
    """Each with random weights in a runtime; anchors depend on the side, so each side is exported separately."""
    return {
        f"{backbone} {head}-{side}": make_runs(runtime, _create(backbone, head, side), (side,), threads)[side]
        for backbone, head, side in settings()
    }


DETECTORS = Kind(
    name="detection",
    nets=nets,
    make_runs=runs,
    columns=("AP, VOC", "AP, COCO"),
    words="AP {} after 10 epochs of VOC",
)
