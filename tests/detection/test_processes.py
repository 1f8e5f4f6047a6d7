"""train.py under torchrun: two processes make the step of one, and every photo is measured once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from apps.common.training.run_log import read_metrics
from apps.detection.train import LOSSES

# The script with BatchNorm at rest, since it looks at a batch, which also leaves what each process evaluated.
SCRIPT = """
import json, os, pathlib, torch
from apps.common.cli import run_command
from apps.detection import train as script

def measured(split, results, measure=script.coco_metrics):
    name = f"results-{os.environ.get('WORLD_SIZE', '1')}-{os.environ.get('RANK', '0')}.json"
    pathlib.Path(__file__).with_name(name).write_text(json.dumps(results))
    return measure(split, results)

torch.nn.BatchNorm2d.train = lambda self, mode=True: torch.nn.Module.train(self, False)
script.LOG_EVERY = 1
script.coco_metrics = measured
run_command(script.train, script.Config)
"""
# By SGD: AdamW makes full steps of gradients that are 0 but for rounding.
FLAGS = "--backbone a025 --resolution 64 --weights none --steps 2 --batch-size 16 --num-workers 0 --device cpu".split()
FLAGS += "--eval-every 2 --augment full --optimizer sgd --lr 0.01 --amp none".split()


def train(script: Path, data: Path, out: Path, *flags: str, processes: int) -> None:
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    command = [sys.executable, *start, str(script), *FLAGS, *flags, "--data", str(data), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("run: ") == 1  # one process prints


@pytest.mark.parametrize("head", ["pyramid", "ssd"])
def test_two_processes_of_eight_images_make_the_step_of_sixteen(tiny_coco, tmp_path, head):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    for processes in (1, 2):
        train(script, tiny_coco, tmp_path / f"run-{processes}", "--head", head, processes=processes)
    one, two = (torch.load(tmp_path / f"run-{n}/last.pt")["parts"]["network"] for n in (1, 2))
    for name, expected in one.items():
        torch.testing.assert_close(two[name], expected, rtol=0, atol=1e-5)
    losses = [
        [[x[part] for part in LOSSES] for x in read_metrics(tmp_path / f"run-{n}") if "loss" in x] for n in (1, 2)
    ]
    assert len(losses[0]) == 2
    assert losses[1] == [pytest.approx(values, rel=1e-5) for values in losses[0]]

    found, *shared = (json.loads((tmp_path / f"results-{name}.json").read_text()) for name in ("1-0", "2-0", "2-1"))
    assert {result["image_id"] for result in found} == {1, 2, 3, 4}
    assert shared[0] == shared[1]
    assert len(shared[0]) == len(found)
    for result, expected in zip(shared[0], found, strict=True):
        assert result["image_id"] == expected["image_id"]
        assert result["score"] == pytest.approx(expected["score"], abs=1e-4)
