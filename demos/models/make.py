"""Bundle a trained model with the demos: weights in 16 bits, under 2 MB, with a model card.

    python demos/models/make.py --app detection --checkpoint runs/detection/NAME/best
    python demos/models/make.py --app finegrained --checkpoint runs/finegrained/NAME/best
    python demos/models/make.py --app faceattr --checkpoint runs/faceattr/NAME/best

The bundled models are of width 0.25 and trained on the sample sets, the detector for 40 epochs. It prints by how much
the scores of the example pictures differ from the checkpoint's.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from apps.common.cli import run_command

App = Literal["detection", "finegrained", "faceattr"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Bundle a trained model with the demos.

    example: python demos/models/make.py --app detection --checkpoint runs/detection/NAME/best
    """

    app: App
    """app of the model"""
    checkpoint: Path
    """run of its train.py, or its best/ folder"""
    drop: tuple[str, ...] = ()
    """attributes of faceattr that were not learned, and are left out"""
    out: Path | None = None
    """folder to write; default demos/models/APP"""


if __name__ == "__main__":  # above the slow imports: --help does not wait for torch
    run_command("demos.models.make:make", Config)

import numpy as np
import torch
from torch import nn

from apps.common.checkpoint import WEIGHTS, load_model, model_folder, save_model
from apps.common.images import read_image
from apps.detection.predict import Predictor as Detect
from apps.faceattr.predict import Predictor as Describe
from apps.finegrained.predict import Predictor as Classify
from demos.chooser import BUNDLED, example_pictures

MAX_BYTES = 2_000_000
CARD = "MODEL_CARD.md"
ABOUT: dict[App, tuple[str, str]] = {
    "detection": ("Animals of a drawn reef", "finds six kinds of animals in drawn pictures of a reef"),
    "finegrained": ("Moths of an invented genus", "tells twelve species in drawn pictures of moths"),
    "faceattr": ("Attributes of drawn portraits", "says which of nine attributes drawn portraits show"),
}


def make(config: Config) -> Path:
    """Write the model folder and its card, and return the folder.

    Raises:
        ValueError: not a checkpoint of this app, weights that 16 bits cannot hold, or a file of 2 MB or more.
    """
    folder = model_folder(config.checkpoint)
    about, _ = load_model(folder, app=config.app)
    network = halved(without(load_network(config.app, folder), about, config.drop))
    size = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    if size >= MAX_BYTES:
        raise ValueError(
            f"{folder} has {size / 1e6:.1f} MB in 16 bits; a bundled model has less than {MAX_BYTES / 1e6:.0f} MB: "
            "train a narrower one, such as --backbone a025"
        )
    out = config.out or BUNDLED / config.app
    save_model(out, network, about)
    (out / CARD).write_text(card(config.app, about), encoding="utf-8")
    (out / WEIGHTS).chmod(0o644)
    images = [read_image(path) for path in example_pictures(config.app)]
    before, after = (scores(config.app, model, images) for model in (folder, out))
    if before.shape == after.shape:
        change = f"by at most {np.abs(before - after).max(initial=0):.4f}"
    else:
        change = f"in number: {len(before)} before, {len(after)} after"
    print(f"{out}: {size / 1e6:.2f} MB; scores of {len(images)} example pictures differ {change}")
    return out


def load_network(app: App, folder: Path) -> nn.Module:
    """The network of a model folder, on the CPU."""
    if app == "detection":
        return Detect(folder, device="cpu", runtime="torch").detector.network
    if app == "finegrained":
        return Classify(folder, device="cpu", runtime="torch").classifier.network
    return Describe(folder, device="cpu", runtime="torch", whole=True).tagger.network


def without(network: nn.Module, about: dict[str, Any], names: Sequence[str]) -> nn.Module:
    """The network, and its description, without the outputs of some attributes; figures over all of them go, too.

    Raises:
        ValueError: there is no such attribute.
    """
    classes = about["class_names"]
    if unknown := [name for name in names if name not in classes]:
        raise ValueError(f"--drop {unknown[0]}: the model has no such attribute; it has {', '.join(classes)}")
    if not names:
        return network
    kept = [i for i, name in enumerate(classes) if name not in names]
    for name, parameter in network.named_parameters():
        if name.startswith("classifier."):
            parameter.data = parameter.data[kept]
    about["class_names"] = [classes[i] for i in kept]
    about["calibration"] = {name: [values[i] for i in kept] for name, values in about["calibration"].items()}
    about["metrics"] = {name: about["metrics"][name] for name in ("split", "step") if name in about["metrics"]}
    return network


def halved(network: nn.Module) -> nn.Module:
    """The network with 16 bits for the weights of convolutions and linear layers; norms and biases keep 32.

    Raises:
        ValueError: a weight is beyond what 16 bits hold.
    """
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            parameter.data = parameter.data.to(torch.float16)
            if not parameter.isfinite().all():
                raise ValueError(f"{name} has weights that 16 bits cannot hold")
    return network


def scores(app: App, folder: Path, images: Sequence[np.ndarray]) -> np.ndarray:
    """All scores that a model gives to some images."""
    find: Callable[[np.ndarray], Any]
    if app == "detection":
        find = Detect(folder, device="cpu", runtime="torch", conf=0.05)
        return np.array([one.score for image in images for one in find(image)])
    if app == "finegrained":
        find = Classify(folder, device="cpu", runtime="torch")
        return np.array([prob for image in images for _, prob in find(image)])
    find = Describe(folder, device="cpu", runtime="torch", show_sensitive=True, whole=True)
    return np.array([prob for image in images for face in find(image) for prob in face.probs.values()])


def card(app: App, about: dict[str, Any]) -> str:
    """The text of a model card, from the model's description."""
    title, does = ABOUT[app]
    metrics = "\n".join(f"| {name} | {value:.4g} |" for name, value in numbers(about.get("metrics") or {}))
    return f"""# {title}

A MobileNet V1, {about["backbone"]} at {about["resolution"]} pixels, that {does}.
It is there so that the demo shows something without a download; it is of no use on photos.

- Knows: {", ".join(about["class_names"])}
- Trained on: the sample set that `python apps/{app}/sample.py` draws; no photos, no people
- Weights: 16 bits for convolutions and linear layers, 32 for the rest
- Made by: `python demos/models/make.py --app {app} --checkpoint ...`
- Licence: Apache-2.0, as the project

Measured on the val split of the sample set, with 32 bits; the best of the run was chosen there, which flatters it:

| metric | value |
|---|---|
{metrics or "| none recorded | |"}
"""


def numbers(metrics: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """The plain numbers among metrics, those within dicts as "outer.inner"."""
    found: list[tuple[str, float]] = []
    for name, value in metrics.items():
        if isinstance(value, dict):
            found += numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((prefix + name, float(value)))
    return found
