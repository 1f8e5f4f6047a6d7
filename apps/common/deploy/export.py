"""Writing an exported file and judging it before it may stay: its outputs and the app's metric beside torch's.

Letters in shapes: B batch, H W height and width.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from apps.common.checkpoint import WEIGHTS
from apps.common.choices import Format
from apps.common.deploy.agreement import difference
from apps.common.deploy.executorch import ExecutorchSession, need_executorch, write_executorch
from apps.common.deploy.formats import TOLERANCE, file_hash, quantize, write_onnx, write_openvino
from apps.common.deploy.graph import Graph
from apps.common.deploy.packages import need
from apps.common.deploy.sessions import Session, load_session
from backbone.files import written_whole

PARITY_PHOTOS = 16
SUFFIXES = {"onnx": ".onnx", "executorch": ".pte"}
Compare = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], float]


class Judge(NamedTuple):
    """How the app's metric is measured.

    Attributes:
        metric: its name.
        measure: gives it, 0 to 1, with a session in the place of the network; None for the network itself.
        num_photos: that it is measured on.
    """

    metric: str
    measure: Callable[[Session | None], float]
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
    judge: Judge | None = None,
    max_drop: float,
    compare: Compare = difference,
    dynamic_size: bool = False,
    translations: Mapping[Callable, Callable] | None = None,
) -> None:
    """Write a file (onnx, executorch) or folder (openvino), check it, and print what was found. A failed check leaves
    nothing.

    Args:
        metadata: kept in the file, together with what is common to all apps.
        photos: (B, 3, H, W) uint8 that its outputs are compared on.
        calibration: (B, 3, H, W) uint8 for 8-bit integers; None for 32-bit floats.
        max_drop: of the metric, at most.
        compare: outputs as torch and as the file computes them, to a number that must not exceed `TOLERANCE`.

    Raises:
        ValueError: packages are missing, the network cannot be exported, or a check failed.
    """
    if format == "executorch":
        need_executorch()
    else:
        need("onnx", "onnxscript", *(["openvino"] if format == "openvino" else []), "onnxruntime")
    precision = "float32" if calibration is None else "int8"
    facts = {
        "format_version": "1",
        "input": "uint8 RGB (B, H, W, 3)" if graph.input == "uint8" else "float32 (B, 3, H, W), preprocessed",
        "outputs": list(graph.outputs),
        "resolution": resolution,
        "dynamic_size": dynamic_size,
        "precision": precision,
        "network_hash": graph.content_hash(),
        "mean": list(graph.preprocessing.mean),
        "std": list(graph.preprocessing.std),
        **metadata,
    }
    with written_whole(out, folder=format == "openvino") as temporary:
        path = temporary / "model.onnx" if format == "openvino" else temporary
        if format == "executorch":
            write_executorch(path, graph, resolution=resolution, metadata=facts)
        else:
            write_onnx(
                path, graph, resolution=resolution, metadata=facts, dynamic_size=dynamic_size, translations=translations
            )
        if calibration is not None:
            quantized = path.with_name(f"int8-{path.name}")
            quantize(path, quantized, (graph.feed(image[None]).contiguous().numpy() for image in calibration))
            quantized.replace(path)
        if format == "openvino":
            write_openvino(temporary, path)
            path.unlink()
        session: Session
        if format == "executorch":
            session = ExecutorchSession(temporary, graph)
        else:
            preprocessing = graph.preprocessing if graph.input == "float" else None
            session = load_session(temporary, format, preprocessing=preprocessing)
        _check_outputs(graph, session, photos, compare, exact=calibration is None)
        if judge:
            _check_metric(judge, session, max_drop)
    files = [out] if out.is_file() else sorted(out.iterdir())
    size = sum(file.stat().st_size for file in files) / 1e6
    print(f"{out}: {format}, {precision}, {size:.2f} MB, checked with {session.name}")


def _check_outputs(graph: Graph, session: Session, photos: Tensor, compare: Compare, *, exact: bool) -> None:
    far = max(compare(graph.reference(image[None]), session(image[None])) for image in photos)
    far = max(far, compare(graph.reference(photos[:3]), session(photos[:3])))  # as a batch, too
    print(f"outputs differ from torch's by {far:.2g} at most, on {len(photos)} photos (relative)")
    if exact and not far <= TOLERANCE:
        raise ValueError(f"the exported file computes something else than torch: by {far:.2g}, allowed is {TOLERANCE}")


def _check_metric(judge: Judge, session: Session, max_drop: float) -> None:
    before, after = judge.measure(None), judge.measure(session)
    print(f"{judge.metric} on {judge.num_photos:,} photos: torch {before:.4f}, exported {after:.4f}")
    if not before - after <= max_drop:
        raise ValueError(
            f"the exported file loses too much: {judge.metric} {before:.4f} becomes {after:.4f}, --max-drop is "
            f"{max_drop}: calibrate on more photos like those it will see (--data, --num-photos), or allow more"
        )


def checkpoint_facts(folder: Path | None) -> dict[str, Any]:
    """Where a file's weights came from: the SHA-256 of the model folder's weights, if there is one."""
    return {} if folder is None else {"checkpoint_sha256": file_hash(folder / WEIGHTS)}


def spread(total: int, number: int) -> list[int]:
    """At most `number` places all over 0 to `total` - 1."""
    if number < 1:
        raise ValueError(f"--num-photos must be 1 or more, got {number}")
    number = min(total, number)
    return [i * total // number for i in range(number)]


def check_format(format: Format, *, int8: bool, dynamic_size: bool = False, suppressed: bool = False) -> None:
    """Raise ValueError for what ExecuTorch's files do not have here."""
    flags = {"--int8": int8, "--dynamic-size": dynamic_size, "--outputs detections": suppressed}
    if format == "executorch" and (asked := [flag for flag, given in flags.items() if given]):
        raise ValueError(
            f"--format executorch is in 32-bit floats, for one size, without suppression: {asked[0]} is for onnx"
        )


def default_out(folder: Path, name: str, *, format: Format, int8: bool) -> Path:
    """`export/NAME.onnx` (or .pte), or a folder `export/NAME_openvino`, beside the model folder."""
    place = folder.parent / "export"
    name += "-int8" * int8
    return place / (name + ("_openvino" if format == "openvino" else SUFFIXES[format]))


def check_target(out: Path, format: Format) -> None:
    """Raise ValueError for an --out that does not fit its format."""
    if format != "openvino" and (out.suffix != SUFFIXES[format] or out.is_dir()):
        raise ValueError(f"--out {out} must be a file that ends in {SUFFIXES[format]} for --format {format}")
    if format == "openvino" and (out.is_file() or (out.is_dir() and any(out.iterdir()) and not _ours(out))):
        raise ValueError(f"--out {out} must be a new folder, or one that an export wrote, for --format openvino")


def _ours(folder: Path) -> bool:
    return {path.name for path in folder.iterdir()} == {"model.xml", "model.bin"}
