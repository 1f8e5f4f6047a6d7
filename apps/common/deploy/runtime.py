"""Computing a network faster than eager torch does: onnxruntime or OpenVINO on a CPU, or torch.compile.

`start_session` exports a network once, keeps the file, and opens it with the runtime that was measured to be the
fastest here. One that is missing, fails or computes something else is passed over: torch, which always works, is the
last one.

Letters in shapes: B batch, H W height and width.
"""

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import torch

from apps.common.choices import Precision, Runtime
from apps.common.cli import plain_message
from apps.common.deploy.agreement import check_session, random_image
from apps.common.deploy.fastest import circumstances, keep_choice, read_choices, time_in_turn
from apps.common.deploy.formats import write_onnx
from apps.common.deploy.graph import Graph
from apps.common.deploy.sessions import (
    MODULES,
    CompiledSession,
    FileRuntime,
    Session,
    _in_bf16,
    _torch_version,
    load_session,
    runtime_name,
)
from backbone.files import cache_dir, written_whole


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


def _compiled(graph: Graph, *, resolution: int, device: torch.device) -> Session | None:
    session = CompiledSession(graph, device)
    try:
        check_session(session, graph, resolution=resolution)
    except Exception as error:  # no compiler, or one that fails
        reason = str(error).strip().splitlines()[0]  # pages may follow
        _say(f"torch.compile cannot be used ({reason}): {runtime_name(None, device)} computes")
        return None
    return session


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


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)
