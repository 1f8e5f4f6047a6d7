"""A network with its preprocessing and calibration, shared by train, eval, predict and the demo.

Letters in shapes: B batch, H W height and width, A attributes.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from apps.common.checkpoint import DESCRIPTION, load_json, load_model, model_folder, save_json, save_model
from apps.common.choices import Input
from apps.common.deploy.exported import Known, load_exported
from apps.common.deploy.formats import exported_format
from apps.common.deploy.graph import Graph
from apps.common.deploy.sessions import Session, TorchSession
from apps.common.images import Normalisation
from apps.common.pretrained import TENSORFLOW_STYLE
from apps.faceattr.model.create import check_size, create_network
from backbone.mobilenet_v1 import Conv, ConvStyle
from backbone.text import reason_of

APP = "faceattr"
FILES: Known = {
    ("logits",): ("face_margin", "face_drop", "thresholds", "temperatures")
}  # outputs of a file -> what it says


@dataclasses.dataclass(kw_only=True)
class Tagger:
    """A network that predicts which attributes a face shows, with its calibration on faces it was not trained on.

    Attributes:
        network: gives A logits.
        backbone: a width as a name, or the name of a torchvision classifier.
        resolution: side of the square input, pixels.
        attributes: of the A logits.
        style, conv: of a MobileNet V1.
        preprocessing: of the pixels.
        margin, drop: how faces sit in the crops it was trained on, see `faces.measure_margin`.
        thresholds: probability from which each attribute counts as present; 0.5 before calibration.
        temperatures: divide the logits before the sigmoid; 1 before calibration.
        session: what computes the outputs: torch, or see `start_session`.
    """

    network: nn.Module
    backbone: str
    resolution: int
    attributes: list[str]
    style: ConvStyle
    conv: Conv = "separable"
    preprocessing: Normalisation = dataclasses.field(default_factory=Normalisation)
    margin: float = 0.0
    drop: float = 0.0
    thresholds: list[float] = dataclasses.field(default_factory=list)
    temperatures: list[float] = dataclasses.field(default_factory=list)
    session: Session = None  # type: ignore[assignment]  # see `__post_init__`

    def __post_init__(self) -> None:
        if self.session is None or isinstance(self.session, TorchSession):  # of another network, after `replace`
            self.session = self.torch_session()
        self.thresholds = self.thresholds or [0.5] * len(self.attributes)
        self.temperatures = self.temperatures or [1.0] * len(self.attributes)

    @torch.inference_mode()
    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, A), float32, of face crops (B, 3, H, W) uint8 RGB on any device."""
        is_its_size = images.shape[-2:] == (self.resolution, self.resolution)
        session = self.session if is_its_size else self.torch_session()  # files are for one size
        return session(images)["logits"].float()

    def graph(self, *, input: Input = "uint8") -> Graph:
        """What an exported file computes: logits (B, A)."""
        return Graph(self.network, ("logits",), preprocessing=self.preprocessing, input=input)

    def torch_session(self) -> TorchSession:
        """The network in eager torch, for images of any size."""
        return TorchSession(self.network, ("logits",), self.preprocessing)

    def probs(self, images: Tensor) -> Tensor:
        """Calibrated probabilities (B, A), 0 to 1, of face crops as for `logits`."""
        return self.calibrated(self.logits(images))

    def calibrated(self, logits: Tensor) -> Tensor:
        """Probabilities (B, A) of logits (B, A)."""
        return (logits / torch.tensor(self.temperatures, device=logits.device)).sigmoid()

    def save(self, folder: Path, *, metrics: dict[str, Any]) -> None:
        """Write a model folder that `load` rebuilds alone."""
        description = {
            "app": APP,
            "backbone": self.backbone,
            "resolution": self.resolution,
            "class_names": self.attributes,
            "style": dataclasses.asdict(self.style),
            "conv": self.conv,
            "preprocessing": {
                "resize": "the central square of a face crop",
                "face_margin": self.margin,
                "face_drop": self.drop,
                "channels": "RGB",
                **dataclasses.asdict(self.preprocessing),
            },
            "calibration": {"thresholds": self.thresholds, "temperatures": self.temperatures},
            "metrics": metrics,
        }
        save_model(folder, self.network, description)

    def save_calibration(self, folder: Path) -> None:
        """Put this tagger's calibration into a model folder, or a run's, that it was loaded from."""
        path = model_folder(folder) / DESCRIPTION
        calibration = {"thresholds": self.thresholds, "temperatures": self.temperatures}
        save_json(path, {**load_json(path), "calibration": calibration})

    @classmethod
    def load(cls, folder: Path, *, device: torch.device) -> "Tagger":
        """Rebuild a tagger, in eval mode, from a model folder or a run, or from what an export.py wrote.

        Raises:
            ValueError: not a model of this app, or damaged.
        """
        if exported_format(folder):
            about, file, session = load_exported(folder, app=APP, known=FILES)
            return cls(network=file, session=session, style=TENSORFLOW_STYLE, **_settings(about))
        about, weights = load_model(folder, app=APP)
        try:
            style = ConvStyle(**about["style"])
            check_size(about["backbone"], weights)
            num_attributes = len(about["class_names"])
            network = create_network(about["backbone"], num_attributes=num_attributes, style=style, conv=about["conv"])
            network.load_state_dict(weights)
            return cls(
                network=network.eval().to(device).to(memory_format=torch.channels_last),
                style=style,
                conv=about["conv"],
                **_settings(about),
            )
        except (KeyError, TypeError, RuntimeError) as error:
            raise ValueError(f"checkpoint {folder} does not describe its own weights: {reason_of(error)}") from None


def _settings(about: dict[str, Any]) -> dict[str, Any]:
    """The settings in a model's description, without its network."""
    return {
        "backbone": about["backbone"],
        "resolution": about["resolution"],
        "attributes": about["class_names"],
        "preprocessing": Normalisation.from_dict(about["preprocessing"]),
        "margin": about["preprocessing"]["face_margin"],
        "drop": about["preprocessing"]["face_drop"],
        **about["calibration"],
    }
