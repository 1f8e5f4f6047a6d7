"""Devices, mixed precision, memory allocation, and how data processes start and end."""

import atexit
import contextlib
import ctypes
import multiprocessing
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, Literal

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from apps.common.choices import Amp
from backbone.text import reason_of

MixedPrecision = Literal["none", "bf16", "fp16"]


def choose_device(name: str) -> torch.device:
    """ "auto" is CUDA, then Apple's MPS, then the CPU; other names are torch's own.

    Raises:
        ValueError: the name is unknown or the device is not here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device).tolist()  # not so of "meta", which computes nothing
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"--device {name} cannot be used here ({reason_of(error)}); allowed: auto, cpu, cuda, mps"
        ) from None
    return device


def choose_precision(device: torch.device, amp: Amp) -> MixedPrecision:
    """The mixed precision to use: "auto" is bf16 if the device supports it natively, else none.

    These devices are CPUs with AVX-512 BF16 or AMX and CUDA devices from Ampere on.
    """
    if amp != "auto":
        return amp
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "none"
    able = torch.cpu.get_capabilities()
    return "bf16" if device.type == "cpu" and (able.get("avx512_bf16") or able.get("amx_bf16")) else "none"


def autocast(device: torch.device, amp: MixedPrecision) -> contextlib.AbstractContextManager:
    """The context for a forward pass in mixed precision; does nothing for "none"."""
    if amp == "none":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if amp == "bf16" else torch.float16)


def keep_freed_memory() -> None:
    """Let the process keep the memory that it frees, for the next step's tensors of the same sizes.

    glibc returns large blocks to the kernel at once, which then clears every page again when the next step asks for
    them. Without this a training step on a CPU takes up to a quarter longer. Elsewhere than on glibc: nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    m_trim_threshold, m_mmap_max = -1, -4  # malloc.h
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)


def prepare_training() -> None:
    """At the start of a training process: `keep_freed_memory`, and OpenCV in one thread.

    Data processes are forks of this one, and OpenCV's threads do not survive a fork: if they had been used before, the
    child processes would wait for them forever.
    """
    keep_freed_memory()
    cv2.setNumThreads(1)


def make_loader(dataset: Dataset, *, num_workers: int, **options: Any) -> DataLoader:
    """A DataLoader whose data processes start with `begin_worker`, and end with this process at the latest.

    Args:
        num_workers: data processes; 0 reads in this one.
        options: DataLoader's own.
    """
    if num_workers:
        cv2.setNumThreads(1)  # as `prepare_training` does, where another command has used OpenCV's threads before
        atexit.unregister(end_workers)  # register it only once
        atexit.register(end_workers)  # runs before multiprocessing's own, which sends SIGTERM and waits
        if sys.platform.startswith("linux"):  # where Python 3.14 would start a server of processes first
            options = {"multiprocessing_context": "fork", **options}
    return Loader(dataset, num_workers=num_workers, worker_init_fn=begin_worker, **options)


class Loader(DataLoader):
    """A DataLoader that raises a ValueError if a data process was killed, but only while waiting for its batch.

    torch would raise at any point of the main process, even in the middle of a step.
    """

    def __iter__(self) -> Any:
        on_main = self.num_workers and threading.current_thread() is threading.main_thread()
        before = signal.getsignal(signal.SIGCHLD) if on_main and hasattr(signal, "SIGCHLD") else None
        batches = super().__iter__()
        if before is not None:
            signal.signal(signal.SIGCHLD, before)
        return self._watched(batches)

    def _watched(self, batches: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from batches
        except (RuntimeError, MemoryError, ConnectionError, EOFError, FileNotFoundError) as error:
            from_photo = str(error).startswith("Caught ") and not isinstance(error, MemoryError)
            other = isinstance(error, RuntimeError) and not str(error).startswith("DataLoader worker")
            if not self.num_workers or from_photo or other:
                raise
            raise ValueError(
                "a data process ended before its work was done, perhaps killed because memory was short: use "
                f"--num-workers less than {self.num_workers}, or a smaller --batch-size"
            ) from error


def begin_worker(worker: int) -> None:
    """Start of a data process: one thread each, since they run side by side.

    Only the main process handles signals: it may need data until it has evaluated and saved. A signal to the whole
    process group, as sent by a terminal or a cluster, therefore does not end data processes; `end_workers` does.
    """
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def end_workers() -> None:
    """End the remaining data processes at the end of this one."""
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else torch reports that they were killed
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()
