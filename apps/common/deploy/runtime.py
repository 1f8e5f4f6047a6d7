"""Run a network with onnxruntime, OpenVINO or torch.compile instead of eager torch.

`start_session` exports a network once, caches the file, and opens it in the runtime that was measured to be the
fastest here. A runtime that is missing, fails or disagrees with torch is skipped; torch is the fallback.
"""

import hashlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, get_args

import torch

from apps.common.choices import Precision, Runtime
from apps.common.cli import plain_message
from apps.common.deploy.agreement import check_session, random_image
from apps.common.deploy.exported import ExportedNetwork
from apps.common.deploy.fastest import circumstances, keep_choice, read_choices, time_in_turn
from apps.common.deploy.formats import write_onnx
from apps.common.deploy.graph import Graph
from apps.common.deploy.sessions import (
    MODULES,
    CompiledSession,
    FileRuntime,
    Session,
    TorchSession,
    computes_in_bf16,
    load_session,
    torch_version,
)
from backbone.files import cache_dir, written_whole
from backbone.text import reason_of


class Model(Protocol):
    """A network with its preprocessing and postprocessing: a detector, a classifier or a tagger."""

    session: Session
    network: Any

    @property
    def resolution(self) -> int: ...

    def graph(self) -> Graph: ...

    def torch_session(self) -> TorchSession: ...


class Settings(NamedTuple):
    """How a file is run, see `start_session`."""

    threads: int | None
    precision: Precision


def start_session(
    model: Model, runtime: Runtime, *, threads: int | None = None, precision: Precision = "float32"
) -> Session:
    """A session for a model's network; torch's own if no other can be used.

    Each other session is compared with torch on a new random image before it is used. A requested runtime that cannot
    be used, or fails, is reported in one line on stderr.

    Args:
        runtime: "auto" is the fastest for the device: torch except on a CPU, and there the runtime that was faster when
            the network was first used, which is stored beside the exported file in the user's cache; torch is not
            timed, as it is slower than both for every network in docs/latency.md. The environment variable
            MOBILENET_APPS_RUNTIME, if set, replaces "auto". "torch-compile" compiles the network first, which takes
            half a minute in each process.
        threads: on which to compute; None for as many as torch uses, a number is set for torch, too.
        precision: see `load_session`; torch always computes in float32.

    An exported file has one runtime, see `device_for`.

    Raises:
        ValueError: fewer than one thread, or an unknown runtime in the environment.
    """
    if threads is not None:
        if threads < 1:
            raise ValueError(f"threads must be 1 or more, got {threads}")
        torch.set_num_threads(threads)
    if isinstance(model.network, ExportedNetwork):
        return model.network.open(runtime, threads=threads, precision=precision)
    eager = model.torch_session()
    runtime = _requested(runtime, eager.device)
    if runtime == "torch":
        return eager
    if runtime == "torch-compile":
        session, failed = _compile(model, eager)
    else:
        session, failed = _open(model, eager, runtime, Settings(threads, precision))
    if failed:
        print(f"{'; '.join(failed)}: {session.name} computes", file=sys.stderr)
    return session


def _requested(runtime: Runtime, device: torch.device) -> Runtime:
    """The runtime to try: the environment may replace "auto", and files run on CPUs only."""
    if runtime == "auto" and (chosen := os.environ.get("MOBILENET_APPS_RUNTIME")):
        if chosen not in get_args(Runtime):
            raise ValueError(f"MOBILENET_APPS_RUNTIME must be one of {', '.join(get_args(Runtime))}, got {chosen!r}")
        runtime = chosen  # type: ignore[assignment]
    return "torch" if device.type != "cpu" and runtime != "torch-compile" else runtime


def _compile(model: Model, eager: TorchSession) -> tuple[Session, list[str]]:
    """The compiled network; or eager torch, and why."""
    graph = model.graph()
    session = CompiledSession(graph, eager.device)
    try:
        check_session(session, graph, resolution=model.resolution)
    except Exception as error:  # no compiler, or one that fails
        return eager, [f"torch.compile cannot be used ({reason_of(error)})"]
    return session, []


def _open(model: Model, eager: TorchSession, runtime: Runtime, settings: Settings) -> tuple[Session, list[str]]:
    """The exported network in the fastest installed runtime, or eager torch; and why others cannot be used."""
    wanted = [name for name in MODULES if runtime in ("auto", name)]
    installed = [name for name in wanted if importlib.util.find_spec(MODULES[name])]
    if not installed:
        missing = [MODULES[name] for name in wanted if name == runtime]  # none for "auto"
        return eager, [f"{name} is not installed (pip install -e '.[fast]' -c constraints.txt)" for name in missing]
    graph = model.graph()
    try:
        path = kept_onnx(graph, resolution=model.resolution)
    except Exception as error:  # whatever it is, torch can do without
        return eager, [f"the network cannot be exported ({plain_message(error)})"]
    computed_in = "bf16" if computes_in_bf16(settings.precision) else "float32"
    modules = [MODULES[name] for name in installed]
    key = circumstances(modules, settings.threads or torch.get_num_threads(), computed_in)
    known = read_choices(path).get(key)
    working, failed = _working(path, graph, installed, known, side=model.resolution, settings=settings)
    if len(working) > 1:
        times = time_in_turn(working, random_image(model.resolution))
        fastest = min(times, key=lambda name: times[name])
        keep_choice(path, key, fastest)
        return working[fastest], failed
    return next(iter(working.values()), eager), failed


def _working(
    path: Path, graph: Graph, names: Sequence[FileRuntime], known: str | None, *, side: int, settings: Settings
) -> tuple[dict[FileRuntime, Session], list[str]]:
    """Sessions that agree with torch, and why others were rejected; only the `known` fastest if it works."""
    working: dict[FileRuntime, Session] = {}
    failed = []
    for name in [*(name for name in names if name == known), *(name for name in names if name != known)]:
        try:
            session = load_session(path, name, threads=settings.threads, precision=settings.precision)
            check_session(session, graph, resolution=side, bf16=session.bf16)
        except Exception as error:  # a broken package raises many kinds
            failed.append(f"{MODULES[name]} cannot be used ({plain_message(error)})")
            continue
        working[name] = session
        if name == known:
            break
    return working, failed


def kept_onnx(graph: Graph, *, resolution: int) -> Path:
    """The ONNX file of a graph in the user's cache: exported now, or earlier from equal weights by the same torch.

    Exported files in a model folder are never used here, whoever made them. A cached file that does not match the
    digest stored beside it is exported again.

    Raises:
        OSError: the user's cache cannot be written.
        ValueError: see `write_onnx`.
    """
    file = cache_dir() / "runtime" / f"{graph.content_hash()}-{resolution}-torch{torch_version()}.onnx"
    digest = file.with_suffix(".sha256")
    if not (file.is_file() and digest.is_file() and digest.read_bytes() == _digest(file)):
        with written_whole(file) as temporary, written_whole(digest) as of_it:
            write_onnx(temporary, graph, resolution=resolution)
            of_it.write_bytes(_digest(temporary))
    return file


def _digest(file: Path) -> bytes:
    return hashlib.sha256(file.read_bytes()).hexdigest().encode()
