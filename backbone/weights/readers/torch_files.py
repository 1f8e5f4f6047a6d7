"""Reads MobileNet V1 from PyTorch files, safetensors or `.pth`, in the names of timm or of pytorchcv.

Both number the blocks by stage, a stage being the blocks from one stride-2 block to the next: 1, 2, 2, 6 and 2 of them.
Nothing in a file is executed.
"""

import argparse
import io
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import torch
from torch import Tensor

from backbone.mobilenet_v1 import TABLE_1, Activation
from backbone.text import reason_of
from backbone.weights.file_kinds import Budget, TooLargeError, check_zip, import_when_needed
from backbone.weights.loaded_weights import Layer, LoadedWeights, Preprocessing, make_weights

# Keys of the network in training scripts' checkpoints, the averaged one first: timm's, torchvision's, others'
STATE_DICTS = (
    *("state_dict_ema", "model_ema", "params_ema", "ema", "state_dict", "model", "model_state_dict"),
    *("net", "params", "weights"),
)
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.")  # of wrappers: torch's, Lightning's, others'
AVERAGES = "n_averaged"  # of torch.optim.swa_utils.AveragedModel
_PATHS = [f"{module}.{kind}" for module in ("pathlib", "pathlib._local") for kind in ("PosixPath", "WindowsPath")]
# Settings that a state dict's file may also contain.
PLAIN_OBJECTS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    argparse.Namespace,
    *((PurePath, name) for name in _PATHS),
]
OLD_PICKLES = 5  # that a file from before torch 1.6 begins with


@dataclass(frozen=True, kw_only=True)
class TorchLayout:
    """A library's names for MobileNet V1's tensors, and its training settings.

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
        raise ValueError(f"{name}: truncated or damaged safetensors file ({reason_of(error)})") from error
    return read_state_dict(tensors, name=name)


def read_pth(data: bytes, *, name: str) -> LoadedWeights:
    """Read MobileNet V1 from the bytes of a `torch.save`d state dict, or of a checkpoint that contains one.

    Nothing in the file is executed: tensors, plain values, `argparse.Namespace` and paths are unpickled, nothing else.
    Of several state dicts the averaged one is used, as in timm.

    Raises:
        ValueError: the file is damaged, holds other objects, or another network. One line, with its name.
    """
    try:
        check_torch_file(data, Budget())
        with torch.serialization.safe_globals(PLAIN_OBJECTS):
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except TooLargeError as error:
        raise ValueError(f"{name}: refused: {error}") from error
    except Exception as error:  # damaged bytes make the unpickler raise errors of any kind
        if unknown := re.search(r"(?:Unsupported global: GLOBAL|Trying to (?:load|call).*?) ([\w.]+)", str(error)):
            raise ValueError(
                f"{name}: refused: it contains more than tensors ({unknown[1]}), and no code in a file is executed; "
                "save the state dict alone"
            ) from error
        raise ValueError(f"{name}: truncated or damaged torch file ({reason_of(error)})") from error
    for key in STATE_DICTS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise ValueError(f"{name}: is no state dict (tensors by name), but {type(content).__name__}")
    return read_state_dict(content, name=name)


def check_torch_file(data: bytes, budget: Budget) -> None:
    """Count the declared unpacked size of a file, and look for constructs that multiply it: a record with several
    names, and bytes made from a number.

    Raises:
        ValueError: too large, or such a construct; damaged files also raise the errors of zipfile and pickletools.
    """
    if not data.startswith(b"PK"):
        pickles, records = io.BytesIO(data), set()
    else:
        check_zip(data, budget)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = {info.filename: info for info in archive.infolist()}
            info = next(info for name, info in infos.items() if name.endswith("/data.pkl"))
            with archive.open(info) as file:  # all but the last byte, since torch may save without checksums
                pickles = io.BytesIO(file.read(info.file_size - 1) + pickle.STOP)
        records = {name.split("/data/", 1)[1] for name in infos if "/data/" in name}
    folded = {record.lower() for record in records}
    for _ in range(1 if data.startswith(b"PK") else OLD_PICKLES):
        for code, value, _ in pickletools.genops(pickles):
            if code.name == "GLOBAL" and str(value).endswith(" bytearray"):
                raise TooLargeError("it makes bytes of any number")
            if isinstance(value, str) and value not in records and value.lower() in folded:
                raise TooLargeError(f"it names the record {value.lower()} in several ways")


def read_state_dict(tensors: Mapping[str, Any], *, name: str) -> LoadedWeights:
    """Read MobileNet V1 from tensors in timm's or pytorchcv's names, perhaps behind the prefixes of wrappers.

    Raises:
        ValueError: the names belong to neither library, or to another network of one of them; or the tensors are too
            large, or not plain floats.
    """
    tensors = _without_prefixes(tensors)
    layout = next((layout for layout in LAYOUTS if f"{layout.stem[0]}.weight" in tensors), None)
    if layout is None:
        known = " or ".join(f"{layout.name} ({layout.stem[0]}.weight, ...)" for layout in LAYOUTS)
        first = ", ".join(list(tensors)[:3]) or "nothing"
        raise ValueError(f"{name}: its tensors are not named as in {known}, but {first}")
    left = {key: value for key, value in tensors.items() if not key.endswith(".num_batches_tracked")}

    budget = Budget()

    def take(key: str) -> Tensor:
        if key not in left:
            raise ValueError(f"{name}: not {layout.name}'s MobileNet V1: {key} is missing")
        return _checked(left.pop(key), key, budget, name)

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


def _without_prefixes(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Without the prefixes that wrappers put before every name, and without a wrapper's counters."""
    found = {key: value for key, value in tensors.items() if key != AVERAGES}
    while found and any(all(key.startswith(prefix) for key in found) for prefix in PREFIXES):
        found = {key.split(".", 1)[1]: value for key, value in found.items()}
    return found


def _checked(tensor: Tensor, key: str, budget: Budget, name: str) -> Tensor:
    """Check that a tensor has plain numbers, as many in the file as in its shape, and return it.

    Raises:
        ValueError: it does not.
    """
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if not plain or tensor.is_nested or not tensor.is_floating_point():  # integers would need a scale
        raise ValueError(f"{name}: {key} is no plain tensor of floats, but {tensor.dtype}")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(f"{name}: refused: {key} of shape {tuple(tensor.shape)} repeats the numbers that are stored")
    try:
        budget.take(2 * tensor.numel() * max(tensor.element_size(), 4), f"{key} of shape {tuple(tensor.shape)}")
        return tensor.detach().float()
    except (TooLargeError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"{name}: refused: {key}: {reason_of(error)}") from error
