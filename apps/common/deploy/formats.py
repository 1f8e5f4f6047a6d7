"""Write a trained network as a file for other runtimes: ONNX or OpenVINO, in 32-bit floats or 8-bit integers.

A file's input is pixels, uint8 RGB; it contains the preprocessing, so that callers make no copy in floats, and norms
are folded into the convolutions. `sessions.load_session` opens it.

Letters in shapes: B batch, H W height and width.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from apps.common.checkpoint import model_folder
from apps.common.choices import Format
from apps.common.cli import plain_message
from apps.common.deploy.graph import Graph
from apps.common.deploy.packages import import_openvino, need, openvino_core, quietly
from backbone.files import failure
from backbone.mobilenet_v1 import MIN_RESOLUTION
from backbone.text import reason_of

INPUT = "images"
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "tflite": ".tflite", "executorch": ".pte"}
OPENVINO_FILE, NCNN_FILE = "model.xml", "model.param"  # beside their model.bin
FOLDER_FILES: dict[Format, str] = {"openvino": OPENVINO_FILE, "ncnn": NCNN_FILE}
TOLERANCE = 1e-3  # largest allowed difference of 32-bit outputs, relative to max(1, largest output)
OPSET = 20
QUANTIZED = ("Conv", "Clip", "Relu", "Add")  # where the time goes, see `after_the_network`


def exported_format(path: Path | str) -> Format | None:
    """The format of a file or folder that an export.py writes, by its name; None for a run or model folder."""
    path = Path(path)
    for name, file in FOLDER_FILES.items():
        if (path / file).is_file():
            return name
    return next((name for name, end in SUFFIXES.items() if path.suffix.lower() == end and not path.is_dir()), None)


def beside(checkpoint: Path) -> Path:
    """The folder for files made with a checkpoint: its run, or the folder of an exported file."""
    return (checkpoint if exported_format(checkpoint) else model_folder(checkpoint)).parent


def write_onnx(
    path: Path,
    graph: Graph,
    *,
    resolution: int,
    metadata: Mapping[str, Any] | None = None,
    dynamic_size: bool = False,
    translations: Mapping[Callable, Callable] | None = None,
) -> None:
    """Write one ONNX file for any batch size.

    Args:
        resolution: side of the square input, pixels.
        metadata: stored in the file; values other than text are written as JSON.
        dynamic_size: any height and width from 32 pixels instead.
        translations: of torch operators that the exporter does not know.

    Raises:
        ValueError: the packages are missing, or the network cannot be exported.
    """
    need("onnx", "onnxscript")
    import onnx

    dims = {0: torch.export.Dim("batch", min=1)}
    if dynamic_size:
        names = zip((1, 2) if graph.input == "uint8" else (2, 3), ("height", "width"), strict=True)
        dims |= {dim: torch.export.Dim(name, min=MIN_RESOLUTION, max=4096) for dim, name in names}
    try:
        with quietly():
            program = torch.onnx.export(
                graph,
                (graph.example(resolution),),
                dynamo=True,
                external_data=False,
                dynamic_shapes=(dims,),
                input_names=[INPUT],
                output_names=list(graph.outputs),
                opset_version=OPSET,
                custom_translation_table=dict(translations or {}),
                verbose=False,
            )
    except Exception as error:  # the exporter raises many kinds
        raise ValueError(f"this network cannot be exported to ONNX: {reason_of(error)}") from error
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, as_text(metadata or {}))
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def quantize(source: Path, target: Path, batches: Iterable[np.ndarray]) -> None:
    """Write an ONNX file with 8-bit weights, with a scale per channel, and 8-bit activations.

    Args:
        source: an ONNX file of `write_onnx`.
        batches: calibration data: representative photos as the file's inputs; their ranges set the scales.

    Raises:
        ValueError: onnxruntime is missing, or fails.
    """
    need("onnx", "onnxruntime", "sympy")
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter(batches)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch}

    with quietly(), tempfile.TemporaryDirectory(dir=target.parent) as folder:
        try:
            prepared = Path(folder) / "prepared.onnx"
            quant_pre_process(source, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                target,
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=list(QUANTIZED),
                nodes_to_exclude=after_the_network(onnx.load(str(prepared)).graph),
            )
        except OSError:
            raise
        except Exception as error:  # onnxruntime raises many kinds, also for what it silently wrote half of
            message = f"this network cannot be exported in 8 bits: {plain_message(error)}"
            raise failure(target.parent, message) from error


def after_the_network(graph: Any) -> list[str]:
    """Names of the nodes after the last layers, which stay in floats: decoding, boxes shifted by class for NMS, ...

    8 bits suffice for the outputs of a layer, but are too coarse for coordinates shifted by up to a hundred classes.

    Args:
        graph: onnx.GraphProto.
    """
    makers = {output: node for node in graph.node for output in node.output}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    inside = {node.name for node in layers}
    left = [*layers]
    while left:  # everything that a layer's input is computed from
        for name in left.pop().input:
            if (node := makers.get(name)) is not None and node.name not in inside:
                inside.add(node.name)
                left.append(node)
    made_by_layers = {output for node in layers for output in node.output}  # and their activations
    activations = {n.name for n in graph.node if n.op_type in ("Clip", "Relu") and n.input[0] in made_by_layers}
    return [node.name for node in graph.node if node.name not in inside | activations]


def write_openvino(folder: Path, source: Path) -> None:
    """Write `model.xml` and `model.bin` of an ONNX file into a folder; the metadata is in the XML's `rt_info`."""
    need("onnx", "openvino")
    import onnx

    openvino = import_openvino()
    model = openvino_core().read_model(source)
    for prop in onnx.load(str(source)).metadata_props:
        model.set_rt_info(prop.value, [prop.key])
    try:
        openvino.save_model(model, folder / OPENVINO_FILE, compress_to_fp16=False)
    except RuntimeError as error:
        raise failure(folder, f"OpenVINO cannot write it, is the disk full? {plain_message(error)}") from error


def as_text(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Values that are not text as JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, allow_nan=False)
        for name, value in metadata.items()
    }


def read_texts(data: bytes) -> dict[str, str]:
    """The texts of `as_text` in a file's JSON; what is none is left out, and all of it if the JSON is damaged."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return {name: text for name, text in found.items() if isinstance(text, str)} if isinstance(found, dict) else {}
