"""Every published weight file of MobileNet V1 that this project reads: address, format, licence and accuracy.

Nobody's file is copied here; `figures.py` has the figures and their sources.
"""

import difflib
from dataclasses import dataclass
from functools import partial
from typing import Literal

from backbone.mobilenet_v1 import Activation, Padding
from backbone.names import backbone_name
from backbone.weights.figures import (
    ALPHAS,
    GOOGLE_DIGESTS,
    GOOGLE_QUANT_TOP1,
    GOOGLE_SIZES,
    GOOGLE_TOP1,
    KERAS_TOP1,
    PYTORCHCV_FILES,
    RESOLUTIONS,
)
from backbone.weights.loaded_weights import TENSORFLOW_INPUT, Preprocessing


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """A published weight file.

    Attributes:
        name: its name for `fetch`, `load_weights` and `--weights`.
        task: what its head predicts; a detector's backbone loads like any other weights without classifier.
        width_mult: alpha in the paper.
        resolution: side of the photos it was trained on, in pixels.
        url: the official address.
        hub_repo: its Hugging Face repository; such a file is fetched by huggingface_hub.
        size: of the file at `url`, in bytes; None if unknown.
        digest: "sha256:..." of the file at `url` (or sha1, sha384); None if unknown.
        inner_digest: the same, of the weight file inside an archive.
        preprocessing, padding, activation, norm_eps: as it was trained.
        class_list: "imagenet", "cub200" or "coco"; num_classes: how many, without background; 0 without classifier.
        quantised: stored in 8 bits.
        top1: published top-1 accuracy in percent at `resolution`, one centre crop; None if not published.
        licence: of the weights.
    """

    name: str
    task: Literal["classification", "detection"] = "classification"
    width_mult: float
    resolution: int
    url: str
    hub_repo: str | None = None
    size: int | None = None
    digest: str | None = None
    inner_digest: str | None = None
    preprocessing: Preprocessing
    padding: Padding
    activation: Activation
    norm_eps: float
    class_list: str
    num_classes: int
    quantised: bool = False
    top1: float | None = None
    licence: str

    @property
    def backbone(self) -> str:
        return backbone_name(self.width_mult)

    @property
    def file_name(self) -> str:
        """Its name in the cache: the official file name, or the repository's name where the file name is generic."""
        last = self.url.rsplit("/", 1)[-1]
        return f"{self.hub_repo.rsplit('/', 1)[-1]}.{last.rsplit('.', 1)[-1]}" if self.hub_repo else last


_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet"
_GOOGLE = "https://storage.googleapis.com/download.tensorflow.org/models/mobilenet_v1_2018_08_02"
_TFLITE = "https://storage.googleapis.com/download.tensorflow.org/models/tflite"
_PYTORCHCV = "https://github.com/osmr/imgclsmob/releases/download"

# The settings that each publisher trained with.
_tensorflow = partial(WeightFile, padding="same", activation="relu6", norm_eps=1e-3)
_pytorch = partial(WeightFile, resolution=224, padding="symmetric", norm_eps=1e-5)

QUANTISED_INPUT = Preprocessing(mean=(128 / 255,) * 3, std=(128 / 255,) * 3)  # x / 128 - 1
PYTORCHCV_INPUT = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))  # ImageNet's


def _keras(alpha: float, resolution: int, *, top: bool) -> WeightFile:
    alpha_text = {1.0: "1_0", 0.75: "7_5", 0.5: "5_0", 0.25: "2_5"}[alpha]
    return _tensorflow(
        name=f"keras-{backbone_name(alpha)}-{resolution}{'' if top else '-notop'}",
        width_mult=alpha,
        resolution=resolution,
        url=f"{_KERAS}/mobilenet_{alpha_text}_{resolution}_tf{'' if top else '_no_top'}.h5",
        size=17225924 if (alpha, resolution, top) == (1.0, 224, True) else None,
        preprocessing=TENSORFLOW_INPUT,
        class_list="imagenet",
        num_classes=1000 if top else 0,
        top1=KERAS_TOP1[ALPHAS.index(alpha)][RESOLUTIONS.index(resolution)] if top else None,
        licence="Apache-2.0",
    )


def _timm(alpha: float, *, top1: float, crop: float) -> WeightFile:
    repo = f"timm/mobilenetv1_{round(100 * alpha)}.ra4_e3600_r224_in1k"
    return _pytorch(
        name=f"timm-{backbone_name(alpha)}",
        width_mult=alpha,
        url=f"https://huggingface.co/{repo}/resolve/main/model.safetensors",
        hub_repo=repo,
        preprocessing=Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop=crop, interpolation="bicubic"),
        activation="relu6",
        class_list="imagenet",
        num_classes=1000,
        top1=top1,
        licence="Apache-2.0",
    )


def _pytorchcv(name: str, alpha: float, file: str, release: str, sha1: str, top1: float, class_list: str) -> WeightFile:
    return _pytorch(
        name=name,
        width_mult=alpha,
        url=f"{_PYTORCHCV}/{release}/mobilenet_{file}-{sha1[:8]}.pth.zip",
        inner_digest=f"sha1:{sha1}",
        preprocessing=PYTORCHCV_INPUT,
        activation="relu",
        class_list=class_list,
        num_classes=200 if class_list == "cub200" else 1000,
        top1=top1,
        licence="MIT",
    )


def _google(alpha: float, resolution: int, *, quantised: bool) -> WeightFile:
    file = f"mobilenet_v1_{alpha}_{resolution}{'_quant' if quantised else ''}"
    table = GOOGLE_QUANT_TOP1 if quantised else GOOGLE_TOP1
    return _tensorflow(
        name=f"google-{backbone_name(alpha)}-{resolution}{'-quant' if quantised else ''}",
        width_mult=alpha,
        resolution=resolution,
        url=f"{_GOOGLE}/{file}.tgz",
        size=GOOGLE_SIZES.get(file),
        digest=GOOGLE_DIGESTS.get(file),
        preprocessing=QUANTISED_INPUT if quantised else TENSORFLOW_INPUT,
        class_list="imagenet",
        num_classes=1000,
        quantised=quantised,
        top1=table[ALPHAS.index(alpha)][RESOLUTIONS.index(resolution)],
        licence="Apache-2.0",
    )


def _detector(
    name: str, alpha: float, url: str, *, licence: str, size: int | None, digest: str, inner: str | None = None
) -> WeightFile:
    return _tensorflow(
        name=name,
        task="detection",
        width_mult=alpha,
        resolution=300,
        url=url,
        size=size,
        digest=digest,
        inner_digest=inner,
        preprocessing=QUANTISED_INPUT,
        class_list="coco",
        num_classes=90,
        quantised=True,
        licence=licence,
    )


_COCO_A075 = "sha256:e4b118e5e4531945de2e659742c7c590f7536f8d0ed26d135abcfe83b4779d13"

CATALOG: tuple[WeightFile, ...] = (
    _timm(1.0, top1=75.4, crop=0.875),
    _timm(1.25, top1=76.9, crop=0.9),
    *(_pytorchcv(*row) for row in PYTORCHCV_FILES),
    *(_keras(alpha, resolution, top=top) for top in (True, False) for alpha in ALPHAS for resolution in RESOLUTIONS),
    *(_google(alpha, resolution, quantised=q) for q in (False, True) for alpha in ALPHAS for resolution in RESOLUTIONS),
    _detector(
        "coco-a075",
        0.75,
        f"{_TFLITE}/coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.zip",
        licence="Apache-2.0",
        size=None,
        digest="sha256:a809cd290b4d6a2e8a9d5dad076e0bd695b8091974e0eed1052b480b2f21b6dc",
        inner=_COCO_A075,
    ),
    _detector(
        "coco-a075-tflite",
        0.75,
        "https://raw.githubusercontent.com/shaqian/flutter_tflite/master/example/assets/ssd_mobilenet.tflite",
        licence="MIT",
        size=4183312,
        digest=_COCO_A075,
    ),
    _detector(
        "coco-a100",
        1.0,
        "https://raw.githubusercontent.com/google-coral/test_data/master/ssd_mobilenet_v1_coco_quant_postprocess.tflite",
        licence="Apache-2.0",
        size=6938269,
        digest="sha256:020d9f0a3e8b84e13cb1dbe70a756ef4dd5884bfc50e77f43c7bac84e791dd9d",
    ),
)


def find_entry(name: str) -> WeightFile:
    """The catalog entry called `name`, or whose official file is called so.

    Raises:
        ValueError: there is none; the message suggests close names.
    """
    for entry in CATALOG:
        if name in (entry.name, entry.file_name, entry.hub_repo):
            return entry
    close = difflib.get_close_matches(name, [entry.name for entry in CATALOG], n=3, cutoff=0.5)
    hint = f" did you mean {', '.join(close)}?" if close else ""
    raise ValueError(f"no published weights are called {name!r}:{hint} `python -m backbone.weights list` names all")


def imagenet_entries(width_mult: float) -> list[WeightFile]:
    """The published ImageNet classifiers of this width, one or more, the best top-1 first.

    Args:
        width_mult: alpha in the paper.

    Raises:
        ValueError: none is published; the message lists the widths that are.
    """
    classifiers = [entry for entry in CATALOG if entry.class_list == "imagenet" and entry.num_classes]
    fitting = [entry for entry in classifiers if abs(entry.width_mult - width_mult) < 1e-9]
    if not fitting:
        widths = ", ".join(sorted({entry.backbone for entry in classifiers}))
        raise ValueError(
            f"no ImageNet weights are published for width {width_mult:g}: there are {widths}, at "
            f"{', '.join(map(str, RESOLUTIONS))} pixels (a125 at 224 only); `--weights none` starts from scratch"
        )
    return sorted(fitting, key=lambda entry: -(entry.top1 or 0))
