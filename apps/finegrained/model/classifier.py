"""A network with its preprocessing and calibration, shared by train, eval, predict and the demo.

Letters in shapes: B batch, H W height and width, K classes.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from apps.common.checkpoint import DESCRIPTION, load_json, load_model, model_folder, save_json, save_model
from apps.common.choices import Input
from apps.common.deploy.exported import Known, load_exported
from apps.common.deploy.formats import exported_format
from apps.common.deploy.graph import Graph
from apps.common.deploy.sessions import Session, TorchSession
from apps.common.images import Normalisation
from apps.common.pretrained import find_weights, imagenet_name, preprocessing_of
from apps.finegrained.model.create import create_classifier
from backbone.mobilenet_v1 import ConvStyle, MobileNetV1
from backbone.names import parse_backbone
from backbone.text import reason_of
from backbone.weights import create_backbone_from, load_class_names


def known_score(logits: Tensor) -> Tensor:
    """The score that photos are of a known class: the largest logit, (N,) from logits (N, K).

    Hendrycks et al., "Scaling Out-of-Distribution Detection for Real-World Settings", arXiv 1911.11132. The usual
    score, the largest probability, forgets how large the logits are. Area under the ROC curve, known grocery products
    against other photos, for this score, the energy (log of the sum of exp, arXiv 2010.03759) and the probability:

        linear classifier of 56 products on ImageNet features, photos of COCO   0.94  0.95  0.68   mean of 5 choices
        the same, photos of the 25 products left out                            0.59  0.56  0.66   mean of 5 choices
        two trained networks (a025), photos of COCO, of ImageNet and faces      0.82  0.82  0.81   mean of 6
    """
    return logits.double().max(1).values


APP = "finegrained"
FILES: Known = {
    ("logits",): ("crop", "temperature", "unknown_threshold")
}  # outputs of an exported file -> what it says


@dataclasses.dataclass(kw_only=True)
class Classifier:
    """A MobileNet V1 with its classes, its preprocessing and its calibration on photos it was not trained on.

    Attributes:
        network: with a classifier of K classes.
        backbone: its width as a name.
        resolution: side of the square input it was trained for, pixels; it takes others too.
        class_names: of the K logits.
        preprocessing: of the pixels.
        crop: side of the central square that the network sees, over the short side of the photo.
        temperature: divides the logits before the softmax; 1 before calibration.
        unknown_threshold: photos whose best logit is below it are "none of these"; None before calibration.
        session: what computes the outputs: torch, or see `start_session`.
    """

    network: MobileNetV1
    backbone: str
    resolution: int
    class_names: list[str]
    preprocessing: Normalisation = dataclasses.field(default_factory=Normalisation)
    crop: float = 0.875
    temperature: float = 1.0
    unknown_threshold: float | None = None
    session: Session = None  # type: ignore[assignment]  # see `__post_init__`

    def __post_init__(self) -> None:
        if self.session is None or isinstance(self.session, TorchSession):  # of another network, after `replace`
            self.session = self.torch_session()

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, K), float32, of images (B, 3, H, W) uint8 RGB on any device."""
        is_its_size = images.shape[-2:] == (self.resolution, self.resolution)
        session = self.session if is_its_size else self.torch_session()  # files are for one size
        return session(images)["logits"].float()

    def graph(self, *, input: Input = "uint8") -> Graph:
        """What an exported file computes: logits (B, K)."""
        return Graph(self.network, ("logits",), preprocessing=self.preprocessing, input=input)

    def torch_session(self) -> TorchSession:
        """The network in eager torch, for images of any size."""
        return TorchSession(self.network, ("logits",), self.preprocessing)

    def save(self, folder: Path, *, metrics: dict[str, Any]) -> None:
        """Write a model folder that `load` rebuilds alone."""
        description = {
            "app": APP,
            "backbone": self.backbone,
            "resolution": self.resolution,
            "class_names": self.class_names,
            "style": dataclasses.asdict(self.network.style),
            "preprocessing": {
                "resize": "the central square",
                "crop": self.crop,
                "channels": "RGB",
                **dataclasses.asdict(self.preprocessing),
            },
            "calibration": {"temperature": self.temperature, "unknown_threshold": self.unknown_threshold},
            "metrics": metrics,
        }
        save_model(folder, self.network, description)

    def save_calibration(self, folder: Path) -> None:
        """Put this classifier's calibration into a model folder, or a run's, that it was loaded from."""
        path = model_folder(folder) / DESCRIPTION
        calibration = {"temperature": self.temperature, "unknown_threshold": self.unknown_threshold}
        save_json(path, {**load_json(path), "calibration": calibration})

    @classmethod
    def load(cls, folder: Path, *, device: torch.device) -> "Classifier":
        """Rebuild a classifier, in eval mode, from a model folder or a run, or from what an export.py wrote.

        Raises:
            ValueError: not a model of this app, or damaged.
        """
        if exported_format(folder):
            about, file, session = load_exported(folder, app=APP, known=FILES)
            return cls(network=file, session=session, **_settings(about))  # type: ignore[arg-type]
        about, weights = load_model(folder, app=APP)
        try:
            style = ConvStyle(**about["style"])
            network = create_classifier(about["backbone"], num_classes=len(about["class_names"]), style=style)
            network.load_state_dict(weights)
            return cls(network=network.eval().to(device).to(memory_format=torch.channels_last), **_settings(about))
        except (KeyError, TypeError, RuntimeError) as error:
            raise ValueError(f"checkpoint {folder} does not describe its own weights: {reason_of(error)}") from None

    @classmethod
    def published(cls, weights: str, *, backbone: str, device: torch.device) -> "Classifier":
        """A published classifier, in eval mode, as it was trained.

        Args:
            weights: "imagenet" (1000 classes, the best published for the width), "cub" (200 birds, a100), a catalog
                name (`python -m backbone.weights list`) or a weight file with ImageNet's classes.

        Raises:
            ValueError: the weights have no classifier or classes without names, or cannot be had.
        """
        if Path(weights).is_dir():
            raise ValueError(f"--weights {weights} is a folder: a model of this app is given as --checkpoint")
        if weights == "none":
            raise ValueError("--weights none cannot classify before it is trained: use imagenet or cub")
        loaded, _ = find_weights(weights, width_mult=parse_backbone(backbone), words={"imagenet": imagenet_name})
        names = load_class_names(loaded.class_list)
        if not loaded.num_classes or names is None:
            what = f"{loaded.num_classes} classes without names" if loaded.num_classes else "no classifier"
            raise ValueError(f"--weights {weights} has {what}: use imagenet or cub, or a run as --checkpoint")
        network = create_backbone_from(loaded).eval().to(device)
        return cls(
            network=network.to(memory_format=torch.channels_last),
            backbone=backbone,
            resolution=loaded.resolution or 224,
            class_names=list(names),
            preprocessing=preprocessing_of(loaded),
            crop=loaded.preprocessing.crop,
        )


def _settings(about: dict[str, Any]) -> dict[str, Any]:
    """The settings in a model's description, without its network."""
    return {
        "backbone": about["backbone"],
        "resolution": about["resolution"],
        "class_names": about["class_names"],
        "preprocessing": Normalisation.from_dict(about["preprocessing"]),
        "crop": about["preprocessing"]["crop"],
        **about["calibration"],
    }
