"""Several processes: they make the step that one process makes, and count every photo once."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from apps.common.cli import run_command
from apps.common.training.distributed import Processes
from apps.common.training.run_log import read_metrics
from apps.common.training.sampling import StepSampler
from apps.detection.data.batches import Targets
from apps.detection.loss.ssd_loss import SSDLoss
from apps.detection.model.create import create_detector
from apps.faceattr import train as faces
from apps.faceattr.loss.distill_loss import label_loss
from apps.finegrained import train as classes
from tests.common.mistakes import error_of
from tests.faceattr.conftest import draw_faces
from tests.finegrained.conftest import draw_photos

# Several steps; BatchNorm rests, since it looks at a batch. A classifier's first step trains its last layer.
CLASSES = "--augment full --mixup 0 --head-epochs 0.9".split()
FACES = "--teacher-outputs cached --distill-weight 0.5 --augment full --warmup-steps 1".split()
FLAGS = "--backbone a025 --resolution 32 --weights none --steps 3 --lr 0.01 --num-workers 0 --device cpu".split()
FLAGS += "--eval-every 3 --clip-norm 1 --amp none".split()
# In each of two processes, one run after the other.
SCRIPT = """
import importlib, json, sys
import torch
from apps.common.cli import run_command

torch.nn.modules.batchnorm._BatchNorm.train = lambda self, mode=True: torch.nn.Module.train(self, False)
for app, flags in json.loads(sys.argv[1]):
    script = importlib.import_module(f"apps.{app}.train")
    script.LOG_EVERY = 1
    run_command(script.train, script.Config, flags)
"""
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def flags_of(folder: Path, name: str, *, batch_size: int, accumulate: int = 1, app: str = "finegrained") -> list[str]:
    sizes = ["--batch-size", str(batch_size), "--accumulate", str(accumulate)]
    more = CLASSES if app == "finegrained" else [*FACES, "--teacher", str(folder / "teacher")]
    return [*FLAGS, *more, *sizes, "--data", str(folder / app), "--out", str(folder / name)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """The folder of the runs: of one process or two, by app, processes, size and number of a step's batches."""
    folder = tmp_path_factory.mktemp("runs")
    draw_photos(folder / "finegrained")
    draw_faces(folder / "faceattr")
    teacher = ["--backbone", "a050", "--data", str(folder / "faceattr"), "--out", str(folder / "teacher")]
    small = "--steps 1 --resolution 32 --weights none --batch-size 8 --num-workers 0 --device cpu".split()
    run_command(faces.train_teacher, faces.teacher_script.Config, [*teacher, *small])
    with pytest.MonkeyPatch.context() as patch:
        at_rest = lambda self, mode=True: torch.nn.Module.train(self, False)  # noqa: E731
        patch.setattr(torch.nn.modules.batchnorm._BatchNorm, "train", at_rest)
        for script in (classes, faces):
            patch.setattr(script, "LOG_EVERY", 1)
        run_command(classes.train, classes.Config, flags_of(folder, "c-1-16-1", batch_size=16))
        run_command(classes.train, classes.Config, flags_of(folder, "c-1-8-2", batch_size=8, accumulate=2))
        run_command(faces.train, faces.Config, flags_of(folder, "f-1-16-1", batch_size=16, app="faceattr"))
    starts = [("finegrained", flags_of(folder, "c-2-16-1", batch_size=16))]
    starts += [("finegrained", flags_of(folder, "c-2-8-2", batch_size=8, accumulate=2))]
    starts += [("faceattr", [*flags_of(folder, "f-2-16-1", batch_size=16, app="faceattr"), "--sync-norm"])]
    (folder / "script.py").write_text(SCRIPT)
    command = [*TORCHRUN, str(folder / "script.py"), json.dumps(starts)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("run: ") == len(starts)  # one process prints
    return folder


@pytest.mark.parametrize(
    ("one", "others"), [("c-1-16-1", ["c-2-16-1", "c-1-8-2", "c-2-8-2"]), ("f-1-16-1", ["f-2-16-1"])]
)
def test_processes_and_accumulated_batches_make_the_step_of_one_large_batch(runs, one, others):
    """Two processes of 8 photos, two batches of 8, and two batches of 4 in each of two processes are a step of 16."""
    state = torch.load(runs / one / "last.pt")["parts"]
    losses = [line["loss"] for line in read_metrics(runs / one) if line["event"] == "train"]
    assert len(losses) == 3
    for name in others:
        found = torch.load(runs / name / "last.pt")["parts"]
        assert found.keys() == state.keys()
        for part in {"network", "learning"} & set(state):
            torch.testing.assert_close(found[part], state[part], rtol=0, atol=1e-5)
        torch.testing.assert_close(found["ema"]["model"], state["ema"]["model"], rtol=0, atol=1e-5)
        assert json.loads((runs / name / "metrics.json").read_text())["num_photos"] == 6  # each once
        values = [line["loss"] for line in read_metrics(runs / name) if line["event"] == "train"]
        assert values == pytest.approx(losses, abs=1e-5)
        assert load_file(runs / name / "best/model.safetensors").keys() == found["ema"]["model"].keys()


def test_one_process_has_no_norms_to_synchronise(tmp_path, capsys):
    line = error_of(capsys, classes.train, classes.Config, "--sync-norm", "--data", str(tmp_path))
    assert line.endswith("--sync-norm is for several processes, this is one: start with torchrun, or leave it out")


def test_a_batch_is_shared_out():
    whole = list(StepSampler(10, batch_size=4, num_steps=5, seed=0))
    parts = [
        list(StepSampler(10, batch_size=4, num_steps=5, seed=0, processes=Processes(rank, 2))) for rank in range(2)
    ]
    for step, batch in enumerate(whole):
        assert sorted([*parts[0][step], *parts[1][step]]) == sorted(batch)
        assert len(parts[0][step]) == len(parts[1][step]) == 2
    with pytest.raises(ValueError, match="--batch-size 5 cannot be shared out among 2 processes"):
        Processes(0, 2).check_batch_size(5)


class Pair(Processes):
    """One of two processes; `mean` is given what both have, each time it is asked."""

    asked: Iterator[list[torch.Tensor]]

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        return torch.stack([v.to(value) for v in next(self.asked)]).mean(0)


def pair(rank: int, *values: list[torch.Tensor]) -> Pair:
    process = Pair(rank, 2)
    object.__setattr__(process, "asked", iter(values))
    return process


def test_label_losses_of_two_processes_average_to_that_of_one():
    """Although one has more known labels than the other."""
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1, 0, -1], [1, 1, 0], [-1, -1, -1], [-1, 0, -1]])
    expected = label_loss(logits, labels)
    parts = []
    for rank in range(2):
        process = pair(rank, [(labels[i::2] != -1).sum() for i in range(2)])
        parts.append(label_loss(logits[rank::2], labels[rank::2], process))
    torch.testing.assert_close(sum(parts) / 2, expected)


def test_detection_losses_of_two_processes_average_to_that_of_one():
    """Although one has more matched anchors than the other."""
    torch.manual_seed(0)
    network = create_detector("a025", num_classes=2, resolution=96, head="ssd").eval()
    with torch.no_grad():
        output = network(torch.randn(4, 3, 96, 96))
    boxes = torch.tensor([[[0.1, 0.1, 0.6, 0.7]], [[0.3, 0.2, 0.4, 0.35]], [[0.0, 0.0, 1.0, 1.0]], [[0.0] * 4]])
    targets = Targets(boxes, torch.tensor([[1], [2], [1], [0]]), torch.zeros(4, 1, dtype=torch.bool))
    anchors = network.anchors_cxcywh
    expected = SSDLoss()(output, anchors, targets)
    halves = [
        ({name: value[i::2] for name, value in output.items()}, Targets(*(part[i::2] for part in targets)))
        for i in range(2)
    ]
    losses = [SSDLoss()(half, anchors, wanted) for half, wanted in halves]
    assert losses[0].divisor != losses[1].divisor
    for rank, loss in enumerate(losses):
        process = pair(rank, [each.sums for each in losses], [each.divisor for each in losses])
        mean = process.mean(loss.sums) / process.at_least_one(process.mean(loss.divisor))
        torch.testing.assert_close(mean, expected.sums / expected.divisor)


def test_shares_weigh_batches_by_what_both_processes_counted():
    """Sums of 6 and 2 over counts of 3 and 0 + 1, and nothing at all: (6 + 2 + 0) / 4 in the end."""
    counts = [[torch.tensor(2), torch.tensor(1)], [torch.tensor(0), torch.tensor(1)], [torch.tensor(0)] * 2]
    for rank in range(2):
        shares = pair(rank, *counts).shares([both[rank] for both in counts])
        sums = 6 / 1.5, 2 / 0.5, 0 / 0.5  # as the losses of this process are divided
        assert sum(share.item() * loss for share, loss in zip(shares, sums, strict=True)) == pytest.approx(8 / 2)
    assert [share.item() for share in Processes().shares([torch.tensor(0), torch.tensor(4)])] == [0.25, 1]
    assert Processes().shares([torch.tensor(7)])[0].item() == 1
