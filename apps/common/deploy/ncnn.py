"""NCNN's two files, for phones and small boards: a network in a folder, converted by pnnx, in 32-bit floats.

Letters in shapes: B batch, H W height and width.
"""

import io
import json
import re
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from apps.common.deploy.formats import INPUT, NCNN_FILE, as_text, read_texts
from apps.common.deploy.graph import Graph, as_input
from apps.common.deploy.packages import need, quietly, try_elsewhere
from apps.common.images import Normalisation
from backbone.files import failure
from backbone.text import reason_of

PARAM, BIN, ABOUT = NCNN_FILE, "model.bin", "metadata.json"
PIXELS = "RGB (3, H, W), pixels 0 to 255 as floats"  # as `Mat.from_pixels` gives them
EXTRA = "ncnn"
MAGIC = "7767517"
MOST_LAYERS, MOST_BYTES, MOST_ABOUT = 4096, 1 << 30, 50_000_000
PNNX_SECONDS = 600
PLAIN_LAYERS = frozenset(
    "BinaryOp Clip Concat Crop Dropout Eltwise Flatten GELU HardSigmoid HardSwish Input Interp Noop Padding Permute "
    "Pooling Reduction ReLU Reshape ShuffleChannel Sigmoid Slice Softmax Split Squeeze Swish UnaryOp".split()
)
"""Layers without weights that networks of this project are made of."""
Numbers = Mapping[int, str]  # a layer's parameters in the .param file


def _number(numbers: Numbers, key: int) -> int:
    text = numbers.get(key, "0")
    if not re.fullmatch(r"\d{1,9}", text):
        raise ValueError(f"parameter {key} is {text!r:.40}, not a count")
    return int(text)


def _convolution(numbers: Numbers) -> int:
    if _number(numbers, 8):
        raise ValueError("weights in 8 bits are not supported")
    return 1 + _number(numbers, 6) + (_number(numbers, 0) if _number(numbers, 5) else 0)


def _memory(numbers: Numbers) -> int:
    return int(np.prod([max(_number(numbers, key), 1) for key in (0, 1, 11, 2)], dtype=object))


WEIGHTS: Mapping[str, Callable[[Numbers], int]] = {
    "Convolution": _convolution,
    "ConvolutionDepthWise": _convolution,
    "InnerProduct": lambda n: 1 + _number(n, 2) + (_number(n, 0) if _number(n, 1) else 0),
    "GroupNorm": lambda n: 2 * _number(n, 1) * (n.get(3, "1") != "0"),
    "LayerNorm": lambda n: 2 * _number(n, 0) * (n.get(2, "1") != "0"),
    "BatchNorm": lambda n: 4 * _number(n, 0),
    "PReLU": lambda n: _number(n, 0),
    "MemoryData": _memory,
}
"""How many numbers of 4 bytes a layer has in the .bin file; the first of a convolution says that they are floats."""


def write_ncnn(folder: Path, graph: Graph, *, resolution: int, metadata: Mapping[str, Any]) -> None:
    """Write `model.param`, `model.bin` and `metadata.json` into a folder, for one image at a time.

    Args:
        resolution: side of the square input, pixels.
        metadata: what is not text is written as JSON.

    Raises:
        ValueError: the packages are missing, or the network has an operator that NCNN lacks.
    """
    need("pnnx", "ncnn", extra=EXTRA)
    import pnnx

    with tempfile.TemporaryDirectory(dir=folder) as room:
        shape = (1, 3, resolution, resolution)
        traced = io.BytesIO()  # a disk that is full ends the process that torch writes a file in
        with quietly(), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.save(torch.jit.trace(_Planes(graph), torch.zeros(shape), check_trace=False), traced)
        (Path(room) / "net.pt").write_bytes(traced.getbuffer())
        command = [pnnx.EXEC_PATH, "net.pt", f"inputshape=[{','.join(map(str, shape))}]", "fp16=0"]
        try:
            subprocess.run(command, cwd=room, capture_output=True, timeout=PNNX_SECONDS, check=True)
            param = (Path(room) / "net.ncnn.param").read_text(encoding="utf-8")
            param = re.sub(r" in0\b", f" {INPUT}", param)
            for k, name in enumerate(graph.outputs):
                param = re.sub(rf" out{k}\b", f" {name}", param)
            weights = (Path(room) / "net.ncnn.bin").read_bytes()
            if set(check_param(param, len(weights))) != set(graph.outputs):
                raise ValueError("an output is missing")
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            reason = reason_of(error).replace(room, "")
            raise failure(folder, f"this network cannot be exported to NCNN: {reason}") from error
    (folder / PARAM).write_text(param, encoding="utf-8")
    (folder / BIN).write_bytes(weights)
    about = json.dumps(as_text(metadata), ensure_ascii=False, indent=1)
    (folder / ABOUT).write_text(about, encoding="utf-8")


class _Planes(nn.Module):
    """A graph whose input is pixels as planar floats, (B, 3, H, W)."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if self.graph.input == "uint8":
            images = images.permute(0, 2, 3, 1)
        return self.graph(images)


def check_param(param: str, num_bytes: int) -> list[str]:
    """The names of the outputs of a .param file whose .bin file has so many bytes.

    Raises:
        ValueError: it is not as a file of `write_ncnn` is: layers of other kinds, inputs that nothing gives, more or
            fewer weights than there are.
    """
    head, counts, *lines = [*param.splitlines(), "", ""]
    lines = [line for line in lines if line.strip()]
    made: dict[str, bool] = {}  # blobs, and whether a layer takes them
    weights = 0
    for line in lines[: MOST_LAYERS + 1]:
        kind, bottoms, tops, numbers = _read_layer(line)
        if kind in WEIGHTS:
            weights += 4 * WEIGHTS[kind](numbers)
        elif kind not in PLAIN_LAYERS:
            raise ValueError(f"layer {kind!r:.80} is not supported")
        for name in bottoms:
            if name not in made:
                raise ValueError(f"nothing gives {name!r:.80}")
            made[name] = True
        if len({*tops}) < len(tops) or made.keys() & {*tops}:
            raise ValueError(f"two layers give {tops[0]!r:.80}")
        made |= dict.fromkeys(tops, False)
    if head.strip() != MAGIC or len(lines) > MOST_LAYERS or counts.split() != [str(len(lines)), str(len(made))]:
        raise ValueError("it does not begin as a text file of NCNN, or is cut")
    if weights != num_bytes:
        raise ValueError(f"its weights need {weights:,} bytes, {BIN} has {num_bytes:,}")
    return [name for name, is_taken in made.items() if not is_taken]


def _read_layer(line: str) -> tuple[str, list[str], list[str], Numbers]:
    """The kind of a layer, what it takes, what it gives, and its parameters."""
    kind, _, num_bottoms, num_tops, *rest = [*line.split(), "", "", "", ""][: max(4, len(line.split()))]
    if not (re.fullmatch(r"\d{1,3}", num_bottoms) and re.fullmatch(r"\d{1,3}", num_tops)):
        raise ValueError(f"{line!r:.80} is no layer")
    first, last = int(num_bottoms), int(num_bottoms) + int(num_tops)
    numbers: dict[int, str] = {}
    for text in rest[last:]:
        if not (found := re.fullmatch(r"(-?\d{1,5})=([-+.,\de]{1,400})", text)):
            raise ValueError(f"parameter {text!r:.80} has no value that is a number")
        count, *listed = found[2].split(",")
        if int(found[1]) <= -23300 and count != str(len(listed)):
            raise ValueError(f"list {text!r:.80} is not as long as it says")
        numbers[int(found[1])] = found[2]
    if len(rest) < last:
        raise ValueError(f"{line!r:.80} is cut")
    return kind, rest[:first], rest[first:last], numbers


def _read_param(folder: Path) -> list[str]:
    """`check_param` of a folder, whose weights are finite."""
    sizes = [(folder / name).stat().st_size if (folder / name).is_file() else -1 for name in (PARAM, BIN)]
    if not (0 <= sizes[0] <= 1000 * MOST_LAYERS and 0 <= sizes[1] <= MOST_BYTES):
        raise ValueError(f"{PARAM} or {BIN} is missing or too large")
    outputs = check_param((folder / PARAM).read_text(encoding="utf-8", errors="replace"), sizes[1])
    if not np.isfinite(np.fromfile(folder / BIN, "<f4")).all():
        raise ValueError(f"{BIN} has weights that are not finite")  # its activations would clip them
    return outputs


def _read_about(folder: Path) -> dict[str, str]:
    """The metadata of a folder; empty if it has none, or more than a model of this project can have."""
    try:
        with open(folder / ABOUT, "rb") as file:
            return read_texts(file.read(MOST_ABOUT))
    except OSError:
        return {}


TRIAL = f"""
import sys, ncnn, numpy
folder, side, *outputs = sys.argv[1:]
net = ncnn.Net()
net.opt.num_threads = 1
assert net.load_param(folder + "/{PARAM}") == 0 and net.load_model(folder + "/{BIN}") == 0
extractor, image = net.create_extractor(), numpy.zeros((3, int(side), int(side)), numpy.float32)
assert extractor.input("{INPUT}", ncnn.Mat(image)) == 0
assert all(extractor.extract(name)[0] == 0 for name in outputs)
"""


def try_ncnn(folder: Path) -> None:
    """Compute a folder of strangers once in another process: NCNN trusts its files, and a crash is only that one's.

    Raises:
        ValueError: a file is damaged, or the process failed.
    """
    try:
        outputs = _read_param(folder)
        side = _read_about(folder).get("resolution", "")
        if not re.fullmatch(r"\d{2,4}", side):  # it is opened only: refused later, with what is missing
            side, outputs = "64", []
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} cannot be opened as ncnn: {error}") from None
    if not try_elsewhere(TRIAL, str(folder), side, *outputs):
        raise ValueError(f"{folder} cannot be computed by NCNN: damaged, or no file of export.py")


class NcnnSession:
    """A folder of `write_ncnn`, one image at a time, in 32-bit floats."""

    bf16 = False

    def __init__(self, path: Path, *, threads: int, preprocessing: Normalisation | None) -> None:
        import ncnn

        self._outputs = _read_param(path)
        self._ncnn, self._net = ncnn, ncnn.Net()
        self._net.opt.num_threads = threads
        for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_vulkan_compute"):
            setattr(self._net.opt, option, False)
        if self._net.load_param(str(path / PARAM)) or self._net.load_model(str(path / BIN)):
            raise ValueError("NCNN refuses it")
        self.preprocessing = preprocessing
        self.metadata = _read_about(path)
        self.name = f"NCNN {version('ncnn')}"

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        found = [self._one(image) for image in as_input(images.cpu(), self.preprocessing).contiguous().numpy()]
        return {name: torch.stack([one[name] for one in found]) for name in self._outputs}

    def _one(self, image: np.ndarray) -> dict[str, Tensor]:
        Mat = self._ncnn.Mat
        if image.dtype == np.uint8:
            mat = Mat.from_pixels(image, Mat.PixelType.PIXEL_RGB, image.shape[1], image.shape[0])
        else:
            mat = Mat(image)  # a view: `image` lives as long
        extractor = self._net.create_extractor()
        codes, found = [extractor.input(INPUT, mat)], {}
        for name in self._outputs:
            code, value = extractor.extract(name)
            codes.append(code)
            found[name] = torch.from_numpy(np.array(value))
        if any(codes):
            raise ValueError("NCNN cannot compute it")
        return found
