"""Write an exported file and check it before it is kept: its outputs and the app's metric are compared with torch's.

Letters in shapes: B batch, H W height and width.
"""

from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from apps.common.checkpoint import WEIGHTS
from apps.common.choices import Format
from apps.common.deploy.agreement import difference
from apps.common.deploy.executorch import ExecutorchSession, need_executorch, write_executorch
from apps.common.deploy.formats import TOLERANCE, quantize, write_onnx, write_openvino
from apps.common.deploy.graph import Graph
from apps.common.deploy.packages import need
from apps.common.deploy.sessions import Session, load_session
from backbone.files import written_whole

PARITY_PHOTOS = 16
SUFFIXES = {"onnx": ".onnx", "executorch": ".pte"}
Compare = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], float]


class Metric(NamedTuple):
    """The app's metric.

    Attributes:
        name: of the metric.
        measure: computes it, 0 to 1, with a session's outputs.
        reference: the session of torch.
        num_photos: on which it is measured.
    """

    name: str
    measure: Callable[[Session], float]
    reference: Session
    num_photos: int


def write_checked(
    out: Path,
    graph: Graph,
    *,
    format: Format,
    resolution: int,
    metadata: Mapping[str, Any],
    photos: Tensor,
    calibration: Tensor | None = None,
    metric: Metric | None = None,
    max_drop: float,
    compare: Compare = difference,
    dynamic_size: bool = False,
    translations: Mapping[Callable, Callable] | None = None,
) -> None:
    """Write a file (onnx, executorch) or folder (openvino), check it, and print the result; if a check fails, nothing
    is left.

    Args:
        metadata: of the app; kept in the file, together with what all apps have.
        photos: (B, 3, H, W) uint8 on which the outputs are compared.
        calibration: (B, 3, H, W) uint8 for 8-bit integers; None for 32-bit floats.
        metric: measured with torch and with the file; None for no check of it.
        max_drop: how much the metric may lose.
        compare: the difference between torch's outputs and the file's; more than `TOLERANCE` is an error.

    Raises:
        ValueError: packages are missing, the network cannot be exported, or a check failed.
    """
    _need(format)
    precision = "float32" if calibration is None else "int8"
    sizes = {"resolution": resolution, "dynamic_size": dynamic_size}
    facts = {**_describe(graph), **sizes, "precision": precision, **metadata}
    with written_whole(out, folder=format == "openvino") as temporary:
        if format == "executorch":
            write_executorch(temporary, graph, resolution=resolution, metadata=facts)
        else:
            onnx = temporary / "model.onnx" if format == "openvino" else temporary
            write_onnx(
                onnx, graph, resolution=resolution, metadata=facts, dynamic_size=dynamic_size, translations=translations
            )
            if calibration is not None:
                _quantize_in_place(onnx, graph, calibration)
            if format == "openvino":
                write_openvino(temporary, onnx)
                onnx.unlink()
        session = _load(temporary, graph, format)
        _check_outputs(graph, session, photos, compare, exact=calibration is None)
        if metric:
            _check_metric(metric, session, max_drop)
    size = sum(file.stat().st_size for file in ([out] if out.is_file() else out.iterdir())) / 1e6
    print(f"{out}: {format}, {precision}, {size:.2f} MB, checked with {session.name}")


def _need(format: Format) -> None:
    """Raise ValueError, with the command that installs them, if a format's packages are missing."""
    if format == "executorch":
        need_executorch()
    else:
        need("onnx", "onnxscript", *(["openvino"] if format == "openvino" else []), "onnxruntime")


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
    if format == "executorch":
        return ExecutorchSession(path, graph)
    return load_session(path, format, preprocessing=graph.preprocessing if graph.input == "float" else None)


def _check_outputs(graph: Graph, session: Session, photos: Tensor, compare: Compare, *, exact: bool) -> None:
    far = max(compare(graph.reference(image[None]), session(image[None])) for image in photos)
    far = max(far, compare(graph.reference(photos[:3]), session(photos[:3])))  # as a batch, too
    print(f"outputs differ from torch's by {far:.2g} at most, on {len(photos)} photos (relative)")
    if exact and not far <= TOLERANCE:
        raise ValueError(f"the exported file computes something else than torch: by {far:.2g}, allowed is {TOLERANCE}")


def _check_metric(metric: Metric, session: Session, max_drop: float) -> None:
    before, after = metric.measure(metric.reference), metric.measure(session)
    print(f"{metric.name} on {metric.num_photos:,} photos: torch {before:.4f}, exported {after:.4f}")
    if not before - after <= max_drop:
        raise ValueError(
            f"the exported file loses too much: {metric.name} {before:.4f} becomes {after:.4f}, --max-drop is "
            f"{max_drop}: calibrate on more photos like those it will see (--data, --num-photos), or allow more"
        )


def checkpoint_facts(folder: Path | None) -> dict[str, Any]:
    """Where a file's weights came from: the SHA-256 of the model folder's weights, if there is one."""
    return {} if folder is None else {"checkpoint_sha256": sha256((folder / WEIGHTS).read_bytes()).hexdigest()}


def choose_target(
    config: Any, folder: Path, name: str, *, dynamic_size: bool = False, suppressed: bool = False
) -> Path:
    """--out, or by default `default_out`; ValueError for flags of an export.py that do not fit each other or it."""
    out = config.out or default_out(folder, name, format=config.format, int8=config.int8)
    check_format(config.format, int8=config.int8, dynamic_size=dynamic_size, suppressed=suppressed)
    check_target(out, config.format)
    check_num_photos(config.num_photos)
    return out


def check_num_photos(num_photos: int) -> None:
    """Raise ValueError for fewer than one."""
    if num_photos < 1:
        raise ValueError(f"--num-photos must be 1 or more, got {num_photos}")


def check_format(format: Format, *, int8: bool, dynamic_size: bool = False, suppressed: bool = False) -> None:
    """Raise ValueError for what ExecuTorch's files do not have here."""
    flags = {"--int8": int8, "--dynamic-size": dynamic_size, "--outputs detections": suppressed}
    if format == "executorch" and (asked := [flag for flag, given in flags.items() if given]):
        raise ValueError(
            f"--format executorch is in 32-bit floats, for one size, without suppression: {asked[0]} is for onnx"
        )


def default_out(folder: Path, name: str, *, format: Format, int8: bool) -> Path:
    """`export/NAME.onnx` (or .pte), or a folder `export/NAME_openvino`, beside the model folder."""
    beside = folder.parent / "export"
    name += "-int8" * int8
    return beside / (name + ("_openvino" if format == "openvino" else SUFFIXES[format]))


def check_target(out: Path, format: Format) -> None:
    """Raise ValueError for an --out that does not fit its format."""
    if format != "openvino" and (out.suffix != SUFFIXES[format] or out.is_dir()):
        raise ValueError(f"--out {out} must be a file that ends in {SUFFIXES[format]} for --format {format}")
    there = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if format == "openvino" and (out.is_file() or (there and there != {"model.xml", "model.bin"})):
        raise ValueError(f"--out {out} must be a new folder, or one that an export wrote, for --format openvino")
