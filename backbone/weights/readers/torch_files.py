"""Reads MobileNet V1 from PyTorch files, safetensors or `.pth`, in the names of timm or of pytorchcv.

Both number the blocks by stage, a stage being the blocks from one stride-2 block to the next: 1, 2, 2, 6 and 2 of them.
Nothing but tensors is unpickled.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from backbone.mobilenet_v1 import TABLE_1, Activation
from backbone.weights.file_kinds import first_line, import_when_needed
from backbone.weights.loaded_weights import Layer, LoadedWeights, Preprocessing, make_weights


@dataclass(frozen=True, kw_only=True)
class TorchLayout:
    """A library's names for MobileNet V1's tensors, and the settings of its training.

    `stem`, `depthwise` and `pointwise` are the prefixes of a convolution and of its norm; {stage} and {unit} count
    from `first`.
    """

    name: str
    stem: tuple[str, str]
    depthwise: tuple[str, str]
    pointwise: tuple[str, str]
    classifier: str
    first: int
    activation: Activation
    preprocessing: Preprocessing

    def prefixes(self) -> list[tuple[str, str]]:
        """Prefixes of convolution and norm, in the order of `loaded_weights.LAYERS`."""
        prefixes = [self.stem]
        stage, unit = self.first, self.first
        for i, (_, _, stride) in enumerate(TABLE_1[1:]):
            if stride == 2:
                stage, unit = stage + 1, self.first
            elif i > 0:
                unit += 1
            for conv, norm in (self.depthwise, self.pointwise):
                prefixes.append((conv.format(stage=stage, unit=unit), norm.format(stage=stage, unit=unit)))
        return prefixes


LAYOUTS = (
    TorchLayout(
        name="timm",
        stem=("conv_stem", "bn1"),
        depthwise=("blocks.{stage}.{unit}.conv_dw", "blocks.{stage}.{unit}.bn1"),
        pointwise=("blocks.{stage}.{unit}.conv_pw", "blocks.{stage}.{unit}.bn2"),
        classifier="classifier",
        first=0,
        activation="relu6",
        preprocessing=Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic"),
    ),
    TorchLayout(
        name="pytorchcv",
        stem=("features.init_block.conv", "features.init_block.bn"),
        depthwise=("features.stage{stage}.unit{unit}.dw_conv.conv", "features.stage{stage}.unit{unit}.dw_conv.bn"),
        pointwise=("features.stage{stage}.unit{unit}.pw_conv.conv", "features.stage{stage}.unit{unit}.pw_conv.bn"),
        classifier="output",
        first=1,
        activation="relu",
        preprocessing=Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    ),
)


def read_safetensors(data: bytes, *, name: str) -> LoadedWeights:
    """Read MobileNet V1 from the bytes of a safetensors file.

    Raises:
        ValueError: safetensors is missing; the file is damaged or holds another network. One line, with its name.
    """
    library = import_when_needed("safetensors.torch", package="safetensors", purpose=f"{name}: reading safetensors")
    try:
        tensors = library.load(data)
    except Exception as error:  # SafetensorError derives from Exception alone
        raise ValueError(f"{name}: truncated or damaged safetensors file ({first_line(error)})") from error
    return read_state_dict(tensors, name=name)


def read_pth(data: bytes, *, name: str) -> LoadedWeights:
    """Read MobileNet V1 from the bytes of a `torch.save`d state dict; nothing but tensors is unpickled.

    Raises:
        ValueError: the file is damaged, holds more than tensors, or another network. One line, with its name.
    """
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make the unpickler raise errors of any kind
        raise ValueError(
            f"{name}: truncated or damaged torch file, or one that holds more than tensors ({first_line(error)})"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise ValueError(f"{name}: is no state dict (tensors by name), but {type(content).__name__}")
    return read_state_dict(content, name=name)


def read_state_dict(tensors: Mapping[str, Any], *, name: str) -> LoadedWeights:
    """Read MobileNet V1 from tensors in timm's or pytorchcv's names; "module." of DataParallel is taken off.

    Raises:
        ValueError: the names belong to neither library, or to another network of one of them.
    """
    tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    layout = next((layout for layout in LAYOUTS if f"{layout.stem[0]}.weight" in tensors), None)
    if layout is None:
        known = " or ".join(f"{layout.name} ({layout.stem[0]}.weight, ...)" for layout in LAYOUTS)
        first = ", ".join(list(tensors)[:3]) or "nothing"
        raise ValueError(f"{name}: its tensors are not named as in {known}, but {first}")
    left = {key: value for key, value in tensors.items() if not key.endswith(".num_batches_tracked")}

    def take(key: str) -> Tensor:
        if key not in left:
            raise ValueError(f"{name}: not {layout.name}'s MobileNet V1: {key} is missing")
        return left.pop(key)

    layers = []
    for conv, norm in layout.prefixes():
        layers.append(
            Layer(
                weight=take(f"{conv}.weight"),
                gamma=take(f"{norm}.weight"),
                beta=take(f"{norm}.bias"),
                mean=take(f"{norm}.running_mean"),
                var=take(f"{norm}.running_var"),
            )
        )
    classifier = None
    if f"{layout.classifier}.weight" in left:
        classifier = (take(f"{layout.classifier}.weight"), take(f"{layout.classifier}.bias"))
    if left:
        raise ValueError(f"{name}: not MobileNet V1: it has {len(left)} tensors more, the first is {next(iter(left))}")
    return make_weights(
        layers,
        classifier,
        source=name,
        layout=layout.name,
        padding="symmetric",
        activation=layout.activation,
        norm_eps=1e-5,
        preprocessing=layout.preprocessing,
    )
