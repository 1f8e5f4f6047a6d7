import subprocess
import sys
from pathlib import Path

import pytest
import torch

from apps.common.device import autocast, choose_precision

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("able", "precision"),
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx512_bf16": False}, "none"), ({}, "none")],
)
def test_precision_is_bfloat16_where_the_processor_multiplies_in_it(monkeypatch, able, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert choose_precision(CPU, "auto") == precision


@pytest.mark.parametrize("amp", ["none", "bf16", "fp16"])
def test_precision_that_was_asked_for_is_used_anywhere(amp):
    assert choose_precision(CPU, amp) == amp
    assert choose_precision(torch.device("mps"), amp) == amp


def test_apples_gpus_compute_in_float32():
    assert choose_precision(torch.device("mps"), "auto") == "none"


@pytest.mark.parametrize(("amp", "dtype"), [("none", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast(amp, dtype):
    with autocast(CPU, amp):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


READS = """
from apps.common.device import make_loader

batches = iter(make_loader(range(1000), batch_size=4, num_workers=2))
print(next(batches).tolist())
"""


def run_python(code: str) -> tuple[int, str, str]:
    """Exit code, output and errors of Python code in a process group of its own."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=ROOT, start_new_session=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="data processes are forks")
@pytest.mark.parametrize("start", ["fork", "forkserver"])  # the default of Python up to 3.13, and from 3.14 on
def test_a_process_ends_though_it_has_not_read_all_its_data(start):
    """multiprocessing waits for the data processes at the end, which ignore the SIGTERM that it sends them."""
    code = f"import multiprocessing\nmultiprocessing.set_start_method('{start}')\n{READS}"
    code += "print({type(process).__name__ for process in multiprocessing.active_children()})"
    assert run_python(code) == (0, "[0, 1, 2, 3]\n{'ForkProcess'}\n", "")


@pytest.mark.skipif(sys.platform != "linux", reason="data processes are forks")
def test_a_signal_to_the_group_leaves_the_data_processes_to_the_main_one():
    """Which may need data still, to measure before it saves; when it ends by itself, they do."""
    ready = "import os, signal, time\nsignal.signal(signal.SIGTERM, lambda number, frame: None)\n"
    signalled = "next(batches), next(batches)\nos.killpg(0, signal.SIGTERM)\ntime.sleep(0.5)\n"  # now both have begun
    code = ready + READS.replace("print(", signalled + "print(")
    assert run_python(code + "print(sum(len(batch) for batch in batches))") == (0, "[8, 9, 10, 11]\n988\n", "")
    assert run_python(code) == (0, "[8, 9, 10, 11]\n", "")


def test_data_processes_start_after_opencv_has_used_its_threads():
    """Which do not survive a fork: check.py, which compares photos before it predicts, waited for ever."""
    code = """
import cv2, numpy as np
from apps.common.device import make_loader
cv2.setNumThreads(4)
cv2.GaussianBlur(np.zeros((2000, 2000), np.float32), (0, 0), 4.0)
print([batch.tolist() for batch in make_loader(np.arange(4), num_workers=2, batch_size=2)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[[0, 1], [2, 3]]"
