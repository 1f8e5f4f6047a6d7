"""A network with its preprocessing and postprocessing, shared by train, eval, predict and the demos."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from apps.common.checkpoint import load_model, save_model
from apps.common.choices import Input
from apps.common.deploy.exported import Known, load_exported
from apps.common.deploy.formats import exported_format
from apps.common.deploy.graph import Graph
from apps.common.deploy.sessions import Session, TorchSession, check_finite
from apps.common.images import Normalisation
from apps.detection.boxes.postprocess import Detections, PostProcess, RawOutput
from apps.detection.choices import Head, ScoreFunction
from apps.detection.model.create import Network, create_detector
from apps.detection.model.pretrained import APP, load_pretrained
from apps.detection.model.pyramid import PyramidDetector
from backbone.mobilenet_v1 import ConvStyle
from backbone.names import parse_backbone
from backbone.text import reason_of

UNMEASURED = 0.3  # threshold of a model without one of its own
FILES: Known = {  # outputs of an exported file -> its additional metadata
    ("class_logits", "offsets"): ("category_ids", "nms_iou", "score_function", "anchors_cxcywh"),
    ("boxes_xyxy", "scores", "labels"): ("category_ids", "nms_iou"),
}


@dataclasses.dataclass(kw_only=True)
class Detector:
    """A network with its preprocessing, post-processing and class names.

    Attributes:
        network: the network; `head` says which kind.
        backbone: its width as a name.
        class_names: of label 1, 2, ... K.
        category_ids: COCO's category id of label 1, 2, ... K.
        postprocess: from raw outputs to detections, with the score function of the loss; see `with_thresholds`.
        preprocessing: of the pixels.
        threshold: the score threshold of best F1 on val; None if it was not measured.
        session: runs the network: torch's, or see `start_session`.
    """

    network: Network
    backbone: str
    class_names: list[str]
    category_ids: list[int]
    postprocess: PostProcess
    preprocessing: Normalisation = dataclasses.field(default_factory=Normalisation)
    threshold: float | None = None
    session: Session = None  # type: ignore[assignment]  # see `__post_init__`

    def __post_init__(self) -> None:
        if self.session is None or isinstance(self.session, TorchSession):  # of another network, after `replace`
            self.session = self.torch_session()

    @property
    def usual_threshold(self) -> float:
        """`threshold`, or 0.3 if it was not measured."""
        return UNMEASURED if self.threshold is None else self.threshold

    def with_thresholds(
        self, *, score_threshold: float, max_detections: int | None = None, max_candidates: int | None = None
    ) -> "Detector":
        """The same detector, sharing its network, with other thresholds; see `PostProcess`. None keeps a value."""
        before = self.postprocess
        postprocess = dataclasses.replace(
            before,
            score_threshold=score_threshold,
            max_detections=before.max_detections if max_detections is None else max_detections,
            max_candidates=before.max_candidates if max_candidates is None else max_candidates,
        )
        return dataclasses.replace(self, postprocess=postprocess)

    @property
    def score_function(self) -> ScoreFunction:
        """The function from logits to scores."""
        return self.postprocess.score_function

    @property
    def head(self) -> Head:
        """The kind of head on the backbone."""
        return "pyramid" if isinstance(self.network, PyramidDetector) else "ssd"

    @property
    def resolution(self) -> int:
        """Side of the square input, pixels."""
        return self.network.resolution

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> list[Detections]:
        """Detections, boxes in image sides, of images (B, 3, resolution, resolution) uint8 RGB on any device."""
        found = self.session(images)
        check_finite(*found.values())
        if "labels" in found:  # a file that gives detections
            detections = []
            for boxes, scores, labels in zip(found["boxes_xyxy"], found["scores"], found["labels"], strict=True):
                kept = (scores > self.postprocess.score_threshold) & (labels >= 1) & (labels <= len(self.class_names))
                places = kept.nonzero().flatten()[: self.postprocess.max_detections]
                detections.append(Detections(boxes[places], scores[places], labels[places].long()))
            return detections
        output: RawOutput = {"class_logits": found["class_logits"], "offsets": found["offsets"]}
        return self.postprocess(output, self.network.anchors_cxcywh.to(output["offsets"].device))

    def graph(self, *, input: Input = "uint8") -> Graph:
        """The graph for an exported file, with `RawOutput` as its outputs."""
        return Graph(self.network, ("class_logits", "offsets"), preprocessing=self.preprocessing, input=input)

    def torch_session(self) -> TorchSession:
        """The network in eager torch."""
        return TorchSession(self.network, ("class_logits", "offsets"), self.preprocessing)

    def save(self, folder: Path, *, metrics: dict[str, Any]) -> None:
        """Write a model folder that `load` rebuilds alone."""
        description = {
            "app": APP,
            "backbone": self.backbone,
            "resolution": self.resolution,
            "head": self.head,
            "class_names": self.class_names,
            "category_ids": self.category_ids,
            "score_function": self.score_function,
            "style": dataclasses.asdict(self.network.backbone.style),
            "preprocessing": {
                "resize": "to a square, aspect ratio not kept",
                "channels": "RGB",
                **dataclasses.asdict(self.preprocessing),
            },
            "metrics": metrics,
        }
        if self.threshold is not None:
            description["threshold"] = self.threshold
        if self.network.anchor_shapes:
            description["anchor_shapes"] = self.network.anchor_shapes
        save_model(folder, self.network, description)

    @classmethod
    def load(cls, folder: Path, *, device: torch.device) -> "Detector":
        """Rebuild a detector, in eval mode, from a model folder, a run, or an exported file.

        Raises:
            ValueError: not a model of this app, or damaged.
        """
        if exported_format(folder):
            return cls._exported(folder)
        about, weights = load_model(folder, app=APP)
        try:
            network = create_detector(
                about["backbone"],
                num_classes=len(about["class_names"]),
                resolution=about["resolution"],
                head=about.get("head", "ssd"),
                style=ConvStyle(**about["style"]),
                anchor_shapes=about.get("anchor_shapes"),
            )
            network.load_state_dict(weights)
            network = network.eval().to(device).to(memory_format=torch.channels_last)
            return cls(network=network, postprocess=PostProcess(about["score_function"]), **_settings(about))
        except (KeyError, TypeError, RuntimeError) as error:
            raise ValueError(f"checkpoint {folder} does not describe its own weights: {reason_of(error)}") from None

    @classmethod
    def _exported(cls, path: Path) -> "Detector":
        """From an exported file: it gives raw outputs, or detections, of which those above the threshold are used."""
        about, network, session = load_exported(path, app=APP, known=FILES)
        postprocess = PostProcess(about.get("score_function", "sigmoid"), nms_iou=about["nms_iou"])
        return cls(network=network, session=session, postprocess=postprocess, **_settings(about))  # type: ignore[arg-type]

    @classmethod
    def published(
        cls, weights: str, *, backbone: str, device: torch.device, resolution: int | None = None
    ) -> "Detector":
        """A published detector, in eval mode, with its training's settings; see `pretrained.load_pretrained`.

        Args:
            resolution: side of the square input in pixels; None for the one it was trained at.

        Raises:
            ValueError: the weights are not a detector's, or are not available.
        """
        if Path(weights).is_dir():  # only `load` restores its score function
            raise ValueError(f"--weights {weights} is a folder: a model of this app is given as --checkpoint")
        start = (
            None if weights in ("imagenet", "none") else load_pretrained(weights, width_mult=parse_backbone(backbone))
        )
        if start is None or not start.is_detector:
            raise ValueError(f"--weights {weights} cannot detect before it is trained: use coco, or --checkpoint")
        network = create_detector(
            backbone,
            num_classes=len(start.class_names),
            head=start.head or "ssd",
            resolution=resolution if resolution is not None else start.resolution or 300,
            style=start.style,
        )
        start.put_into(network, start.class_names)
        return cls(
            network=network.eval().to(device).to(memory_format=torch.channels_last),
            backbone=backbone,
            class_names=list(start.class_names),
            category_ids=list(start.category_ids),
            postprocess=PostProcess("sigmoid"),
            preprocessing=start.preprocessing,
            threshold=start.threshold,
        )


def _settings(about: dict[str, Any]) -> dict[str, Any]:
    """The settings in a model's description, without its network."""
    return {
        "backbone": about["backbone"],
        "class_names": about["class_names"],
        "category_ids": about["category_ids"],
        "preprocessing": Normalisation.from_dict(about["preprocessing"]),
        "threshold": about.get("threshold"),
    }
