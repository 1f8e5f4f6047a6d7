"""train.py under torchrun: two processes make the step of one, and every photo is measured once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from apps.common.cli import run_command
from apps.common.training.run_log import read_metrics
from apps.detection import train as train_script
from apps.detection.boxes.postprocess import PostProcess
from apps.detection.evaluation import while_training
from apps.detection.model.create import create_detector
from apps.detection.model.detector import Detector
from apps.detection.train import LOSSES
from tests.conftest import draw_tiny_coco, leave_out_reports

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
import pytest
from tests.detection.test_processes import train_heads

with pytest.MonkeyPatch.context() as patch:
    train_heads(patch, *sys.argv[1:])
"""
# By SGD: AdamW makes full steps of gradients that are 0 but for rounding.
FLAGS = "--backbone a025 --resolution 64 --weights none --steps 2 --batch-size 16 --num-workers 0 --device cpu".split()
FLAGS += "--eval-every 2 --augment full --optimizer sgd --lr 0.01 --amp none".split()


def train_heads(patch: pytest.MonkeyPatch, out: str, *flags: str) -> None:
    """Train each head, the pyramid with a teacher, and leave what each process evaluated.

    BatchNorm rests, since it looks at a batch.
    """
    measure, rank = while_training.run_cocoeval, os.environ.get("RANK", "0")
    patch.setattr(torch.nn.BatchNorm2d, "train", lambda self, mode=True: torch.nn.Module.train(self, False))
    patch.setattr(train_script, "LOG_EVERY", 1)
    leave_out_reports(patch, "detection")
    for head in ("pyramid", "ssd"):

        def measured(split, results, file=Path(f"{out}-{head}-results-{rank}.json")):
            file.write_text(json.dumps(results))
            return measure(split, results)

        patch.setattr(while_training, "run_cocoeval", measured)
        given = [*flags, "--head", head, "--out", f"{out}-{head}"]
        given += ["--teacher", str(Path(out).parent / "teacher")] if head == "pyramid" else []
        run_command(train_script.train, train_script.Config, given)


def save_teacher(folder: Path) -> None:
    """A pyramid that sees objects everywhere."""
    network = create_detector("a025", num_classes=2, resolution=64)
    for predictor in network.class_predictors:
        torch.nn.init.constant_(predictor.bias, -1.0)
    about = {"class_names": ["red", "blue"], "category_ids": [3, 7], "postprocess": PostProcess("sigmoid")}
    Detector(network=network, backbone="a025", **about).save(folder, metrics={})


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Runs of one process and of two, named 1-pyramid, 2-pyramid, 1-ssd and 2-ssd."""
    folder = tmp_path_factory.mktemp("runs")
    flags = [*FLAGS, "--data", str(draw_tiny_coco(folder / "tiny"))]
    (folder / "script.py").write_text(SCRIPT)
    save_teacher(folder / "teacher")
    with pytest.MonkeyPatch.context() as patch:
        train_heads(patch, str(folder / "1"), *flags)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(folder / "script.py"), str(folder / "2"), *flags]
    path = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("run: ") == 2  # one process prints, once for each head
    return folder


@pytest.mark.parametrize("head", ["pyramid", "ssd"])
def test_two_processes_of_eight_images_make_the_step_of_sixteen(runs, head):
    one, two = (torch.load(runs / f"{n}-{head}/last.pt")["parts"]["network"] for n in (1, 2))
    for name, expected in one.items():
        torch.testing.assert_close(two[name], expected, rtol=0, atol=1e-5)
    parts = LOSSES if head == "pyramid" else LOSSES[:3]
    losses = [[[x[part] for part in parts] for x in read_metrics(runs / f"{n}-{head}") if "loss" in x] for n in (1, 2)]
    assert len(losses[0]) == 2
    assert losses[1] == [pytest.approx(values, rel=1e-5) for values in losses[0]]

    names = (f"1-{head}-results-0", f"2-{head}-results-0", f"2-{head}-results-1")
    found, *shared = (json.loads((runs / f"{name}.json").read_text()) for name in names)
    assert {result["image_id"] for result in found} == {1, 2, 3, 4}
    assert shared[0] == shared[1]
    assert len(shared[0]) == len(found)
    for result, expected in zip(shared[0], found, strict=True):
        assert result["image_id"] == expected["image_id"]
        assert result["score"] == pytest.approx(expected["score"], abs=1e-4)
