"""A run that is killed at any moment goes on as if nothing had happened; a full disk costs nothing that was saved."""

import multiprocessing
import os
import random
import signal
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

from apps.common.checkpoint import restore_state, save_model, save_state
from apps.common.cli import run_command
from apps.common.training.run_log import read_metrics
from apps.detection import train as train_script
from tests.detection.tiny_runs import tiny_config

FLAGS = "--backbone a025 --resolution 64 --weights none --steps 42 --batch-size 2 --num-workers 1 --device cpu".split()
FLAGS += "--checkpoint-every 3 --eval-every 14 --accumulate 2 --repeat-threshold 1 --patience 9".split()


def run(out: Path, *flags: str) -> None:
    os.setsid()
    sys.stdout = sys.stderr = out.open("w", buffering=1)
    train_script.finish = lambda *args, **options: None
    run_command(train_script.train, train_script.Config, flags)


def start(out: Path, *flags: str) -> BaseProcess:
    """A run in its own process, which prints to a file; forked from one that has the imports, which are slow."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__, "torch._dynamo"])  # which the first optimiser imports
    process = server.Process(target=run, args=(out, *flags))
    process.start()
    return process


def saved_step(run: Path) -> int:
    return torch.load(run / "last.pt")["facts"]["step"] if (run / "last.pt").exists() else 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_killed_at_random_moments_and_resumed_equals_an_uninterrupted_run(tiny_coco, tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    flags, said = (*FLAGS, "--data", str(tiny_coco)), tmp_path / "said.txt"
    first = start(said, *flags, "--out", str(straight))  # runs beside the other

    moments = random.Random(0)
    process = start(tmp_path / "killed.txt", *flags, "--out", str(killed))
    for _ in range(3):
        before, deadline = saved_step(killed), time.monotonic() + 400
        while saved_step(killed) == before and process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(moments.random() * 0.4)
        if process.is_alive():
            os.killpg(process.pid, signal.SIGKILL)
        process.join(60)
        assert saved_step(killed) > before  # a state is there, and whole
        if saved_step(killed) == 42:
            break
        process = start(tmp_path / "killed.txt", "--resume", str(killed))
    for one in (process, first):
        one.join(300)
    assert process.exitcode in (0, -signal.SIGKILL)
    assert first.exitcode == 0, said.read_text()[-2000:]
    assert saved_step(killed) == 42

    states = [torch.load(run / "last.pt") for run in (straight, killed)]
    assert states[0]["facts"] == states[1]["facts"]  # best evaluation, and evaluations since
    one, other = (state["parts"] for state in states)
    for part in ("network", "ema"):
        states = [parts[part]["model"] if part == "ema" else parts[part] for parts in (one, other)]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    losses = [
        [(line["step"], line["loss"]) for line in read_metrics(run) if "loss" in line] for run in (straight, killed)
    ]
    assert losses[0] == losses[1]


@pytest.fixture
def little_room():
    """Calling it leaves room for no file above 100 kB, as a full disk would, until the test ends or it is called again.

    The limit is the process's own: a write beyond it fails as on a full disk, in the middle of the file.
    """
    resource = pytest.importorskip("resource", reason="limits of a process are POSIX's")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def set_limit(limit: int = 100_000) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit or before[0], before[1]))

    yield set_limit
    set_limit(0)


def test_a_full_disk_leaves_the_last_good_state(tmp_path, little_room):
    layer = torch.nn.Linear(200, 200)
    save_state(tmp_path / "last.pt", {"layer": layer}, step=1)
    before = layer.weight.detach().clone()
    little_room()
    with torch.no_grad():
        layer.weight += 1
    with pytest.raises(OSError, match=r"File too large: .*last\.pt"):
        save_state(tmp_path / "last.pt", {"layer": layer}, step=2)
    with pytest.raises(OSError, match=r"File too large: .*best"):
        save_model(tmp_path / "best", layer, {"app": "detection"})
    assert restore_state(tmp_path / "last.pt", {"layer": layer}) == {"step": 1}
    assert torch.equal(layer.weight, before)
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_a_run_on_a_full_disk_says_so_and_goes_on_when_there_is_room(tiny_coco, tmp_path, monkeypatch, little_room):
    make_loader = train_script.make_loader

    def fill_the_disk(*args, **kwargs):
        little_room()
        return make_loader(*args, **kwargs)

    monkeypatch.setattr(train_script, "make_loader", fill_the_disk)
    run = tmp_path / "run"
    with pytest.raises(ValueError, match=r"of step 2 cannot be written to .*last\.pt \(File too large\): an earlier"):
        train_script.train(tiny_config(tiny_coco, run, steps=4, eval_every=4, checkpoint_every=2))
    assert saved_step(run) == 0
    little_room(0)
    monkeypatch.undo()
    train_script.train(train_script.Config(resume=run, num_workers=0))
    assert saved_step(run) == 4
