"""Reads MobileNet V1 from Keras files: the old layout of one group per layer, and Keras 3's `.weights.h5`.

Old layout (keras.applications' downloads; also inside `model.save("x.h5")`, under `model_weights`):

    conv_dw_1/conv_dw_1/depthwise_kernel:0     conv_dw_1_bn/conv_dw_1_bn/gamma:0     conv_preds/conv_preds/bias:0

New layout (`save_weights("x.weights.h5")`, and inside `.keras` archives): groups are numbered within each class of
layer in the order of the model, variables in the order of the layer. Newer versions also store the layer's name.

    layers/depthwise_conv2d/vars/0             layers/batch_normalization_1/vars/0   layers/conv2d_14/vars/1

Keras pads stride-2 convolutions at the bottom and right only; that is SAME for an even side, all that matters at a
resolution that is a multiple of 32. Its applications use BatchNorm epsilon 1e-3 and ReLU6.
"""

import io
import math
import zlib
from typing import Any

import torch
from torch import Tensor

from backbone.mobilenet_v1 import TABLE_1
from backbone.text import reason_of
from backbone.weights.file_kinds import MAX_MEMBERS, Budget, TooLargeError, import_when_needed
from backbone.weights.loaded_weights import TENSORFLOW_INPUT, Layer, LoadedWeights, make_weights

MAX_DEPTH = 30  # of groups
NUM_BLOCKS = len(TABLE_1) - 1
CLASSIFIER = "conv_preds"
# Convolutions in the order of `loaded_weights.LAYERS`; each has its BatchNorm beside it, named with "_bn" at the end.
CONVS = ("conv1", *(f"conv_{part}_{i}" for i in range(1, NUM_BLOCKS + 1) for part in ("dw", "pw")))
NORMS = tuple(f"{name}_bn" for name in CONVS)
NORM_VARIABLES = ("gamma", "beta", "moving_mean", "moving_variance")


class RefusedError(ValueError):
    """An undamaged file that must not be read; the message says why."""


def _numbered(kind: str, names: tuple[str, ...]) -> dict[str, str]:
    """Keras 3's group names of the layers of one class -> the layers' own names."""
    return {kind if i == 0 else f"{kind}_{i}": name for i, name in enumerate(names)}


NEW_LAYOUT = {
    **_numbered("conv2d", (*(name for name in CONVS if "dw" not in name), CLASSIFIER)),
    **_numbered("depthwise_conv2d", tuple(name for name in CONVS if "dw" in name)),
    **_numbered("batch_normalization", NORMS),
}
KNOWN = {*CONVS, *NORMS, CLASSIFIER}


def read_keras(data: bytes, *, name: str) -> LoadedWeights:
    """Read MobileNet V1 from the bytes of a Keras HDF5 file. Layers that are not part of MobileNet V1 are ignored.

    Raises:
        ValueError: h5py is missing; the file is damaged or holds another network. One line, with the file's name.
    """
    h5py = import_when_needed("h5py", package="h5py", purpose=f"{name}: reading Keras weights")
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            found, layout = _collect(file, h5py)
    except (RefusedError, TooLargeError) as error:
        raise ValueError(f"{name}: refused: {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: refused: a name in it is not UTF-8 ({error.object[:40]!r})") from error
    except Exception as error:  # damaged bytes make the library raise errors of any kind
        raise ValueError(f"{name}: truncated or damaged HDF5 file ({reason_of(error)})") from error

    def take(layer: str, variable: str, ndim: int) -> Tensor:
        if variable not in found.get(layer, {}):
            raise ValueError(f"{name}: not a Keras MobileNet V1: layer {layer} has no {variable}")
        tensor = found[layer][variable]
        if tensor.ndim != ndim:
            raise ValueError(f"{name}: {variable} of layer {layer} has shape {tuple(tensor.shape)}, not {ndim} numbers")
        return tensor

    layers = []
    for conv in CONVS:
        kernel = take(conv, "kernel", 4)  # (k, k, I, O); depthwise (k, k, C, 1)
        weight = kernel.permute(2, 3, 0, 1) if "dw" in conv else kernel.permute(3, 2, 0, 1)
        gamma, beta, mean, var = (take(f"{conv}_bn", variable, 1) for variable in NORM_VARIABLES)
        layers.append(Layer(weight=weight, gamma=gamma, beta=beta, mean=mean, var=var))
    classifier = None
    if CLASSIFIER in found:
        kernel = take(CLASSIFIER, "kernel", 4)  # (1, 1, C, K)
        classifier = (kernel.flatten(0, 2).T, take(CLASSIFIER, "bias", 1))
    return make_weights(
        layers,
        classifier,
        source=name,
        layout=layout,
        padding="same",
        activation="relu6",
        norm_eps=1e-3,
        preprocessing=TENSORFLOW_INPUT,
    )


def _collect(file: Any, h5py: Any) -> tuple[dict[str, dict[str, Tensor]], str]:
    """Tensors by layer and variable, under the names of the old layout, and the name of the layout."""
    found: dict[str, dict[str, Tensor]] = {}
    layout, budget = "Keras .h5", Budget()
    for path in _dataset_paths(file, h5py):
        parts = path.split("/")
        if parts[0].startswith("optimizer"):
            continue
        if len(parts) >= 3 and parts[-2] == "vars":
            layout = "Keras 3 .weights.h5"
            stored = _name_of(file["/".join(parts[:-1])], h5py)
            layer = stored if stored in KNOWN else NEW_LAYOUT.get(parts[-3], "")
            variables = NORM_VARIABLES if layer in NORMS else ("kernel", "bias")
            index = int(parts[-1]) if parts[-1].isdecimal() else len(variables)
            variable = variables[index] if index < len(variables) else ""
        else:
            layer = next((part for part in reversed(parts[:-1]) if part in KNOWN), "")
            variable = parts[-1].split(":")[0].removeprefix("depthwise_")
        if not layer or not variable:
            continue
        if variable in found.setdefault(layer, {}):
            raise ValueError(f"{variable} of layer {layer} occurs twice")
        found[layer][variable] = _read_dataset(file[path], path, h5py, budget)
    return found, layout


def _dataset_paths(file: Any, h5py: Any) -> list[str]:
    """The paths of all data sets in the file itself.

    Raises:
        RefusedError: a link, through which a file could expose the content of another one; too deeply nested groups.
    """
    datasets: list[str] = []
    groups, seen = [("", file)], 0
    while groups:
        above, group = groups.pop()
        for name in group:
            path, link, seen = f"{above}{name}", group.get(name, getlink=True), seen + 1
            if not isinstance(link, h5py.HardLink):
                target = f"{getattr(link, 'filename', '')}:{link.path}".removeprefix(":")
                raise RefusedError(f"{path} is a link to {target}, weights must be in the file itself")
            if seen > MAX_MEMBERS or path.count("/") > MAX_DEPTH:
                raise RefusedError(f"more than {MAX_MEMBERS:,} groups and data sets, or {MAX_DEPTH} within each other")
            kind = group.get(name, getclass=True)
            if kind is h5py.Dataset:
                datasets.append(path)
            elif kind is h5py.Group:
                groups.append((f"{path}/", group[name]))
    return datasets


def _name_of(group: Any, h5py: Any) -> str:
    """The layer's name stored beside its variables; "" if there is none, or it is not a short text."""
    attributes = group.attrs
    if "name" not in attributes or attributes.get_id("name").shape != ():
        return ""
    if h5py.check_string_dtype(attributes.get_id("name").dtype) is None:
        return ""
    stored = attributes["name"]
    return stored.decode(errors="replace") if isinstance(stored, bytes) else str(stored)


def _read_dataset(dataset: Any, path: str, h5py: Any, budget: Budget) -> Tensor:
    """The numbers of a data set stored in the file itself; their declared size is counted before they are read.

    Raises:
        ValueError: they are in other files, or not floats; there are too many; they unpack to more than declared.
    """
    if dataset.external or dataset.is_virtual:
        where = dataset.external[0][0] if dataset.external else "other data sets"
        raise RefusedError(f"the numbers of {path} are in {where}, weights must be in the file itself")
    # integers would need a scale
    if dataset.dtype.kind != "f" or dataset.dtype.itemsize > 8 or not dataset.shape or not dataset.size:
        raise RefusedError(f"{path} holds {dataset.dtype} of shape {dataset.shape}, not floats")
    budget.take(2 * dataset.size * max(dataset.dtype.itemsize, 4), f"{path} of shape {dataset.shape}")
    if dataset.chunks:
        chunk_bytes = math.prod(dataset.chunks) * dataset.dtype.itemsize
        budget.take(chunk_bytes, f"a chunk of {path}")
        _check_chunks(dataset, path, chunk_bytes, h5py, budget)
    written = dataset.id.get_num_chunks() if dataset.chunks else dataset.id.get_storage_size() // dataset.nbytes
    if written < (math.prod(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks or dataset.shape, strict=True))):
        raise RefusedError(f"not all numbers of {path} were written")
    return torch.from_numpy(dataset[()].astype(dataset.dtype.newbyteorder("="), copy=False))


def _check_chunks(dataset: Any, path: str, chunk_bytes: int, h5py: Any, budget: Budget) -> None:
    """Check that no compressed chunk unpacks to more than it declares: HDF5 does not limit its output."""
    filters = dataset.id.get_create_plist()
    kinds = [filters.get_filter(i)[0] for i in range(filters.get_nfilters())]
    if not set(kinds) <= {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}:
        raise RefusedError(f"{path} is compressed in another way than gzip")
    if kinds.count(h5py.h5z.FILTER_DEFLATE) > 1:
        raise RefusedError(f"{path} is compressed twice")
    if h5py.h5z.FILTER_DEFLATE not in kinds:
        return
    for i in range(dataset.id.get_num_chunks()):
        chunk = dataset.id.get_chunk_info(i)
        budget.take(chunk.size, f"a chunk of {path}")
        skipped, packed = dataset.id.read_direct_chunk(chunk.chunk_offset)
        if skipped:
            continue
        inflate = zlib.decompressobj()
        if len(inflate.decompress(packed, chunk_bytes + 5)) > chunk_bytes + 4:  # Fletcher's sum has four bytes
            raise RefusedError(f"{path} unpacks to more than it declares")
