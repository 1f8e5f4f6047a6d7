"""A detector's initial weights: ImageNet weights, a published COCO detector, a model of this app, or none.

    from apps.detection.model.create import create_detector

    start = load_pretrained("coco", width_mult=0.75)
    network = create_detector("a075", num_classes=2, head=start.head, style=start.style)
    print(start.put_into(network, ["dog", "unicorn"]))

Letters in shapes: O outputs of a layer, I its inputs, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from apps.common.images import Normalisation
from apps.common.pretrained import (
    TENSORFLOW_STYLE,
    find_weights,
    imagenet_name,
    learn_rounding,
    load_model_of,
    preprocessing_of,
    style_of,
)
from apps.detection.boxes.anchors import Shapes, fit_shapes, level_shapes
from apps.detection.choices import Head
from apps.detection.data.batches import make_eval_set
from apps.detection.data.coco_classes import COCO_CLASSES, match_names
from apps.detection.data.coco_split import CocoSplit, box_sizes
from apps.detection.model.create import Network, create_detector
from apps.detection.model.pyramid import PyramidDetector
from apps.detection.model.ssd import NUM_LEVELS
from apps.detection.model.tflite_ssd import is_ssd, read_ssd_head
from backbone.mobilenet_v1 import ConvStyle
from backbone.names import backbone_name
from backbone.weights import CATALOG, LoadedWeights, load_graph, unfold_norms
from backbone.weights.catalog import WeightFile
from backbone.weights.fetch import is_fetched

APP = "detection"
COCO_THRESHOLD = 0.482195
"""Scores above it give the best F1 (0.385: precision 0.496, recall 0.315) of the published TFLite detector of width
0.75 on 106 photos of COCO val2017: `eval.py --weights coco --backbone a075`. It is used for that of width 1, too."""


@dataclass(frozen=True, kw_only=True)
class PretrainedDetector:
    """Weights of a whole detector, of a backbone alone, or none, and the style of network that fits them.

    Attributes:
        summary: a description with the source.
        style: padding, activation and norm that they were trained with.
        preprocessing: of the pixels they were trained on.
        state: some or all of a network's `state_dict()`; its class predictors may have other classes than the network.
        class_names, category_ids: of the class predictors' rows 1 to K; empty without class predictors.
        resolution: that a detector was trained at, in pixels; None if it is not one.
        head: of a detector, see `model.create_detector`; None if it is not one.
        anchor_shapes: that an SSD was trained with; None for the reference's.
        threshold: of a detector, see `Detector`; None if not known.
        of_detector: a backbone alone, of a detector.
        folded: BatchNorm was folded into the convolutions: `backbone.weights.unfold_norms` must come before training.
        in_state: the weights are in the state of a resumed run, not here.
    """

    summary: str
    style: ConvStyle = TENSORFLOW_STYLE
    preprocessing: Normalisation = field(default_factory=Normalisation)
    state: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    class_names: Sequence[str] = ()
    category_ids: Sequence[int] = ()
    resolution: int | None = None
    head: Head | None = None
    anchor_shapes: Shapes | None = None
    threshold: float | None = None
    of_detector: bool = False
    folded: bool = False
    in_state: bool = False

    @property
    def is_trained(self) -> bool:
        """Whether any weights are not random."""
        return bool(self.state) or self.in_state

    @property
    def is_detector(self) -> bool:
        """Whether it can detect without training."""
        return bool(self.class_names)

    def for_head(self, asked: Head | None) -> "PretrainedDetector":
        """Itself, or only its backbone if the requested head is another one."""
        if asked is None or self.head in (None, asked):
            return self
        return PretrainedDetector(
            summary=f"the backbone of {self.summary}",
            style=self.style,
            preprocessing=self.preprocessing,
            state={name: value for name, value in self.state.items() if name.startswith("backbone.")},
            of_detector=True,
            folded=self.folded,
        )

    def put_into(self, network: nn.Module, class_names: Sequence[str]) -> str:
        """Load all weights that fit the classes of a network built with `style`; the others stay random.

        Class predictors are loaded row by row for classes of the same name (Pascal VOC's names count as COCO's), and
        for background. Backbone layers that are wider than in the file (a detector has at least 16 channels) keep
        random filters in the additional channels, whose consumers start at 0: the known features stay exact.

        Returns:
            A sentence about what was loaded.

        Raises:
            ValueError: the weights have another width (the message has both shapes), or the network has another head.
        """
        if self.in_state:
            return "the weights are those of the run"
        mine = network.state_dict()
        if not self.state.keys() <= mine.keys():
            raise ValueError(f"{self.summary}: its head is {self.head}, the network has another one")
        known_rows = [-1 if i is None else i for i in match_names(class_names, self.class_names)]
        background = self.head == "ssd"  # it has a row of its own, the first
        rows = [0, *(row + (row >= 0) for row in known_rows)] if background else known_rows
        for name, value in self.state.items():
            if name.startswith("class_predictors."):
                mine[name] = _take_rows(mine[name], value, rows, num_theirs=len(self.class_names) + background)
            else:
                mine[name] = _fit(name, mine[name], value, self.summary)
        network.load_state_dict(mine)
        if not self.is_detector:
            return "the backbone is taken, the head is new" if self.state else "all weights are new"
        new = [name for name, row in zip(class_names, known_rows, strict=True) if row < 0]
        known = [name for name, row in zip(class_names, known_rows, strict=True) if row >= 0]
        parts = [f"class rows of {', '.join(known)} are taken by name" if known else "no class has a known name"]
        if new:
            parts.append(f"those of {', '.join(new)} are new")
        return "all but the class predictors is taken; " + ", ".join(parts)


def load_pretrained(weights: str | Path, *, width_mult: float) -> PretrainedDetector:
    """Find, download if needed, and read the weights given by `--weights`.

    Args:
        weights: "none", "imagenet" (the best published for the width), "coco" (a published detector), a catalog name
            (`python -m backbone.weights list`), a weight file, or a run or model folder of this app.
        width_mult: the required width.

    Raises:
        ValueError: no weights of that name or width, a failed download, a damaged file. Always one line.
    """
    if str(weights) == "none":
        return PretrainedDetector(summary="random weights")
    if Path(weights).is_dir():
        return _from_model(Path(weights), width_mult)
    words = {"imagenet": imagenet_name, "coco": _coco_name}
    loaded, source = find_weights(weights, width_mult=width_mult, words=words)
    if loaded.layout == "TFLite" and is_ssd(graph := load_graph(source)):
        return _from_ssd(loaded, read_ssd_head(graph))
    backbone_state = {f"backbone.{k}": v for k, v in loaded.state_dict.items() if not k.startswith("classifier.")}
    return PretrainedDetector(
        summary=loaded.summary(),
        style=style_of(loaded),
        preprocessing=preprocessing_of(loaded),
        state=backbone_state,
        folded=loaded.folded,
    )


def usual_weights(width_mult: float) -> str:
    """What training starts from by default: "coco" where a detector of the width is published, else "imagenet".

    Whichever head is trained, that is better by far than ImageNet's weights (docs/detection_transfer.md).
    """
    return "coco" if _coco_detectors(width_mult) else "imagenet"


def start_network(
    start: PretrainedDetector,
    split: CocoSplit,
    head: Head,
    width_mult: float,
    resolution: int,
    device: torch.device,
    *,
    fit_seed: int | None = None,
    qat: bool = False,
) -> Network:
    """A network on `device` for the classes of a split, with its initial weights.

    Args:
        fit_seed: fit the shapes of an SSD's anchors to the boxes of the split, with this seed; None keeps those of
            `start`, usually the reference's.
        qat: see `learn_rounding`.
    """
    shapes = start.anchor_shapes
    if fit_seed is not None:
        fitted = fit_shapes(box_sizes(split.records), num_levels=NUM_LEVELS, seed=fit_seed)
        shapes = fitted.shapes
        print(fitted.summary)
    network = create_detector(
        width_mult,
        num_classes=len(split.class_names),
        resolution=resolution,
        head=head,
        style=start.style,
        anchor_shapes=shapes,
    )
    print(start.put_into(network, split.class_names))
    network = network.to(device).to(memory_format=torch.channels_last)
    if start.folded:
        unfold_norms(network, start.preprocessing(make_eval_set(split, resolution=resolution).some().to(device)))
    if qat:
        sums = [*network.up, *network.down] if isinstance(network, PyramidDetector) else []
        learn_rounding(network, start.class_names, sums=sums)
    return network


def _from_model(folder: Path, width_mult: float) -> PretrainedDetector:
    about, state = load_model_of(folder, app=APP, width_mult=width_mult)
    return PretrainedDetector(
        summary=f"{about['backbone']} from {folder}",
        style=ConvStyle(**about["style"]),
        preprocessing=Normalisation.from_dict(about["preprocessing"]),
        state=state,
        class_names=about["class_names"],
        category_ids=about["category_ids"],
        resolution=about["resolution"],
        head=about.get("head", "ssd"),
        anchor_shapes=about.get("anchor_shapes"),
    )


def _from_ssd(loaded: LoadedWeights, head: dict[str, Tensor]) -> PretrainedDetector:
    """A published detector. Of COCO's 90 rows only the 80 that belong to a class are kept."""
    bias = head["class_predictors.0.bias"]
    num_rows = len(bias) // len(level_shapes(sum(name.startswith("box_predictors.") for name in head) // 2)[0])
    names = COCO_CLASSES if num_rows == 91 else {row: f"class {row}" for row in range(1, num_rows)}
    rows = [0, *names]
    for name in [name for name in head if name.startswith("class_predictors.")]:
        head[name] = head[name].unflatten(0, (-1, num_rows))[:, rows].flatten(0, 1)
    return PretrainedDetector(
        summary=loaded.summary().replace("no classifier", f"SSD with {len(names)} classes"),
        style=style_of(loaded),
        preprocessing=preprocessing_of(loaded),
        state={**{f"backbone.{k}": v for k, v in loaded.state_dict.items()}, **head},
        class_names=list(names.values()),
        category_ids=list(names),
        resolution=loaded.resolution,
        head="ssd",
        threshold=COCO_THRESHOLD if num_rows == 91 else None,
        folded=loaded.folded,
    )


def _coco_name(width_mult: float) -> str:
    """The catalog's COCO detector of a width; of several, one that is on this machine, else the first."""
    if not (fitting := _coco_detectors(width_mult)):
        widths = ", ".join(sorted({entry.backbone for entry in CATALOG if _is_coco_detector(entry)}))
        raise ValueError(
            f"no COCO detector is published for {backbone_name(width_mult)}: there are {widths}; `--weights imagenet` "
            "has all of the paper's widths"
        )
    return next((entry for entry in fitting if is_fetched(entry)), fitting[0]).name


def _coco_detectors(width_mult: float) -> list[WeightFile]:
    return [entry for entry in CATALOG if _is_coco_detector(entry) and abs(entry.width_mult - width_mult) < 1e-9]


def _is_coco_detector(entry: WeightFile) -> bool:
    return entry.task == "detection" and entry.class_list == "coco"


def _take_rows(mine: Tensor, theirs: Tensor, rows: list[int], *, num_theirs: int) -> Tensor:
    """For each anchor, rows of `theirs` in the order of `rows`; -1 keeps the row of `mine`."""
    mine, theirs = mine.unflatten(0, (-1, len(rows))).clone(), theirs.unflatten(0, (-1, num_theirs))
    known = torch.tensor([row >= 0 for row in rows])
    mine[:, known] = theirs[:, [row for row in rows if row >= 0]].to(mine)
    return mine.flatten(0, 1)


def _fit(name: str, mine: Tensor, theirs: Tensor, source: str) -> Tensor:
    """`theirs`; if `mine` is a wider backbone layer, `theirs` inside it."""
    if mine.shape == theirs.shape:
        return theirs
    if mine.ndim != theirs.ndim or any(a < b for a, b in zip(mine.shape, theirs.shape, strict=True)):
        raise ValueError(f"{source}: {name} has shape {tuple(theirs.shape)}, this detector has {tuple(mine.shape)}")
    wider = mine.clone()
    if mine.ndim == 4:
        wider[:, theirs.shape[1] :] = 0
    wider[tuple(slice(side) for side in theirs.shape)] = theirs.to(mine)
    return wider
