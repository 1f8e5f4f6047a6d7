"""Write an exported file and check it before it is kept: its outputs and the app's metric are compared with torch's.

Letters in shapes: B batch, H W height and width.
"""

import shlex
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, get_args

from torch import Tensor

from apps.common.checkpoint import WEIGHTS
from apps.common.choices import Format, Input, Io
from apps.common.deploy.agreement import difference
from apps.common.deploy.executorch import need_executorch, write_executorch
from apps.common.deploy.formats import OPENVINO_FILE, SUFFIXES, quantize, write_onnx, write_openvino
from apps.common.deploy.graph import Graph, Photos
from apps.common.deploy.ncnn import ABOUT, BIN, EXTRA, PARAM, PIXELS, write_ncnn
from apps.common.deploy.packages import need
from apps.common.deploy.sessions import Session, load_session
from apps.common.deploy.tflite.convert import write_tflite
from apps.common.deploy.web import MODEL, WEB_FILES, WebPage, find_runtime, write_page
from backbone.files import written_whole

PARITY_PHOTOS = 16
SAME_OUTPUTS = 1e-4  # largest difference of 32-bit outputs, relative to max(1, largest output)
SAME_METRIC, MAX_DROP = 0.001, 0.01  # how far the metric may be in 32-bit floats, and how much 8 bits may lose
FOLDERS = {"openvino": {"model.xml", "model.bin"}, "ncnn": {PARAM, BIN, ABOUT}, "web": WEB_FILES}
"""Formats that are folders, and what may be in each."""
LACKS = {
    "executorch": ("--dynamic-size", "--outputs detections"),
    "ncnn": ("--int8", "--dynamic-size", "--outputs detections"),
    "tflite": ("--dynamic-size",),
    "web": ("--dynamic-size",),
}
Compare = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], float]


class Metric(NamedTuple):
    """The app's metric.

    Attributes:
        name: the metric's name.
        measure: computes it, 0 to 1, from a session's outputs.
        reference: torch's session.
        num_photos: the number of photos it is measured on.
    """

    name: str
    measure: Callable[[Session], float]
    reference: Session
    num_photos: int


class Checks(NamedTuple):
    """What an exported file is checked with.

    Attributes:
        photos: (B, 3, H, W) uint8, on which the outputs are compared.
        metric: measured with torch and with the file; None skips this check.
    """

    photos: Tensor
    metric: Metric | None = None


def write_checked(
    out: Path,
    graph: Graph,
    *,
    format: Format,
    resolution: int,
    metadata: Mapping[str, Any],
    checks: Callable[[], Checks],
    calibration: Photos | None = None,
    max_drop: float | None,
    compare: Compare = difference,
    dynamic_size: bool = False,
    translations: Mapping[Callable, Callable] | None = None,
    page: WebPage = WebPage(),  # noqa: B008
    io: Io = "float",
) -> None:
    """Write a file or folder (openvino, web), check it, and print the result; if a check fails, nothing is kept.

    A network that the format cannot hold is refused before photos are read.

    Args:
        metadata: of the app; stored in the file, together with the metadata of all apps.
        checks: reads what the file is checked with.
        calibration: reads photos for 8-bit integers; None for 32-bit floats.
        max_drop: the largest allowed loss of the metric; None for `MAX_DROP` in 8 bits and `SAME_METRIC` in floats.
        compare: the difference between torch's outputs and the file's; more than `SAME_OUTPUTS` is an error.
        page: for web, the page's content besides the model.
        io: for tflite in 8 bits: "int8" for inputs and outputs, too, or pixels in and floats out.

    Raises:
        ValueError: packages are missing, the network cannot be exported, or a check failed.
    """
    _need(format, int8=calibration is not None)
    precision = "float32" if calibration is None else "int8"
    sizes = {"resolution": resolution, "dynamic_size": dynamic_size}
    facts = {**_describe(graph), **sizes, "precision": precision, **metadata}
    facts |= {"input": PIXELS} if format == "ncnn" and graph.input == "uint8" else {}
    facts |= {"input": "int8 RGB (B, H, W, 3), pixel - 128"} if io == "int8" else {}
    with written_whole(out, folder=format in FOLDERS) as temporary:
        options = {"dynamic_size": dynamic_size, "translations": translations}
        _write(temporary, graph, format, io, resolution=resolution, metadata=facts, calibration=calibration, **options)
        session = _load(temporary, graph, format)
        photos, metric = checks()
        _check_outputs(graph, session, photos, compare, exact=calibration is None)
        if metric:
            _check_metric(metric, session, max_drop, exact=calibration is None)
        if format == "web":
            write_page(temporary, facts, page)
    files = [out] if out.is_file() else [path for path in out.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"{out}: {format}, {precision}, {size:.2f} MB, checked with {session.name}")
    if format == "web":
        serve = f"python -m http.server --bind 127.0.0.1 --directory {shlex.quote(str(out))}"
        print(f"look: {serve}, then http://localhost:8000")


def _write(
    path: Path,
    graph: Graph,
    format: Format,
    io: Io,
    *,
    resolution: int,
    metadata: Mapping[str, Any],
    calibration: Photos | None,
    **options: Any,
) -> None:
    """Write the file, or the content of the folder."""
    if format == "executorch":
        write_executorch(path, graph, resolution=resolution, metadata=metadata, calibration=calibration)
    elif format == "tflite":
        write_tflite(path, graph, resolution=resolution, metadata=metadata, calibration=calibration, whole=io == "int8")
    elif format == "ncnn":
        write_ncnn(path, graph, resolution=resolution, metadata=metadata)
    else:
        onnx = path / MODEL if format in FOLDERS else path
        write_onnx(onnx, graph, resolution=resolution, metadata=metadata, **options)
        if calibration is not None:
            _quantize_in_place(onnx, graph, calibration())
        if format == "openvino":
            write_openvino(path, onnx)
            onnx.unlink()


def _need(format: Format, *, int8: bool) -> None:
    """Raise ValueError, with the command that installs them, if a format's packages are missing."""
    if format == "executorch":
        need_executorch()
    elif format == "tflite":
        need("ai_edge_litert", "flatbuffers", *["ai_edge_quantizer"] * int8, extra="tflite")
    elif format == "ncnn":
        need("pnnx", "ncnn", extra=EXTRA)
    else:
        need("onnx", "onnxscript", *["openvino"] * (format == "openvino"), "onnxruntime", *["sympy"] * int8)


def _describe(graph: Graph) -> dict[str, Any]:
    return {
        "format_version": "1",
        "input": "uint8 RGB (B, H, W, 3)" if graph.input == "uint8" else "float32 (B, 3, H, W), preprocessed",
        "outputs": list(graph.outputs),
        "network_hash": graph.content_hash(),
        "mean": list(graph.preprocessing.mean),
        "std": list(graph.preprocessing.std),
    }


def _quantize_in_place(path: Path, graph: Graph, calibration: Tensor) -> None:
    quantized = path.with_name(f"int8-{path.name}")
    quantize(path, quantized, (graph.feed(image[None]).contiguous().numpy() for image in calibration))
    quantized.replace(path)


def _load(path: Path, graph: Graph, format: Format) -> Session:
    if format == "web":
        path, format = path / MODEL, "onnx"
    return load_session(path, format, preprocessing=graph.preprocessing if graph.input == "float" else None)


def _check_outputs(graph: Graph, session: Session, photos: Tensor, compare: Compare, *, exact: bool) -> None:
    far = max(compare(graph.reference(image[None]), session(image[None])) for image in photos)
    far = max(far, compare(graph.reference(photos[:3]), session(photos[:3])))  # as a batch, too
    said = f"by {far:.2g} at most" if far < float("inf") else "too much to be compared one by one"
    print(f"outputs differ from torch's {said}, on {len(photos)} photos (relative)")
    if exact and not far <= SAME_OUTPUTS:
        raise ValueError(
            f"the exported file computes something else than torch: by {far:.2g}, allowed is {SAME_OUTPUTS:g}"
        )


def _check_metric(metric: Metric, session: Session, max_drop: float | None, *, exact: bool) -> None:
    if max_drop is None:
        max_drop = SAME_METRIC if exact else MAX_DROP
    before, after = metric.measure(metric.reference), metric.measure(session)
    print(f"{metric.name} on {metric.num_photos:,} photos: torch {before:.4f}, exported {after:.4f}")
    lost = abs(before - after) if exact else before - after
    if not lost <= max_drop + 1e-9:  # 0.855 - 0.845 is more than 0.01
        raise ValueError(
            f"the exported file loses too much: {metric.name} {before:.4f} becomes {after:.4f}, --max-drop is "
            f"{max_drop}: calibrate on more photos like those it will see (--data, --num-photos), or allow more"
        )


def checkpoint_facts(folder: Path | None) -> dict[str, Any]:
    """The source of a file's weights: the SHA-256 of the model folder's weights, if there is one."""
    return {} if folder is None else {"checkpoint_sha256": sha256((folder / WEIGHTS).read_bytes()).hexdigest()}


def choose_target(
    config: Any, folder: Path, name: str, *, dynamic_size: bool = False, suppressed: bool = False
) -> Path:
    """--out, or by default `default_out`; ValueError for flags of an export.py that contradict each other or --out."""
    out = config.out or default_out(folder, name, format=config.format, int8=config.int8)
    check_format(config.format, int8=config.int8, dynamic_size=dynamic_size, suppressed=suppressed, input=config.input)
    if config.io == "int8" and (config.format != "tflite" or not config.int8 or suppressed):
        raise ValueError("--io int8 is for --format tflite --int8, and not for --outputs detections")
    check_target(out, config.format)
    check_num_photos(config.num_photos)
    if config.ort is not None and config.format != "web":
        raise ValueError(f"--ort is for --format web, not {config.format}")
    find_runtime(config.ort)
    return out


def check_num_photos(num_photos: int) -> None:
    """Raise ValueError for fewer than one."""
    if num_photos < 1:
        raise ValueError(f"--num-photos must be 1 or more, got {num_photos}")


def check_format(
    format: Format, *, int8: bool, dynamic_size: bool = False, suppressed: bool = False, input: Input = "uint8"
) -> None:
    """Raise ValueError for options that a format or a web page does not support."""
    if format == "web" and (dynamic_size or input != "uint8"):
        raise ValueError("--format web takes pixels of one size: without --dynamic-size and --input float")
    if format == "tflite" and int8 and input != "uint8":
        raise ValueError("--format tflite --int8 takes pixels: without --input float")
    flags = {"--int8": int8, "--dynamic-size": dynamic_size, "--outputs detections": suppressed}
    lacks = LACKS.get(format, ())
    if asked := [flag for flag in lacks if flags[flag]]:
        others = [name for name in get_args(Format) if asked[0] not in LACKS.get(name, ())]
        raise ValueError(f"--format {format} is without {', '.join(lacks)}: {asked[0]} is for {', '.join(others)}")


def default_out(folder: Path, name: str, *, format: Format, int8: bool) -> Path:
    """`export/NAME.onnx` (or .tflite, .pte), or a folder `export/NAME_openvino`, beside the model folder."""
    beside = folder.parent / "export"
    name += "-int8" * int8
    return beside / (name + (f"_{format}" if format in FOLDERS else SUFFIXES[format]))


def check_target(out: Path, format: Format) -> None:
    """Raise ValueError for an --out that does not fit the format."""
    if format not in FOLDERS and (out.suffix != SUFFIXES[format] or out.is_dir()):
        raise ValueError(f"--out {out} must be a file that ends in {SUFFIXES[format]} for --format {format}")
    there = {path.name for path in out.iterdir()} if out.is_dir() else set()
    ours = there <= FOLDERS.get(format, there) and bool(there & {OPENVINO_FILE, PARAM, MODEL})
    if format in FOLDERS and (out.is_file() or (there and not ours)):
        raise ValueError(f"--out {out} must be a new folder, or one that an export wrote, for --format {format}")
