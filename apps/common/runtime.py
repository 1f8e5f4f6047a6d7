"""Computing a network faster than eager torch does: onnxruntime or OpenVINO on a CPU, or torch.compile.

`start_session` exports a network once, keeps the file, and opens it with the runtime that was measured to be the
fastest here. One that is missing, fails or computes something else is passed over: torch, which always works, is the
last one.

Letters in shapes: B batch, H W height and width.
"""

import copy
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor

from apps.common.choices import Precision, Runtime
from apps.common.cli import plain_message
from apps.common.device import choose_device, choose_precision
from apps.common.export import INPUT, OPENVINO_FILE, TOLERANCE, Graph, difference, import_openvino, write_onnx
from apps.common.fastest import circumstances, keep_choice, read_choices, time_in_turn
from apps.common.images import Preprocessing
from backbone.files import cache_dir, written_whole

FileRuntime = Literal["onnx", "openvino"]
MODULES: dict[FileRuntime, str] = {"openvino": "openvino", "onnx": "onnxruntime"}
"""What "auto" chooses from on a CPU, and the module that each needs."""
BF16_FACTOR = 2
"""How much farther from float32 than torch's own bfloat16 a session's may be (root mean square, noise). For 14 networks
OpenVINO's was 0.8 to 1.0 times as far; with red taken for blue torch would be 2.4 to 32 times as far."""


class Session(Protocol):
    """A file, opened: images (B, 3, H, W) uint8 RGB to tensors by name; `name` has the version."""

    name: str

    def __call__(self, images: Tensor) -> dict[str, Tensor]: ...


class OnnxSession:
    """An ONNX file in onnxruntime; see `load_session`."""

    bf16 = False

    def __init__(self, path: Path, *, threads: int, preprocessing: Preprocessing | None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # its idle threads would keep turning on the cores that what comes after the network needs
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._preprocessing = preprocessing
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self.name = f"onnxruntime {onnxruntime.__version__}"

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        values = self._session.run(self._outputs, {INPUT: _as_input(images, self._preprocessing)})
        return {name: torch.from_numpy(value) for name, value in zip(self._outputs, values, strict=True)}


class OpenVinoSession:
    """An ONNX file, or a folder of `write_openvino`, in OpenVINO, one image at a time; see `load_session`."""

    def __init__(self, path: Path, *, threads: int, preprocessing: Preprocessing | None, bf16: bool) -> None:
        openvino = import_openvino()
        core = openvino.Core()
        model = core.read_model(path / OPENVINO_FILE if path.is_dir() else path)
        shape = model.inputs[0].get_partial_shape()
        shape[0] = 1  # a fixed shape is computed much faster than a batch of any size
        model.reshape(shape)
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        }
        compiled = core.compile_model(model, "CPU", settings)
        self._outputs = [output.get_any_name() for output in compiled.outputs]
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()  # a request serves one call at a time, a demo makes several
        self._preprocessing = preprocessing
        self.bf16 = bf16
        self.name = f"OpenVINO {openvino.__version__.split('-')[0]}" + ", bf16" * bf16

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        batch = _as_input(images, self._preprocessing)
        found = []
        for i in range(len(batch)):
            with self._lock:
                self._request.infer([batch[i : i + 1]], share_inputs=True)
                tensors = [self._request.get_output_tensor(k).data.copy() for k in range(len(self._outputs))]
            found.append([torch.from_numpy(tensor) for tensor in tensors])
        return {name: torch.cat([one[k] for one in found]) for k, name in enumerate(self._outputs)}


class CompiledSession:
    """A graph compiled by torch.compile, for its device; on a CPU this needs a C++ compiler."""

    def __init__(self, graph: Graph, device: torch.device) -> None:
        self._graph = copy.deepcopy(graph).to(device).to(memory_format=torch.channels_last)
        self._compiled = torch.compile(self._graph)
        self._device = device
        self.name = f"torch.compile {_torch_version()} on {device}"

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        values = self._compiled(self._graph.feed(images.to(self._device)))
        return dict(zip(self._graph.outputs, values, strict=True))


def load_session(
    path: Path,
    runtime: FileRuntime,
    *,
    threads: int | None = None,
    preprocessing: Preprocessing | None = None,
    precision: Precision = "float32",
) -> OnnxSession | OpenVinoSession:
    """Open an exported file.

    Args:
        path: an ONNX file, or for "openvino" also a folder of `write_openvino`.
        runtime: "onnx" or "openvino".
        threads: on which to compute; None for as many as torch uses.
        preprocessing: for a file whose input is preprocessed outside.
        precision: "auto" lets OpenVINO compute in bfloat16 where the processor multiplies in it, which is faster and
            changes some answers (docs/export.md); "float32" is exact. onnxruntime always computes in float32.
    """
    threads = threads or torch.get_num_threads()
    if runtime == "onnx":
        return OnnxSession(path, threads=threads, preprocessing=preprocessing)
    return OpenVinoSession(path, threads=threads, preprocessing=preprocessing, bf16=_in_bf16(precision))


def device_for(runtime: Runtime, device: str) -> torch.device:
    """The device for a runtime: as `choose_device`, but "auto" is the CPU for runtimes that compute there only.

    Raises:
        ValueError: an unknown runtime or device, or two that do not go together.
    """
    if runtime not in get_args(Runtime):
        raise ValueError(f"runtime must be one of {', '.join(get_args(Runtime))}, got {runtime!r}")
    if runtime not in MODULES:
        return choose_device(device)
    place = choose_device("cpu" if device == "auto" else device)
    if place.type != "cpu":
        raise ValueError(
            f"runtime {runtime} computes on the CPU, --device is {device}: use runtime torch or device cpu"
        )
    return place


def start_session(
    runtime: Runtime,
    make_graph: Callable[[], Graph],
    *,
    resolution: int,
    device: torch.device,
    folder: Path | None = None,
    threads: int | None = None,
    precision: Precision = "float32",
) -> Session | None:
    """A session for a network, or None if torch is to compute it.

    Each session is compared with torch on a random image before it is trusted. A runtime that was asked for and cannot
    be used, or fails, is reported in one line on stderr.

    Args:
        runtime: "auto" is the fastest for the device: torch except on a CPU, and there the one that was faster when the
            network was first used, which is kept beside the exported file; torch, slower than both for every network
            in docs/latency.md, does not take part. The environment's MOBILENET_APPS_RUNTIME, if set, stands for "auto".
            "torch-compile" compiles the network first, which takes half a minute in each process.
        make_graph: gives what is exported, if it has not been before.
        resolution: side of the square input, pixels.
        device: where torch would compute.
        folder: of the model; the file is kept in its runtime/, or else in the user's cache.
        threads: on which to compute; None for as many as torch uses, a number is set for torch, too.
        precision: see `load_session`; torch always computes in float32.

    Raises:
        ValueError: fewer than one thread, or an unknown runtime in the environment.
    """
    if threads is not None:
        if threads < 1:
            raise ValueError(f"threads must be 1 or more, got {threads}")
        torch.set_num_threads(threads)
    if runtime == "auto" and (chosen := os.environ.get("MOBILENET_APPS_RUNTIME")):
        if chosen not in get_args(Runtime):
            raise ValueError(f"MOBILENET_APPS_RUNTIME must be one of {', '.join(get_args(Runtime))}, got {chosen!r}")
        runtime = chosen  # type: ignore[assignment]
    if runtime == "torch-compile":
        return _compiled(make_graph(), resolution=resolution, device=device)
    if runtime == "torch" or device.type != "cpu":
        return None
    installed = [
        name for name, module in MODULES.items() if runtime in ("auto", name) and importlib.util.find_spec(module)
    ]
    if not installed:
        if runtime != "auto":
            _say(f"{MODULES[runtime]} is not installed (pip install -e '.[fast]' -c constraints.txt): torch computes")
        return None
    graph = make_graph()
    try:
        path = kept_onnx(graph, resolution=resolution, folder=folder)
    except Exception as error:  # whatever it is, torch can do without
        _say(f"the network cannot be exported ({plain_message(error)}): {runtime_name(None, device)} computes")
        return None
    number = "bf16" if _in_bf16(precision) else "float32"
    key = circumstances([MODULES[name] for name in installed], threads or torch.get_num_threads(), number)
    fastest, failed = read_choices(path).get(key), []
    working: dict[FileRuntime, Session] = {}
    for name in sorted(installed, key=lambda name: name != fastest):
        try:
            one = load_session(path, name, threads=threads, precision=precision)
            check_session(one, graph, resolution=resolution, bf16=one.bf16)
        except Exception as error:
            failed.append(f"{MODULES[name]} cannot be used ({plain_message(error)})")
            continue
        working[name] = one
        if name == fastest:
            break
    session = next(iter(working.values()), None)
    if len(working) > 1:
        times = time_in_turn(working, random_image(resolution))
        best = min(times, key=lambda name: times[name])
        keep_choice(path, key, best)
        session = working[best]
    if failed:
        _say(f"{'; '.join(failed)}: {runtime_name(session, device)} computes")
    return session


def _in_bf16(precision: Precision) -> bool:
    return precision == "auto" and choose_precision(torch.device("cpu"), "auto") == "bf16"


def _compiled(graph: Graph, *, resolution: int, device: torch.device) -> Session | None:
    session = CompiledSession(graph, device)
    try:
        check_session(session, graph, resolution=resolution)
    except Exception as error:  # no compiler, or one that fails
        reason = str(error).strip().splitlines()[0]  # pages may follow
        _say(f"torch.compile cannot be used ({reason}): {runtime_name(None, device)} computes")
        return None
    return session


def runtime_name(session: Session | None, device: torch.device) -> str:
    """What computes, for people: "OpenVINO 2026.4.1", "torch 2.15.0 on cuda"."""
    return session.name if session else f"torch {_torch_version()} on {device}"


def _torch_version() -> str:
    return torch.__version__.split("+")[0]


def kept_onnx(graph: Graph, *, resolution: int, folder: Path | None) -> Path:
    """The ONNX file of a graph: exported now, or before from equal weights by the same torch."""
    name = f"{graph.content_hash()}-{resolution}-torch{_torch_version()}.onnx"
    folders = [cache_dir() / "runtime"] if folder is None else [folder / "runtime", cache_dir() / "runtime"]
    for place in folders:
        if (place / name).is_file():
            return place / name
    for place in folders:
        try:
            with written_whole(place / name) as temporary:
                write_onnx(temporary, graph, resolution=resolution)
            return place / name
        except OSError:
            if place == folders[-1]:
                raise
    raise AssertionError


def check_session(session: Session, graph: Graph, *, resolution: int, bf16: bool = False) -> None:
    """Raise ValueError if a session does not compute what torch does.

    Args:
        bf16: the session computes in bfloat16. What that changes depends on the network (0.2 to 8 % of the outputs of
            14), and so the measure is what it changes in torch, see `BF16_FACTOR`.
    """
    image = random_image(resolution)
    reference = graph.reference(image)
    given = {name: value.cpu() for name, value in session(image).items()}
    if bf16:
        with torch.autocast("cpu", torch.bfloat16):
            rounded = {name: value.float() for name, value in graph.reference(image).items()}
        far, allowed = rms_difference(reference, given), BF16_FACTOR * max(2**-8, rms_difference(reference, rounded))
    else:
        far, allowed = difference(reference, given), TOLERANCE
    if not far <= allowed:
        raise ValueError(f"{session.name} computes something else than torch, by {far:.2g}, allowed is {allowed:.2g}")


def random_image(side: int) -> Tensor:
    """The same square of noise at each call, (1, 3, side, side) uint8, in channels-last memory."""
    pixels = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def rms_difference(reference: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> float:
    """The root mean square of the difference over that of the outputs, the worst output's; infinite for NaN."""
    worst = 0.0
    for name, expected in reference.items():
        if given[name].shape != expected.shape:
            return float("inf")
        far = (given[name] - expected).square().mean().sqrt() / expected.square().mean().sqrt().clamp(min=1e-6)
        worst = max(worst, torch.nan_to_num(far, nan=torch.inf).item())
    return worst


def _as_input(images: Tensor, preprocessing: Preprocessing | None) -> np.ndarray:
    if preprocessing is not None:
        return preprocessing(images.cpu()).contiguous().numpy()
    return images.cpu().permute(0, 2, 3, 1).contiguous().numpy()  # no copy of what `stack_images` gives


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)
